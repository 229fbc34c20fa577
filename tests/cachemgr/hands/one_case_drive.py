"""A FUSE drive that takes `README` and `readme` for one name, as exFAT does: `python -m ... MOUNT_POINT`."""

import os
import sys
from collections.abc import ItemsView
from pathlib import Path

from tests.cachemgr.hung_drive import MemoryDrive, Node, mount, serve


class OneCase(dict[bytes, Node]):
    """Names as they were given, found in any case."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[bytes, bytes] = {}

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower())

    def __getitem__(self, name: bytes) -> Node:
        return super().__getitem__(name.lower())

    def __setitem__(self, name: bytes, node: Node) -> None:
        self.given[name.lower()] = name
        super().__setitem__(name.lower(), node)

    def __delitem__(self, name: bytes) -> None:
        super().__delitem__(name.lower())

    def pop(self, name: bytes) -> Node:  # type: ignore[override]  # all that the drive needs of a dict
        return super().pop(name.lower())

    def items(self) -> ItemsView[bytes, Node]:  # type: ignore[override]
        return {self.given[name]: node for name, node in super().items()}.items()


class OneCaseDrive(MemoryDrive):
    def __init__(self) -> None:
        super().__init__(takes_links=False)
        self.nodes[1].names = OneCase()

    def make(self, folder: Node, *, name: bytes, mode: int, data: bytes = b"") -> bytes:
        entry = super().make(folder, name=name, mode=mode, data=data)
        self.find(folder, name).names = OneCase()
        return entry


if __name__ == "__main__":
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount(fuse, sys.argv[1])
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    try:
        serve(fuse, OneCaseDrive(), flag=Path(sys.argv[1]).with_name("never"))
    except OSError:
        sys.exit(0)  # unmounted
