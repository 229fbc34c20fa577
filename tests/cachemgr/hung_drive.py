"""A FUSE drive that hangs: `python hung_drive.py MOUNT_POINT FLAG_FILE`.

An empty folder, spoken in FUSE's own protocol. While the flag file is there, it takes a request and does not answer it.
The process that asked then sleeps in the kernel, where not even SIGKILL ends it: that is what a lost NAS does.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
import time
from pathlib import Path

HEAD = struct.Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid
LOOKUP, FORGET, GETATTR, STATFS, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY = (
    1,
    2,
    3,
    17,
    26,
    27,
    28,
    29,
    36,
    38,
)
BATCH_FORGET = 42
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)

ATTRIBUTES = struct.pack(
    "<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, os.getuid(), os.getgid(), 0, 4096, 0
)
ANSWERS = {
    INIT: struct.pack("<4IHHII2H8I", 7, 31, 4096, 0, 1, 1, 4096, 1, 1, 0, *[0] * 8),
    GETATTR: struct.pack("<QII", 0, 0, 0) + ATTRIBUTES,
    STATFS: struct.pack("<5Q4I6I", 1000, 900, 800, 1000, 900, 4096, 255, 4096, 0, *[0] * 6),
    OPENDIR: struct.pack("<QII", 1, 0, 0),
    READDIR: b"",
    RELEASEDIR: b"",
}


def mount(device: int, mount_point: str) -> None:
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", mount_point.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def serve(device: int, flag: Path) -> None:
    while True:
        request = os.read(device, 1 << 17)
        _, opcode, unique, *_ = HEAD.unpack_from(request)
        if opcode == DESTROY:
            return
        if opcode in SILENT:
            continue
        while opcode != INIT and flag.exists():
            time.sleep(0.01)
        body, error = ANSWERS.get(opcode, b""), 0
        if opcode not in ANSWERS:
            error = -(errno.ENOENT if opcode == LOOKUP else errno.ENOSYS)
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except FileNotFoundError:
            continue  # the one who asked was killed meanwhile


if __name__ == "__main__":
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount(fuse, sys.argv[1])
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    try:
        serve(fuse, Path(sys.argv[2]))
    except OSError as gone:
        if gone.errno != errno.ENODEV:  # unmounted
            raise
