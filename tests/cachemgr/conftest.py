"""Drives to break: small tmpfs mounts, and one that hangs. They need the right to mount; CI has it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from cachemgr.drives import DriveReport, ProbeRequest, probe_drive

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
    """`mount(folder, size="16m")` puts a tmpfs there, `mount(folder, image=file)` an ext4 image."""
    mounted: list[Path] = []

    def do(folder: Path, *, size: str = "16m", image: Path | None = None) -> Path:
        kind = ["-o", "loop", str(image)] if image else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        run_or_skip("mount", *kind, str(folder))
        mounted.append(folder)
        return folder

    yield do
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@dataclass(frozen=True)
class HungDrive:
    path: Path
    flag: Path

    def hang(self) -> None:
        self.flag.touch()

    def go_on(self) -> None:
        self.flag.unlink(missing_ok=True)


@pytest.fixture
def hung_drive(tmp_path: Path) -> Iterator[HungDrive]:
    """A real drive that answers until `hang()`, and again after `go_on()`."""
    drive = HungDrive(tmp_path / "nas", tmp_path / "hangs")
    drive.path.mkdir()
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hung_drive.py"), drive.path, drive.flag],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        if server.stdout.readline() != "mounted\n":
            skip_or_fail(f"FUSE is refused here: {server.stderr.read().strip()[-200:]}")
        yield drive
        drive.go_on()
        subprocess.run(["umount", "-l", str(drive.path)], check=True)
        server.wait(timeout=10)


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., DriveReport]:
    """`ask(path, adopt=..., scan=True)`: what the probe's child says of a path."""
    locks = tmp_path / "locks"
    locks.mkdir()

    def do(path: Path | str, *, limit_seconds: float = 20, **wishes: Any) -> DriveReport:
        return probe_drive(ProbeRequest(str(path), **wishes), limit_seconds=limit_seconds, lock_folder=locks)

    return do


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
