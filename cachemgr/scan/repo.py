"""One repo's folder -> a RepoReport: blobs once, then the snapshots that name them, then all that lies beside."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from cachemgr.report import FileReport, RepoReport, RevisionReport
from cachemgr.scan.partials import read_partials
from cachemgr.scan.place import Place, shown
from cachemgr.scan.refs import read_refs
from cachemgr.scan.revisions import Reader
from cachemgr.scan.snapshots import OWN_BLOB, Contents, Snapshot, read_blobs, read_snapshots
from cachemgr.scan.tally import Listing, Tally

_PARTS = ("blobs", "refs", "snapshots")


@dataclass(slots=True)
class _Names:
    """What all snapshots together lead to."""

    keys: set[str] = field(default_factory=set)
    copy_count: int = 0

    def add(self, snapshot: Snapshot) -> None:
        self.keys |= snapshot.keys
        self.copy_count += len(snapshot.copies)


def read_repo(place: Place, folder: str, *, repo_type: str, repo_id: str) -> RepoReport:
    tally, named = Tally(place, folder), _Names()
    top = tally.list_folder("")
    contents = read_blobs(tally) if "blobs" in top.folders else Contents()
    refs = read_refs(tally) if "refs" in top.folders else {}
    revisions = tuple(_read_revisions(tally, contents, refs, named)) if "snapshots" in top.folders else ()
    partials = read_partials(tally, contents.partials)
    _look_beside(tally, top)
    orphans = contents.sizes.keys() - named.keys
    size_bytes, physical_bytes = tally.sum_up()
    return RepoReport(
        repo_type=repo_type,
        repo_id=repo_id,
        folder=folder,
        size_bytes=size_bytes,
        physical_bytes=physical_bytes,
        file_count=len(named.keys) + named.copy_count,
        partials=partials,
        orphan_count=len(orphans),
        orphan_bytes=sum(contents.sizes[key] for key in orphans if key not in contents.places),
        layout=_layout(contents, named),
        modified_at=tally.modified_at,
        revisions=revisions,
        problems=tally.list_problems(),
        memory=tally.memory(),
    )


def _read_revisions(tally: Tally, contents: Contents, refs: dict[str, str], named: _Names) -> Iterator[RevisionReport]:
    reader = Reader(tally, contents)
    commits = set()
    for snapshot in read_snapshots(tally, contents):
        commits.add(snapshot.commit)
        named.add(snapshot)
        yield reader.describe(snapshot, refs=tuple(sorted(ref for ref, to in refs.items() if to == snapshot.commit)))
    for ref, commit in sorted(refs.items()):
        if commit not in commits:
            tally.complain(f"refs/{ref} names a revision that is not here")


def _look_beside(tally: Tally, top: Listing) -> None:
    """Whatever else lies in the folder takes space as well."""
    if "snapshots" not in top.folders:
        tally.complain("no snapshots")
    for name in sorted(top.links):
        tally.refuse_link(name)
    for name in top.folders:
        if name not in _PARTS:
            tally.count_below(name)


def _layout(contents: Contents, named: _Names) -> str:
    if named.copy_count:
        return "mixed" if named.keys else "copies"
    if not named.keys:
        return ""
    return "links" if named.keys.isdisjoint(contents.places) else "shared"


def list_repo(place: Place, folder: str) -> Iterator[FileReport]:
    """Whole files, by revision and name; then the blobs that no snapshot names."""
    tally, named = Tally(place, folder), _Names()
    contents = read_blobs(tally)
    for snapshot in read_snapshots(tally, contents):
        named.add(snapshot)
        for name in sorted(snapshot.names):
            key = snapshot.links.get(name)
            size_bytes = snapshot.copies[name] if key is None else contents.sizes[key]
            yield FileReport(snapshot.commit, shown(name), size_bytes, _digest(key))
    for key in sorted(contents.sizes.keys() - named.keys):
        yield FileReport("", "", contents.sizes[key], _digest(key))


def _digest(key: str | None) -> str:
    return shown(key.removeprefix(OWN_BLOB)) if key is not None and key.startswith(OWN_BLOB) else ""
