"""Verifying a repo: every file is read again, from the drive and not from memory, and compared with its digest.

The order is `{"root": {"path", "uuid"}, "folder", "commit": one, or null for all, "digests": {name: [digest, size]},
"rate_limit", "after", "budget_bytes"}`. A digest is known from the order, from the blob's name, or from the cache's own
list; `unknown` names the files that were read, and of which nobody knows it. With a budget it stops early, and `next`
is what to give as `after` to go on: `<commit>/<name>` of the last file, as `shown`, in whose order they are read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachemgr.digests import DIGEST, hash_like
from cachemgr.hands.copying import Pace, Pump, Say, Unreadable, drop_pages
from cachemgr.hands.errors import Trouble
from cachemgr.hands.layouting import SNAPSHOTS, Known, digest_in, is_in_snapshot
from cachemgr.hands.manifests import read_known
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.tree import FILE, LINK, End, Tree, read_tree
from cachemgr.scan.place import shown


@dataclass(frozen=True, slots=True)
class Claim:
    """A name in a snapshot, and what its bytes have to be. `end` is None where nothing is; `size_bytes` and `digest`
    are None and "" where nobody knows."""

    commit: str
    name: str
    end: End | None
    digest: str
    size_bytes: int | None

    @property
    def key(self) -> str:
        return shown(f"{self.commit}/{self.name}")


Finding = tuple[Claim, str]  # with the reason why it is bad, "" for a good one


@dataclass(slots=True)
class _Verifying:
    """`reasons` has what was found of each file that was read, by its path below the cache: "" for a good one."""

    root: Root
    pump: Pump
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def reason(self, claim: Claim) -> str:
        """Why it is bad. A file that several names lead to is read once."""
        if claim.end is None:
            return "missing"
        if claim.size_bytes is not None and claim.size_bytes != claim.end.entry.size_bytes:
            return "wrong_size"
        key = claim.end.path, claim.digest
        if key not in self.reasons:
            self.reasons[key] = self._read(claim.end, claim.digest)
        return self.reasons[key]

    def _read(self, end: End, digest: str) -> str:
        """A file of which nobody knows the digest is read too: whether it can be is worth knowing."""
        self.root.still_there()
        found = hash_like(digest, size_bytes=end.entry.size_bytes)
        try:
            with self.root.file(end.path) as descriptor:
                drop_pages(descriptor)
                self.pump.hash_file(descriptor, found)
        except FileNotFoundError:
            return "missing"
        except (OSError, Unreadable):
            self.root.still_there()
            return "unreadable"
        return "" if digest in ("", found.hexdigest()) else "hash_mismatch"


def run(order: dict[str, Any], *, say: Say) -> dict[str, Any]:
    with open_root(order["root"]) as root:
        folder, commit = str(order["folder"]), order.get("commit") or ""
        if not root.has_folder(folder):
            raise Trouble(f"{root.path} has no {folder}.", code="source_missing")
        claims = [*_claims(read_tree(root, folder), commit, _promised(order, commit), read_known(root, folder))]
        if not claims:
            raise Trouble(f"{root.path}/{folder} has no file of {commit or 'any commit'}.", code="source_missing")
        claims = [claim for claim in claims if claim.key > str(order.get("after") or "")]
        pace = Pace(say, stage="verifying", total_bytes=_size_bytes(claims), rate_limit=order.get("rate_limit"))
        found = _within(order.get("budget_bytes"), pace, claims, _Verifying(root, Pump(pace)))
        root.still_there()
        pace.tell()
        return _done(found, size_bytes=pace.count_bytes, is_end=len(found) == len(claims))


def _promised(order: Mapping[str, Any], commit: str) -> Known:
    digests = order.get("digests") or {}
    return {f"{commit}/{name}": (str(digest), int(size)) for name, (digest, size) in digests.items()}


def _size_bytes(claims: list[Claim]) -> int:
    return sum({claim.end.path: claim.end.entry.size_bytes for claim in claims if claim.end}.values())


def _within(budget_bytes: int | None, pace: Pace, claims: list[Claim], verifying: _Verifying) -> list[Finding]:
    """One file at least, so that there is an end even where a file is larger than the budget."""
    found: list[Finding] = []
    for claim in claims:
        if found and budget_bytes is not None and pace.count_bytes >= budget_bytes:
            break
        found.append((claim, verifying.reason(claim)))
    return found


def _done(found: list[Finding], *, size_bytes: int, is_end: bool) -> dict[str, Any]:
    return {
        "files": len(found),
        "bytes": size_bytes,
        "bad": [_describe(claim, reason) for claim, reason in found if reason],
        "unknown": [shown(claim.name) for claim, reason in found if not claim.digest and not reason],
        "next": "" if is_end else found[-1][0].key,
    }


def _describe(claim: Claim, reason: str) -> dict[str, Any]:
    """With its promise: who asks again may give that along, should nobody else know it by then."""
    promise = {"digest": claim.digest, "size_bytes": claim.size_bytes}
    return {"name": shown(claim.name), "commit": claim.commit, **promise, "reason": reason}


def _claims(tree: Tree, commit: str, promised: Known, known: Known) -> Iterator[Claim]:
    """All names of the wanted snapshots; then those that are promised, and not there."""
    wanted = f"{SNAPSHOTS}{commit}/" if commit else SNAPSHOTS
    paths = [path for path in tree.paths(FILE, LINK) if path.startswith(wanted) and is_in_snapshot(path)]
    for name in sorted({path.removeprefix(SNAPSHOTS) for path in paths} | promised.keys(), key=shown):
        path = SNAPSHOTS + name
        end = tree.content(path)
        digest, size_bytes = promised.get(name) or (_own_digest(tree, known, path, end), known.get(name, ("", None))[1])
        commit_of, _, name_in = name.partition("/")
        yield Claim(commit_of, name_in, end, digest, size_bytes)


def _own_digest(tree: Tree, known: Known, path: str, end: End | None) -> str:
    """Also of a blob that is gone: the link still says its name."""
    text = tree.entries[path].text if end is None else ""
    blob = text.rpartition("/")[2]
    return blob if DIGEST.fullmatch(blob) else digest_in(known, path, end)
