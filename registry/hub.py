"""What the Hub says about a repo. All of it is hostile until it fits a strict pattern; nothing is downloaded here."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachemgr.layout import COMMIT
from registry.errors import HubError
from registry.picking import pick

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+ -]*(/[A-Za-z0-9_][A-Za-z0-9._@+ -]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FILES = 10_000
_MAX_FILE_BYTES = 10**13


@dataclass(frozen=True)
class HubFile:
    """`digest` is the content's sha256 (64 hex digits), or git's sha1 of a small file (40)."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class HubSnapshot:
    """The files that we would take of one commit."""

    repo_id: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        """Each content once, as it lies in the cache."""
        return sum({file.digest: file.size_bytes for file in self.files}.values())


def read_hub(repo_id: str, *, revision: str, endpoint: str, token: str, wait_seconds: float) -> HubSnapshot:
    """Asks for the file list of a revision, in one request. Raises HubError."""
    from huggingface_hub import HfApi  # 0.3 s of import that most processes never need
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint, token=token or False)
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=wait_seconds)
    except HfHubHTTPError as error:
        raise explain_refusal(error, repo_id=repo_id, revision=revision) from error
    except Exception as error:  # whatever the HTTP library of the day raises for a hub that is not there
        raise unreachable(endpoint, error) from error
    return snapshot_from(repo_id, info)


def explain_refusal(error: Any, *, repo_id: str, revision: str) -> HubError:
    """The Hub's HTTP answer as a sentence with the way out."""
    status = error.response.status_code if error.response is not None else 0
    kind = type(error).__name__
    if kind == "GatedRepoError":
        message = f"{repo_id} is gated: accept its terms on the Hub, then set HF_TOKEN in .env and start again."
        return HubError(message, code="hub_gated", is_permanent=True)
    if kind == "RevisionNotFoundError":
        return HubError(f"{repo_id} has no revision {revision!r}.", code="hub_revision_not_found", is_permanent=True)
    if kind == "RepositoryNotFoundError" or status in {401, 403, 404}:
        message = (
            f"The Hub has no repo {repo_id}, or it is private. Check the name; for a private one set HF_TOKEN in .env."
        )
        return HubError(message, code="hub_not_found", is_permanent=True)
    message = f"The Hub answered {status} for {repo_id}. It is tried again later."
    return HubError(message, code="hub_rate_limited" if status == 429 else "hub_error", is_permanent=False)


def unreachable(endpoint: str, error: Exception) -> HubError:
    kind = type(error).__name__
    message = f"The Hub at {endpoint} does not answer ({kind}). Is this machine online, and HF_ENDPOINT right?"
    return HubError(message, code="hub_unreachable", is_permanent=False)


def snapshot_from(repo_id: str, info: "ModelInfo") -> HubSnapshot:
    """The checked list. A commit, name, size or hash of the wrong form refuses the whole repo."""
    siblings = info.siblings or []
    wanted = pick(str(each.rfilename) for each in siblings)
    files = [_checked_file(repo_id, each) for each in siblings if str(each.rfilename) in wanted]
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise _hostile(repo_id, f"the commit {commit[:60]!r}")
    if len(files) > _MAX_FILES:
        raise _hostile(repo_id, f"{len(files)} files (at most {_MAX_FILES})")
    if not any(file.name.endswith(".safetensors") for file in files):
        message = f"{repo_id} has no safetensors weights. Other formats can carry code, or are not supported yet."
        raise HubError(message, code="no_safetensors", is_permanent=True)
    return HubSnapshot(repo_id=repo_id, commit=commit, files=tuple(files))


def _checked_file(repo_id: str, sibling: Any) -> HubFile:
    name, size = sibling.rfilename, sibling.size
    digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    if not _NAME.fullmatch(name) or ".." in name or len(name) > 240:
        raise _hostile(repo_id, f"a file named {name[:80]!r}")
    if not isinstance(size, int) or not 0 <= size <= _MAX_FILE_BYTES:
        raise _hostile(repo_id, f"{name} with size {size!r}")
    if not isinstance(digest, str) or not (_SHA256.fullmatch(digest) or COMMIT.fullmatch(digest)):
        raise _hostile(repo_id, f"{name} with hash {str(digest)[:80]!r}")
    return HubFile(name=name, size_bytes=size, digest=digest)


def _hostile(repo_id: str, what: str) -> HubError:
    return HubError(f"The Hub's answer for {repo_id} is refused: it has {what}.", code="hub_hostile", is_permanent=True)
