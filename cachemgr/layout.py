"""Names in a Hub cache, pure: repo ids <-> folder names. `org/name` of type `model` is `models--org--name`."""

import re

REPO_TYPES = ("model", "dataset", "space")
HOUSE_FOLDER = ".homelab"
TRASH = f"{HOUSE_FOLDER}/trash"
STAGING = f"{HOUSE_FOLDER}/staging"
MARKER_FILE = ".homelab-cache.json"
COMMIT = re.compile(r"[0-9a-f]{40}")

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"{_PART}(?:/{_PART})?")


def repo_folder(repo_id: str, *, repo_type: str = "model") -> str:
    return "--".join([f"{repo_type}s", *repo_id.split("/")])


def parse_repo_folder(folder: str) -> tuple[str, str] | None:
    """`models--org--name` -> ("model", "org/name"); None for a folder that is no repo."""
    kind, _, rest = folder.partition("--")
    repo_type = kind.removesuffix("s")
    repo_id = rest.replace("--", "/")
    if "/" in rest or kind == repo_type or repo_type not in REPO_TYPES or not is_repo_id(repo_id):
        return None
    return repo_type, repo_id


def is_repo_id(text: str) -> bool:
    """True for `org/name`, or `name` alone as in `gpt2`, in the Hub's alphabet. Never for a path or a URL."""
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith(".git")
