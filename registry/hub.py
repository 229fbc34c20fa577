"""What the Hub says about a repo. All of it is hostile until it fits a strict pattern; nothing is downloaded here."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cachemgr.digests import DIGEST
from cachemgr.layout import COMMIT
from registry.errors import HubError
from registry.hub_about import HubAbout, read_about
from registry.hub_line import use_strict_line
from registry.picking import pick

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+ -]*(/[A-Za-z0-9_][A-Za-z0-9._@+ -]*)*")
_MAX_FILES = 10_000
_MAX_FILE_BYTES = 10**13
_MAX_CODE_FILES = 200
_LONGEST_PAUSE_SECONDS = 3600.0

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that may be others a while later."""


@dataclass(frozen=True)
class HubFile:
    """`digest` is the content's sha256 (64 hex digits), or git's sha1 of a small file (40)."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class HubSnapshot:
    """The files that we would take of one commit. `code` are its Python files, which we take of none: see
    remote_code."""

    repo_id: str
    commit: str
    files: tuple[HubFile, ...]
    code: tuple[HubFile, ...] = ()
    about: HubAbout = field(default_factory=HubAbout)

    @property
    def contents(self) -> tuple[HubFile, ...]:
        """One file of each content: it lies in the cache once, whatever names it has."""
        return tuple({file.digest: file for file in self.files}.values())

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.contents)


def read_hub(repo_id: str, *, revision: str, endpoint: str, token: str, wait_seconds: float) -> HubSnapshot:
    """Asks for the file list of a revision, in one request. Raises HubError."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi  # 0.3 s of import that most processes never need
    from huggingface_hub.errors import HfHubHTTPError

    use_strict_line(endpoint, has_files=False)
    api = HfApi(endpoint=endpoint, token=token or False)
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=wait_seconds)
    except HubError:
        raise
    except HfHubHTTPError as error:
        raise explain_refusal(error, repo_id=repo_id, revision=revision) from error
    except (HTTPError, OSError) as error:
        raise unreachable(endpoint, error) from error
    except Exception as error:  # whatever the library makes of an answer that is none
        raise _senseless(endpoint, error) from error
    return _keeping(token, repo_id=repo_id, info=info)


def _keeping(token: str, *, repo_id: str, info: "ModelInfo") -> HubSnapshot:
    """What a hub says may be quoted in an error, and a hub knows the token."""
    try:
        return snapshot_from(repo_id, info)
    except HubError as error:
        if token and token in error.message:
            raise _hostile(repo_id, "the token of this server") from None
        raise


def explain_refusal(error: Any, *, repo_id: str, revision: str) -> HubError:
    """The Hub's HTTP answer as a sentence with the way out."""
    status = error.response.status_code if error.response is not None else 0
    kind = type(error).__name__
    if kind == "GatedRepoError":
        message = f"{repo_id} is gated: accept its terms on the Hub, then set HF_TOKEN in .env and start again."
        return HubError(message, code="hub_gated", is_permanent=True)
    if kind == "RemoteEntryNotFoundError":
        message = f"A file of {repo_id} is on the Hub's list, but cannot be had. It may have been changed just now."
        return HubError(message, code="hub_file_not_found", is_permanent=True)
    if kind == "RevisionNotFoundError":
        return HubError(f"{repo_id} has no revision {revision!r}.", code="hub_revision_not_found", is_permanent=True)
    if kind == "RepositoryNotFoundError" or status in {401, 403, 404}:
        message = (
            f"The Hub has no repo {repo_id}, or it is private. Check the name; for a private one set HF_TOKEN in .env."
        )
        return HubError(message, code="hub_not_found", is_permanent=True)
    if 400 <= status < 500 and status not in PASSING:
        message = f"The Hub refuses {repo_id}: it answered {status}."
        return HubError(message, code="hub_refused", is_permanent=True)
    return _explain_passing(error.response, repo_id=repo_id)


def _explain_passing(response: Any, *, repo_id: str) -> HubError:
    """An answer that may be another one later."""
    status = response.status_code if response is not None else 0
    seconds = retry_after_seconds(response)
    wish = f", and asks to be left alone for {seconds:.0f} s" if seconds else ""
    message = f"The Hub answered {status} for {repo_id}{wish}."
    code = "hub_rate_limited" if status == 429 else "hub_error"
    return HubError(message, code=code, is_permanent=False, details={"retry_after_seconds": seconds})


def retry_after_seconds(response: Any) -> float:
    """How long the Hub asks to be left alone: in seconds or as a date, an hour at most; 0 where it does not say."""
    from huggingface_hub.utils._http import parse_ratelimit_headers

    if response is None:
        return 0.0
    text = response.headers.get("Retry-After", "")
    limit = parse_ratelimit_headers(response.headers)
    if not text and limit is not None and limit.remaining == 0:
        return min(float(limit.reset_in_seconds), _LONGEST_PAUSE_SECONDS)
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_PAUSE_SECONDS)


def unreachable(endpoint: str, error: Exception) -> HubError:
    kind = type(error).__name__
    message = f"The Hub at {endpoint} does not answer ({kind}). Is this machine online, and HF_ENDPOINT right?"
    return HubError(message, code="hub_unreachable", is_permanent=False)


def _senseless(endpoint: str, error: Exception) -> HubError:
    kind = type(error).__name__
    message = f"The Hub at {endpoint} answers, but not with a list of files ({kind}). Is HF_ENDPOINT right?"
    return HubError(message, code="hub_error", is_permanent=False)


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
    _refuse_clashes(repo_id, files)
    if not any(file.name.endswith(".safetensors") for file in files):
        message = f"{repo_id} has no safetensors weights. Other formats can carry code, or are not supported yet."
        raise HubError(message, code="no_safetensors", is_permanent=True)
    code = tuple(_find_code(repo_id, siblings))
    return HubSnapshot(repo_id=repo_id, commit=commit, files=tuple(files), code=code, about=read_about(info))


def _find_code(repo_id: str, siblings: Iterable[Any]) -> Iterator[HubFile]:
    """What has no usable name or hash is no code that anybody could allow."""
    for each in islice((each for each in siblings if str(each.rfilename).endswith(".py")), _MAX_CODE_FILES):
        with suppress(HubError):
            yield _checked_file(repo_id, each)


def _refuse_clashes(repo_id: str, files: list[HubFile]) -> None:
    """A name is a file or a folder, also where a drive makes no difference between large and small letters, and a
    digest is of one content."""
    names = {file.name for file in files}
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if clash := min(names & parents, default=None):
        raise _hostile(repo_id, f"{clash!r} as a file and as a folder")
    contents: dict[str, HubFile] = {}
    for file in files:
        other = contents.setdefault(file.name.casefold(), file)
        if other.digest != file.digest:
            raise _hostile(repo_id, f"{other.name!r} and {file.name!r}, which are one file on many drives")
    if len({file.digest for file in files}) < len({(file.digest, file.size_bytes) for file in files}):
        raise _hostile(repo_id, "one hash for files of different sizes")


def _checked_file(repo_id: str, sibling: Any) -> HubFile:
    name, size = sibling.rfilename, sibling.size
    digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    if not _NAME.fullmatch(name) or ".." in name or len(name) > 240:
        raise _hostile(repo_id, f"a file named {name[:80]!r}")
    if type(size) is not int or not 0 <= size <= _MAX_FILE_BYTES:
        raise _hostile(repo_id, f"{name} with size {str(size)[:40]}")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise _hostile(repo_id, f"{name} with hash {str(digest)[:80]!r}")
    return HubFile(name=name, size_bytes=size, digest=digest)


def _hostile(repo_id: str, what: str) -> HubError:
    return HubError(f"The Hub's answer for {repo_id} is refused: it has {what}.", code="hub_hostile", is_permanent=True)
