"""Drives to break: small tmpfs mounts, and one that hangs. They need the right to mount; CI has it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

from cachemgr import cleaning, monitor
from cachemgr.drives import DriveReport, ProbeRequest, probe_drive
from cachemgr.wanted import wanted_asked
from registry import room
from tests.cachemgr.cleaning_up import Wish
from tests.processes import command_of, is_over

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("no deadline")


def run_or_skip(*command: str) -> None:
    """Skips the test where this machine refuses to mount; never in CI, where that would hide a fault."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        skip_or_fail(f"{command[0]} is refused here: {done.stderr.strip()}")


def skip_or_fail(reason: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """`mount(folder, size="16m")` puts a tmpfs there, `mount(folder, image=file)` an ext4 image, `bind=` a folder.

    `inodes` are how many files and folders the tmpfs takes.
    """
    mounted: list[Path] = []

    def do(
        folder: Path,
        *,
        size: str = "16m",
        inodes: int | None = None,
        image: Path | None = None,
        bind: Path | None = None,
    ) -> Path:
        kind = ["-t", "tmpfs", "-o", f"size={size}" + (f",nr_inodes={inodes}" if inodes else ""), "tmpfs"]
        if image or bind:
            kind = ["-o", "loop", str(image)] if image else ["--bind", str(bind)]
        folder.mkdir(exist_ok=True)
        run_or_skip("mount", *kind, str(folder))
        mounted.append(folder)
        return folder

    yield do
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def make_image(path: Path, *options: str, size: int = 8 << 20, is_sparse: bool = True) -> Path:
    """An ext4 image. A sparse one takes room on its host only as it is filled."""
    with open(path, "wb") as file:
        file.truncate(size)
        # What the kernel would zero later, in the background, would be a hole in the image by then.
        at_once = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
        run_or_skip("/sbin/mkfs.ext4", "-q", "-E", at_once, *options, str(path))
        if not is_sparse:
            os.posix_fallocate(file.fileno(), 0, size)
    return path


@dataclass(frozen=True)
class HungDrive:
    path: Path
    flag: Path
    server: psutil.Process

    def hang(self) -> None:
        self.flag.touch()

    def slow_down(self) -> None:
        """It answers, but reading a model's folder takes until it may go on, and files come in slowly."""
        self._beside("slow").touch()

    def answer_each_name_after(self, *, seconds: float) -> None:
        """A cold disk with very many files: each look at a name takes that long."""
        whole = self._beside("names.new")
        whole.write_text(str(seconds))
        whole.rename(self._beside("names"))

    def go_on(self) -> None:
        for flag in (self.flag, self._beside("slow"), self._beside("names")):
            flag.unlink(missing_ok=True)

    def _beside(self, way: str) -> Path:
        return self.flag.with_name(f"{self.flag.name}.{way}")


@contextmanager
def serve_drive(folder: Path, *options: str) -> Iterator[HungDrive]:
    path, flag = folder / "nas", folder / "hangs"
    path.mkdir()
    command = [sys.executable, Path(__file__).with_name("hung_drive.py"), path, flag, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        if server.stdout.readline() != "mounted\n":
            skip_or_fail(f"FUSE is refused here: {server.stderr.read().strip()[-200:]}")
        drive = HungDrive(path, flag, psutil.Process(server.pid))
        try:
            yield drive
        finally:
            server.send_signal(signal.SIGCONT)
            drive.go_on()
            subprocess.run(["umount", "-l", str(drive.path)], capture_output=True, check=False)  # or the test did
            server.wait(timeout=10)


@pytest.fixture
def hung_drive(tmp_path: Path) -> Iterator[HungDrive]:
    """A real drive that answers until `hang()`, and again after `go_on()`."""
    with serve_drive(tmp_path) as drive:
        yield drive


@pytest.fixture
def drive_without_links(tmp_path: Path) -> Iterator[HungDrive]:
    """As exFAT, or many a NAS: files, but no symbolic links."""
    with serve_drive(tmp_path, "--no-links") as drive:
        yield drive


def probes_of(path: Path) -> list[psutil.Process]:
    """The living children of this process that touch the path."""
    children = [each for each in psutil.Process().children() if not is_over(each)]
    return [each for each in children if f'"path": "{path}"' in " ".join(command_of(each))]


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., DriveReport]:
    """`ask(path, adopt=..., scan=True)`: what the probe's child says of a path."""
    locks = tmp_path / "locks"
    locks.mkdir()

    def do(path: Path | str, *, limit_seconds: float = 20, **wishes: Any) -> DriveReport:
        return probe_drive(ProbeRequest(str(path), **wishes), limit_seconds=limit_seconds, lock_folder=locks)

    return do


@pytest.fixture
def primary(caches: Any) -> Any:
    """The primary cache, adopted."""
    monitor.measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    return caches.primary


@pytest.fixture
def disk(primary: Any, mount: Callable[..., Path]) -> Any:
    """The primary cache on a filesystem of its own: nobody else changes its free bytes."""
    mount(Path(primary.path))
    type(primary).objects.filter(pk=primary.pk).update(uuid="")
    monitor.measure_cache(primary)
    primary.refresh_from_db()
    return primary


@pytest.fixture
def nothing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up takes what is old by its content's time: a test cannot age a folder's own time of change."""
    monkeypatch.setattr(cleaning, "MIN_AGE_SECONDS", 0.0)


@pytest.fixture
def wanted() -> Iterator[Wish]:
    """What those above want, in place of the registry."""
    wish = Wish()
    wanted_asked.disconnect(room.tell_wanted)
    wanted_asked.connect(wish.tell)
    yield wish
    wanted_asked.disconnect(wish.tell)
    wanted_asked.connect(room.tell_wanted)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A fresh folder that every user of the machine may enter: pytest's own are for its user alone."""
    folder = Path(tempfile.mkdtemp(prefix="homelab-open-"))
    folder.chmod(0o755)
    yield folder
    for each in folder.rglob("*"):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o755)
    shutil.rmtree(folder)
