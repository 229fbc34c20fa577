"""What tests of removals compare: trees of files as values, a disk's free bytes, and the Hub's own view of a cache."""

import os
import stat
from pathlib import Path

from huggingface_hub import scan_cache_dir


def picture(folder: Path) -> dict[str, object]:
    """Every name below a folder, with what it holds or where it leads. Our own house is left out."""
    found: dict[str, object] = {}
    for path, names, files in os.walk(folder):
        names[:] = [name for name in names if not (path == str(folder) and name == ".homelab")]
        for name in (*names, *files):
            here = Path(path, name)
            mode = here.lstat().st_mode
            key = str(here.relative_to(folder))
            if stat.S_ISLNK(mode):
                found[key] = str(here.readlink())
            else:
                found[key] = here.read_bytes() if stat.S_ISREG(mode) else "folder"
    return found


def used_bytes(folder: Path) -> int:
    """Of its filesystem, after all that was written is on the disk."""
    os.sync()
    figures = os.statvfs(folder)
    return (figures.f_blocks - figures.f_bfree) * figures.f_frsize


def as_the_hub_sees_it(cache: Path) -> dict[str, object]:
    """Repos with revisions, refs and files; it must see nothing strange but our house and marker."""
    info = scan_cache_dir(cache)
    strange = [str(warning) for warning in info.warnings if "/.homelab" not in str(warning)]
    assert not strange
    return {
        repo.repo_id: {
            revision.commit_hash: (sorted(revision.refs), sorted((f.file_name, f.size_on_disk) for f in revision.files))
            for revision in repo.revisions
        }
        for repo in info.repos
    }


def share_blob(cache: Path, repo: Path, *, name: str, stored: str, content: bytes) -> Path:
    """A file of a repo as the Hub's library 2.4 leaves it: its blob is a link into the cache's shared store."""
    file = cache / "blobs" / stored[:2] / stored
    file.parent.mkdir(parents=True, exist_ok=True)
    (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    if not file.exists():
        file.write_bytes(content)
        file.chmod(0o444)
    (snapshot,) = (repo / "snapshots").iterdir()
    blob = repo / "blobs" / f"{stored[:40]}"
    blob.symlink_to(os.path.relpath(file, blob.parent))
    (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    with open(file.with_name(f"{stored}.refs"), "a", encoding="utf-8") as users:
        users.write(f"{repo.name}/blobs/{blob.name}\n")
    return file
