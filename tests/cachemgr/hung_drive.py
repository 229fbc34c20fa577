"""A FUSE drive to break: `python hung_drive.py MOUNT_POINT FLAG_FILE [--no-links]`.

Its files live in memory; it is spoken in FUSE's own protocol. While the flag file is there, it takes a request and does
not answer it. The process that asked then sleeps in the kernel, where not even SIGKILL ends it: that is what a lost NAS
does. While FLAG_FILE.slow is there, who reads a model's folder keeps waiting, and each piece of a file takes 30 ms: a
drive that answers, slowly. FLAG_FILE.names has the seconds that each look at a name takes, while it is there.
"""

import ctypes
import errno
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, OPEN, READ, WRITE, STATFS = 8, 9, 10, 11, 12, 14, 15, 16, 17
RELEASE, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 18, 26, 27, 28, 29, 36, 38, 42
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)
SET_MODE, SET_SIZE = 1, 8

INITIAL = struct.pack("<4IHHII2H8I", 7, 31, 4096, 0, 8, 8, 65536, 1, 1, 0, *[0] * 8)
SIZES = struct.pack("<5Q4I6I", 1000, 900, 800, 1000, 900, 4096, 255, 4096, 0, *[0] * 6)
OPENED = struct.pack("<QII", 1, 0, 0)


@dataclass
class Node:
    number: int
    mode: int
    name: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, "Node"] = field(default_factory=dict)
    changed: float = field(default_factory=time.time)

    def attributes(self) -> bytes:
        seconds, size = int(self.changed), len(self.data)
        times = (seconds, seconds, seconds, 0, 0, 0)
        owner = (os.getuid(), os.getgid())
        blocks = -(-size // 512)
        return struct.pack("<6Q10I", self.number, size, blocks, *times, self.mode, 1, *owner, 0, 4096, 0)

    def entry(self) -> bytes:
        return struct.pack("<4Q2I", self.number, 0, 0, 0, 0, 0) + self.attributes()


class MemoryDrive:
    """Answers to requests; a refusal is an OSError."""

    def __init__(self, *, takes_links: bool) -> None:
        self.takes_links = takes_links
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o755)}
        self.answers = {
            INIT: lambda node, body: INITIAL,
            STATFS: lambda node, body: SIZES,
            OPEN: lambda node, body: OPENED,
            OPENDIR: lambda node, body: OPENED,
            RELEASE: lambda node, body: b"",
            RELEASEDIR: lambda node, body: b"",
            GETATTR: lambda node, body: struct.pack("<QII", 0, 0, 0) + node.attributes(),
            READLINK: lambda node, body: bytes(node.data),
            LOOKUP: lambda node, body: self.find(node, body).entry(),
            MKNOD: lambda node, body: self.make(node, name=body[16:], mode=struct.unpack_from("<I", body)[0]),
            MKDIR: lambda node, body: self.make(
                node, name=body[8:], mode=stat.S_IFDIR | struct.unpack_from("<I", body)[0]
            ),
            SYMLINK: self.link,
            SETATTR: self.change,
            UNLINK: self.remove,
            RMDIR: self.remove,
            RENAME: self.rename,
            READ: self.read,
            WRITE: self.write,
            READDIR: self.list,
        }

    def answer(self, opcode: int, node: int, body: bytes) -> tuple[bytes, int]:
        """The body of the answer and 0, or nothing and a negative errno."""
        if opcode not in self.answers:
            return b"", -errno.ENOSYS
        try:
            return self.answers[opcode](self.nodes.get(node), body), 0
        except OSError as refusal:
            return b"", -refusal.errno

    def find(self, folder: Node, body: bytes) -> Node:
        name = body.rstrip(b"\0")
        if name not in folder.names:
            raise OSError(errno.ENOENT, "no such name")
        return folder.names[name]

    def make(self, folder: Node, *, name: bytes, mode: int, data: bytes = b"") -> bytes:
        name = name.rstrip(b"\0")
        node = Node(len(self.nodes) + 1, mode, name, bytearray(data))
        self.nodes[node.number] = folder.names[name] = node
        folder.changed = time.time()
        return node.entry()

    def link(self, folder: Node, body: bytes) -> bytes:
        if not self.takes_links:
            raise OSError(errno.EPERM, "as exFAT says")
        name, target, _ = body.split(b"\0")
        return self.make(folder, name=name, mode=stat.S_IFLNK | 0o777, data=target)

    def change(self, node: Node, body: bytes) -> bytes:
        wanted, _, _, size = struct.unpack_from("<2I2Q", body)
        if wanted & SET_SIZE:
            node.data[size:] = bytes(max(0, size - len(node.data)))
        if wanted & SET_MODE:
            node.mode = struct.unpack_from("<I", body, 68)[0]
        return struct.pack("<QII", 0, 0, 0) + node.attributes()

    def remove(self, folder: Node, body: bytes) -> bytes:
        self.find(folder, body)
        del folder.names[body.rstrip(b"\0")]
        folder.changed = time.time()
        return b""

    def rename(self, folder: Node, body: bytes) -> bytes:
        old, new, _ = body[8:].split(b"\0")
        target = self.nodes[struct.unpack_from("<Q", body)[0]]
        target.names[new] = folder.names.pop(old)
        folder.changed = target.changed = time.time()
        return b""

    def read(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(node.data[offset : offset + size])

    def write(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + size] = body[40 : 40 + size]
        return struct.pack("<II", size, 0)

    def list(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return b"".join(self.entries(node, after=offset, size=size))

    def entries(self, node: Node, *, after: int, size: int) -> Iterator[bytes]:
        for place, (name, each) in enumerate(list(node.names.items())[after:], start=after + 1):
            entry = struct.pack("<2Q2I", each.number, place, len(name), each.mode >> 12) + name
            entry += b"\0" * (-len(entry) % 8)
            size -= len(entry)
            if size < 0:
                return
            yield entry


def mount(device: int, mount_point: str) -> None:
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", mount_point.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def serve(device: int, drive: MemoryDrive, *, flag: Path) -> None:
    held: list[bytes] = []
    slow = flag.with_name(f"{flag.name}.slow")
    while True:
        while held and not slow.exists():
            reply(device, drive, held.pop())
        if not select.select([device], [], [], 0.01)[0]:
            continue
        request = os.read(device, 1 << 18)
        _, opcode, _, node, *_ = HEAD.unpack_from(request)
        if opcode == DESTROY:
            return
        delay(opcode, flag)
        if slow.exists() and dawdles(drive, opcode, node):
            held.append(request)
        elif opcode not in SILENT:
            reply(device, drive, request)


def delay(opcode: int, flag: Path) -> None:
    with suppress(FileNotFoundError):
        time.sleep(float(flag.with_name(f"{flag.name}.names").read_text()) if opcode == LOOKUP else 0)
    while opcode != INIT and flag.exists():
        time.sleep(0.01)


def dawdles(drive: MemoryDrive, opcode: int, node: int) -> bool:
    """What a slow drive keeps until it may go on. It takes its time over a piece of a file."""
    time.sleep(0.03 if opcode == READ else 0)
    return opcode == OPENDIR and drive.nodes[node].name.startswith(b"models--")


def reply(device: int, drive: MemoryDrive, request: bytes) -> None:
    _, opcode, unique, node, *_ = HEAD.unpack_from(request)
    body, error = drive.answer(opcode, node, request[HEAD.size :])
    try:
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
    except FileNotFoundError:
        return  # the one who asked was killed meanwhile


if __name__ == "__main__":
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount(fuse, sys.argv[1])
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    try:
        serve(fuse, MemoryDrive(takes_links="--no-links" not in sys.argv), flag=Path(sys.argv[2]))
    except OSError as gone:
        if gone.errno != errno.ENODEV:  # unmounted
            raise
