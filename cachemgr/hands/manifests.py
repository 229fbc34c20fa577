"""The digests of files that are no blobs, as each cache remembers them: `.homelab/manifests/<repo folder>.json`.

`{"<commit>/<name>": {"digest": ..., "size_bytes": ...}}`. A blob needs none: its name is its digest.
"""

from cachemgr.hands.clearing import remove_file
from cachemgr.hands.durable import read_json, write_json
from cachemgr.hands.layouting import Known
from cachemgr.hands.root import Root
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


def write_known(root: Root, folder: str, known: Known) -> None:
    """The list is this one from now on."""
    if not known:
        forget_known(root, folder)
        return
    listed = {name: {"digest": digest, "size_bytes": size} for name, (digest, size) in known.items()}
    with root.folder(MANIFESTS, make=True) as descriptor:
        write_json(descriptor, f"{folder}.json", listed)


def add_known(root: Root, folder: str, known: Known) -> None:
    """To those that are listed already."""
    write_known(root, folder, {**read_known(root, folder), **known})


def forget_known(root: Root, folder: str) -> None:
    remove_file(root, f"{MANIFESTS}/{folder}.json")
