"""What tests of moves share: a move whose steps are run one by one, and what a cache holds, told in one way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir

from cachemgr.errands import Errand, run_errand
from cachemgr.errors import ErrandFailed
from cachemgr.hands import move
from cachemgr.hands.errors import Trouble
from cachemgr.marker import read_marker
from tests.factories import make_cached_repo

PROJECT = Path(__file__).resolve().parents[3]
FOLDER = "models--org--m"
LONGER_BYTES = 10**6
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": os.urandom(300_000),
    "name.with.dots-v0.5.txt": b"dots",
    "a/b/c/deep.txt": b"deep",
    "empty.txt": b"",
    "twin of deep.txt": b"deep",
}


@dataclass
class Trip:
    source: Path
    target: Path
    folder: str = FOLDER
    job: str = "17"
    said: list[dict[str, Any]] = field(default_factory=list)

    def order(self, step: str, **more: Any) -> dict[str, Any]:
        places = {name: {"path": str(path), "uuid": read_marker(str(path)) or ""} for name, path in self.places}
        return {"step": step, **places, "folder": self.folder, "job": self.job, **more}

    @property
    def places(self) -> tuple[tuple[str, Path], ...]:
        return ("source", self.source), ("target", self.target)

    def do(self, step: str, **more: Any) -> dict[str, Any]:
        """In this process; the child is the same function behind a pipe."""
        return move.run(self.order(step, **more), say=lambda **line: self.said.append(line))

    def send(self, step: str, **more: Any) -> dict[str, Any]:
        """In a child, as in life."""
        with run_errand(Errand("cachemgr.hands", {"task": "move", **self.order(step, **more)})) as lines:
            *self.said, last = [line for line in lines if line]
        return last["done"]

    def go(self) -> dict[str, Any]:
        """All of it; answers what the last step says."""
        self.do("stage")
        self.do("publish")
        return self.do("leave")

    @property
    def staging(self) -> Path:
        return self.target / ".homelab" / "staging" / self.job

    @property
    def moved(self) -> Path:
        return self.target / self.folder


def make_caches(folder: Path) -> Trip:
    source, target = folder / "fast", folder / "big"
    source.mkdir()
    target.mkdir()
    return Trip(source, target)


def fill(cache: Path, *, files: Mapping[str, bytes] = FILES, repo_id: str = "org/m") -> Path:
    """Two revisions that share their blobs, refs with and without a slash, and what the library knows not to be."""
    make_cached_repo(cache, repo_id, files=files, refs={"refs/pr/1": "a" * 40})
    repo = make_cached_repo(
        cache, repo_id, files={**files, "config.json": b"{ }"}, refs={"main": "b" * 40}, commit="b" * 40
    )
    absent = repo / ".no_exist" / ("b" * 40) / "generation_config.json"
    absent.parent.mkdir(parents=True)
    absent.touch()
    return repo


def make_longer(repo: Path, *, count: int = 4) -> None:
    """So much more of it that there is a middle in which something can happen."""
    for number in range(count):
        (repo / "snapshots" / ("a" * 40) / f"extra-{number}").write_bytes(os.urandom(LONGER_BYTES))


def contents(repo: Path) -> dict[str, bytes]:
    """What each name in the snapshots reads as, and whatever lies beside them."""
    names = [path for path in repo.rglob("*") if path.is_file() and "blobs" not in path.relative_to(repo).parts]
    return {str(path.relative_to(repo)): path.read_bytes() for path in names}


def said_by_library(cache: Path) -> dict[str, Any]:
    """Sound repos with their revisions: refs, and names with sizes."""
    return {
        repo.repo_id: {
            revision.commit_hash: (
                sorted(revision.refs),
                sorted(
                    (str(file.file_path.relative_to(revision.snapshot_path)), file.size_on_disk)
                    for file in revision.files
                ),
            )
            for revision in repo.revisions
        }
        for repo in scan_cache_dir(cache).repos
    }


def stored_bytes(folder: Path) -> int:
    """Each file once, whatever its number of names."""
    statuses = [path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in statuses}.values())


def everything(folder: Path) -> dict[str, Any]:
    """All names with what they hold: two that are equal are the same to the last bit."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, *, at: int = 100) -> None:
    """One bit, without a new time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def weights(repo: Path) -> Path:
    """Its largest blob."""
    return max((repo / "blobs").iterdir(), key=lambda blob: blob.stat().st_size)


def litter(cache: Path) -> list[str]:
    """What a job left in the house's folder."""
    house = cache / ".homelab"
    found = [path for part in ("staging", "trash") for path in (house / part).rglob("*")] if house.exists() else []
    return [str(path.relative_to(cache)) for path in found]


def remount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(folder)], check=True, capture_output=True)


# Children, and what may happen to them


@contextmanager
def child(task: str, order: dict[str, Any], *wrapper: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m cachemgr.hands` at work, started by us and not by its master; `wrapper` is a command in front."""
    command = [*wrapper, sys.executable, "-m", "cachemgr.hands"]
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, env=quiet, **pipes) as process:
        process.stdin.write(json.dumps({"task": task, **order}) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def strained_task(task: str, order: dict[str, Any], fault: str, *, path: Path | None = None) -> list[dict[str, Any]]:
    """The lines of a child under strace, which meets a fault, such as "fsync:error=EIO:when=1". With a path, only where
    it has that file open."""
    options = ["-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}", *(["-P", path] if path else [])]
    with child(task, order, "strace", "-f", "-qq", "-o", "/dev/null", *options) as process:
        return [json.loads(line) for line in process.stdout]


@contextmanager
def unharmed(trip: Trip) -> Iterator[None]:
    """The source is as it was, and nothing at the target has a final name."""
    before = everything(trip.source)
    yield
    assert everything(trip.source) == before
    assert not trip.moved.exists()


def refused(trip: Trip, step: str = "stage", **more: Any) -> Trouble:
    with pytest.raises(Trouble) as error:
        trip.do(step, **more)
    return error.value


def strained(trip: Trip, step: str, fault: str, *, path: Path | None = None) -> list[dict[str, Any]]:
    return strained_task("move", trip.order(step), fault, path=path)


def watched(trip: Trip, *, code: str, **more: Any) -> Iterator[dict[str, Any]]:
    """The lines of a `stage` that has to end with that error."""
    errand = Errand("cachemgr.hands", {"task": "move", **trip.order("stage", **more)})
    with pytest.raises(ErrandFailed) as failed, run_errand(errand) as lines:
        yield from lines
    assert failed.value.code == code, failed.value


def fill_up(folder: Path) -> Path:
    """Another program takes all the room there is."""
    filler = folder / "filler"
    with suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            continue
    return filler
