"""What an engine asks of the Linux kernel, and Python has no words for. All of it raises OSError."""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN = 2, 5, 6, 7, 8, 21

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITY_VERSION = 0x20080522
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_Sets = ctypes.c_uint32 * 6  # effective, permitted, inheritable; then the same of the higher half


def die_with_parent(number: int) -> None:
    """The kernel sends this signal when the thread ends that started us. A change of user takes it back."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def forbid_new_privileges() -> None:
    """For good, and for all that is started from here: no setuid program gives anything."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def leave_network() -> None:
    """Into a network of one's own, without any interface that is up. This thread, and those that it starts."""
    _check(_libc.unshare(_CLONE_NEWNET))


def leave_network_as_user() -> None:
    """The same for who has no rights: in a user namespace of one's own, before the first thread."""
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET))
    with suppress(OSError):  # without names there it is called 65534, and nothing else is different
        names = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, content in names.items():
            Path("/proc/self", name).write_text(content, encoding="ascii")


def read_capabilities() -> frozenset[int]:
    """Those that this thread may use."""
    sets = _Sets()
    _check(_libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), ctypes.byref(sets)))
    permitted = sets[1] | sets[4] << 32
    return frozenset(number for number in range(64) if permitted >> number & 1)


def keep_capabilities(kept: Iterable[int]) -> None:
    """Of this thread, and of those that it starts; what a program could inherit goes."""
    mask = sum(1 << number for number in set(kept) & read_capabilities())
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _check(_libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), ctypes.byref(_Sets(low, low, 0, high, high, 0))))


def forget_bounds() -> None:
    """No program that is started from here can get a capability, whatever its file says. Needs CAP_SETPCAP."""
    for number in range(int(_LAST_CAPABILITY.read_text(encoding="ascii")) + 1):
        _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
