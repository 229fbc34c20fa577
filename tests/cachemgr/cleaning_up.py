"""What tests of cleaning up do: tell what is wanted, look, clean, and compare with what the disk has."""

from dataclasses import dataclass, field
from pathlib import Path

from cachemgr.cleaning import ClassFindings, plan_clean
from cachemgr.models import Cache
from cachemgr.wanted import Wanted
from tests.cachemgr.trees import picture, used_bytes
from tests.factories import age_tree, make_cached_repo

FOLDER = "models--org--m"
NEW, OLD, OLDER = "a" * 40, "b" * 40, "c" * 40


@dataclass
class Wish:
    """What those above want, in place of the registry."""

    commits: dict[str, frozenset[str] | None] = field(default_factory=dict)
    busy_folders: frozenset[str] = frozenset()
    open_jobs: frozenset[str] = frozenset()

    def tell(self, **_: object) -> Wanted:
        return Wanted(self.commits, self.busy_folders, self.open_jobs)


def find(cache: Cache, name: str) -> ClassFindings:
    (findings,) = plan_clean([name], caches=[cache]).caches
    assert not findings.skipped
    (found,) = findings.classes
    return found


def names(cache: Cache, name: str) -> list[str]:
    return sorted(item.name for item in find(cache, name).items)


def clean(cache: Cache, *classes: str) -> set[str]:
    """Executes it, compares what it says with what the disk has, and answers the names that went."""
    path = Path(cache.path)
    (path / ".homelab" / "staging").mkdir(parents=True, exist_ok=True)
    plan = plan_clean(classes, caches=[cache])
    before, used = picture(path), used_bytes(path)
    done = plan.execute()
    assert used - used_bytes(path) == plan.freed_bytes == done.freed_bytes
    assert done.count == plan.count
    after = picture(path)
    assert all(after[name] == content for name, content in before.items() if name in after)
    return before.keys() - after.keys()


def three_revisions(path: Path, **refs: str) -> Path:
    shared = {"config.json": b"{}", "tokenizer.json": b"same in all"}
    for number, commit in enumerate((OLDER, OLD, NEW)):
        files = shared | {"model.safetensors": bytes([number]) * (100_000 * (number + 1))}
        repo = make_cached_repo(path, "org/m", files=files, commit=commit, refs=refs)
        age_tree(repo / "snapshots" / commit, seconds=9000 - 1000 * number)
    return repo
