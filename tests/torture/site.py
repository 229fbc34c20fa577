"""A site to be tortured: a hub, a database, three caches on two filesystems, and a model with something of everything."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.factories import loadable_files, make_cached_repo, write_hub_repo
from tests.hub import FaultyHub

REPO_ID = "org/model.v1"
FOLDER = "models--org--model.v1"
NOWHERE = "nowhere"
LIMIT_BYTES = 5_000_000  # of the two caches that have one: the model is there once, and a second copy does not fit
_OTHER_FILESYSTEM = Path("/dev/shm")
_OLD_COMMIT = "b" * 40
_FILES = loadable_files(weights=3_000_000) | {
    "notes/deep/read me.json": b"{}",
    "empty.txt": b"",
    "tokenizer.json": b"{}",
}


@dataclass(frozen=True)
class Site:
    """`contents` are the sha256 sums of the model's files, by revision and name."""

    folder: Path
    other: Path
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def caches(self) -> dict[str, Path]:
        """primary and secondary are on two filesystems; the custom one is on primary's."""
        return {"primary": self.folder / "fast", "secondary": self.other / "slow", "custom": self.folder / "third"}

    @property
    def database(self) -> Path:
        return self.folder / "data" / "db.sqlite3"

    @property
    def place(self) -> str:
        """The cache in which the model's folder is."""
        return next(name for name, path in self.caches.items() if (path / FOLDER).exists())

    def contents_from(self, start: str) -> dict[str, str]:
        """What the model has when it began there: the older revision came by hand, after the download."""
        came_by_hand = f"{_OLD_COMMIT}/"
        return {
            name: found
            for name, found in self.contents.items()
            if start != NOWHERE or not name.startswith(came_by_hand)
        }

    @property
    def weights(self) -> Path:
        (path,) = self.caches[self.place].glob(f"{FOLDER}/snapshots/{_OLD_COMMIT}/model.safetensors")
        return path.resolve()

    @property
    def canaries(self) -> dict[str, str]:
        """What lies beside and above the caches: it is nobody's business."""
        return {str(path): digest(path) for root in (self.folder, self.other) for path in root.glob("canary*/**/*.txt")}

    def add_revision(self) -> None:
        """Another one, by hand, beside that which came from the hub; they share the weights."""
        make_cached_repo(self.caches["primary"], REPO_ID, files=_FILES, commit=_OLD_COMMIT, refs={"v1.0": _OLD_COMMIT})
        for path in self.caches["primary"].glob(f"{FOLDER}/snapshots/*/**/*"):
            if path.is_file():
                name = str(path.relative_to(self.caches["primary"] / FOLDER / "snapshots"))
                self.contents[name] = digest(path)


@contextmanager
def make_site() -> Iterator[Site]:
    """The environment is set for it: Django has to be imported after this."""
    folder = Path(tempfile.mkdtemp(prefix="homelab-torture-"))
    other = Path(tempfile.mkdtemp(prefix="homelab-torture-", dir=_OTHER_FILESYSTEM))
    try:
        site = Site(folder, other)
        for path in (*site.caches.values(), folder / "data", folder / "hub"):
            path.mkdir()
        for root in (folder, other):
            canary = root / "canary" / FOLDER / "blobs"
            canary.mkdir(parents=True)
            (canary / "song.txt").write_text("I am not a model.")
        write_hub_repo(folder / "hub", REPO_ID, files=_FILES)
        with FaultyHub(folder / "hub").serve() as hub:
            _set_environment(site, endpoint=hub.endpoint)
            yield site
    finally:
        for path in (folder, other):
            shutil.rmtree(path)


def _set_environment(site: Site, *, endpoint: str) -> None:
    for name in ("HF_TOKEN", "REDIS_URL", "DATABASE_URL"):
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "homelab.settings",
        "HOMELAB_ENV_FILE": os.devnull,
        "HF_ENDPOINT": endpoint,
        "HOME": str(site.folder),
        "DATA_DIR": str(site.folder / "data"),
        "PRIMARY_CACHE_PATH": str(site.caches["primary"]),
        "SECONDARY_CACHE_PATH": str(site.caches["secondary"]),
        "CACHE_ALLOWED_ROOTS": str(site.folder),
        "PRIMARY_CACHE_LIMIT_GB": str(LIMIT_BYTES / 10**9),
        "SECONDARY_CACHE_LIMIT_GB": str(LIMIT_BYTES / 10**9),
        "DISK_RESERVE_GB": "0.001",
    }


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
