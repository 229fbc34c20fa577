"""A Hub cache -> a frozen report. Reads names and sizes, and no file's content but refs and small JSON files.

A broken repo is a value in the report (`problems`), never an exception: one bad folder must not hide the rest.
Only the standard library is imported, and paths are plain text: the scan runs in a child process that starts in a
blink (see probe.py), and touches a hundred thousand files in a second.
"""

from cachemgr.scan.cache import list_files, scan_cache, scan_one_repo

__all__ = ["list_files", "scan_cache", "scan_one_repo"]
