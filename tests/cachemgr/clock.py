"""A wall clock that can be set back for the processes of one test: the kernel's own is everybody's."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cachemgr.conftest import run_or_skip, skip_or_fail


@dataclass(frozen=True)
class Clock:
    """Of all processes that are started with `environment`, and of their children."""

    flag: Path
    environment: dict[str, str]

    def set_back(self) -> None:
        """By an hour."""
        self.flag.touch()

    def set_right(self) -> None:
        self.flag.unlink()


def make_clock(folder: Path) -> Clock:
    if shutil.which("cc") is None:
        skip_or_fail("There is no C compiler here (cc), and the clock of a process is set back by a library.")
    library, flag = folder / "set_back.so", folder / "set-back"
    run_or_skip("cc", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("set_back.c")))
    return Clock(flag, {"LD_PRELOAD": str(library), "SET_BACK_WHILE": str(flag)})
