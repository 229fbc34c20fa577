"""Who holds a repo's folder: readers share it, and whoever removes its files has it alone.

A lock is an `flock` on a file in DATA_DIR: it works across processes, and the kernel releases it when one dies.
"""
