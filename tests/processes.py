"""Looks at other processes, which may end between two questions."""

import psutil


def is_over(process: psutil.Process) -> bool:
    """Dead, and maybe still in the list of processes because nobody has waited for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_of(process: psutil.Process) -> list[str]:
    """[] of one that is over."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
