"""The files of a model, as they lie on its drive at this second: asked for when somebody opens the list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cachemgr.models import Cache
from cachemgr.monitor import list_repo_files
from cachemgr.report import FileReport
from registry import services
from registry.models import ModelRegistry

MOST_SHOWN = 300


@dataclass(frozen=True, slots=True)
class FileList:
    """The largest first. `others` lie there too: of other revisions, or of none. `problem`: why nothing is known."""

    own: Sequence[FileReport] = ()
    more: int = 0
    others: int = 0
    problem: str = ""


def read_files(model: ModelRegistry) -> FileList:
    """Asks its drive, for five seconds at most."""
    path = services.cache_path_of(model)
    cache = Cache.objects.filter(path=path).first()
    found = list_repo_files(cache, repo_id=model.hf_path) if cache else None
    if found is None:
        return FileList(problem=f"{path} does not say now what lies there. Is the drive plugged in?")
    return choose_files(found, commit=model.revision)


def choose_files(found: Iterable[FileReport], *, commit: str) -> FileList:
    everything = list(found)
    own = sorted(
        (file for file in everything if file.revision == commit), key=lambda file: (-file.size_bytes, file.name)
    )
    others = {_content(file) for file in everything} - {_content(file) for file in own}
    return FileList(own[:MOST_SHOWN], max(0, len(own) - MOST_SHOWN), len(others))


def _content(file: FileReport) -> tuple[str, str]:
    """A blob that several revisions name is one."""
    return ("", file.digest) if file.digest else (file.revision, file.name)
