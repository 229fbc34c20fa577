"""The digests of files that are no blobs, as each cache remembers them: `.homelab/manifests/<repo folder>.json`.

`{"<commit>/<name>": {"digest": ..., "size_bytes": ...}}`. A blob needs none: its name is its digest.
"""

from cachemgr.hands.durable import read_json, write_json
from cachemgr.hands.layouting import SNAPSHOTS, Known
from cachemgr.hands.removing import remove_file
from cachemgr.hands.root import Root
from cachemgr.hands.staging import Record
from cachemgr.layout import HOUSE_FOLDER

MANIFESTS = f"{HOUSE_FOLDER}/manifests"


def read_known(root: Root, folder: str) -> Known:
    """{} where there is no list. What is in it is only ever compared with bytes."""
    try:
        with root.folder(MANIFESTS) as descriptor:
            listed = read_json(descriptor, f"{folder}.json")
        return {str(name): (str(each["digest"]), int(each["size_bytes"])) for name, each in (listed or {}).items()}
    except (FileNotFoundError, AttributeError, KeyError, TypeError, ValueError):
        return {}


def write_known(root: Root, record: Record) -> None:
    """For the copies that a record brings. Other names that are listed stay where the folder was there before."""
    known = read_known(root, record.folder) if record.is_taken else {}
    ours = {
        parcel.path.removeprefix(SNAPSHOTS): (parcel.digest, parcel.size_bytes)
        for parcel in record.parcels
        if parcel.path.startswith(SNAPSHOTS) and parcel.digest
    }
    if not (ours or known):
        forget_known(root, record.folder)
        return
    listed = {name: {"digest": digest, "size_bytes": size} for name, (digest, size) in (dict(known) | ours).items()}
    with root.folder(MANIFESTS, make=True) as descriptor:
        write_json(descriptor, f"{record.folder}.json", listed)


def forget_known(root: Root, folder: str) -> None:
    remove_file(root, f"{MANIFESTS}/{folder}.json")
