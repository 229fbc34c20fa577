"""The child process that downloads one repo: `python -m registry.fetch`.

It is a process of its own so that a drive or a connection that hangs can be killed, and so that the library's settings
(which it reads from the environment when it is imported) are this download's alone.
"""
