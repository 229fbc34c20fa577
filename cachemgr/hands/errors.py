"""What can go wrong with files, as a code, a sentence, and whether another attempt can help."""

import errno

_DISK_CODES = {
    errno.ENOSPC: "insufficient_space",
    errno.EDQUOT: "quota_exceeded",
    errno.EFBIG: "file_too_big_for_drive",
    errno.EROFS: "drive_read_only",
    errno.EACCES: "drive_read_only",
    errno.EPERM: "drive_read_only",
    errno.EIO: "drive_error",
    errno.ENOTCONN: "cache_unavailable",
    errno.ESTALE: "cache_unavailable",
    errno.ENODEV: "cache_unavailable",
}


class Trouble(Exception):
    """`is_permanent`: another attempt would meet the same."""

    def __init__(self, message: str, *, code: str, is_permanent: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_permanent = is_permanent


def as_trouble(error: Exception) -> Trouble:
    """An error of the system has the code of its number; one that nobody expected is a fault of the program."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, OSError):
        code = _DISK_CODES.get(error.errno or 0, "drive_error")
        return Trouble(_sentence(error), code=code)
    return Trouble(f"{type(error).__name__}: {error}", code="internal_error")


def _sentence(error: OSError) -> str:
    names = " and ".join(repr(name) for name in (error.filename, error.filename2) if name)
    return f"{error.strerror or error}: {names}" if names else str(error.strerror or error)
