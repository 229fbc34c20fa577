"""What can be done to models, as plans for people: what each would mean for one model, and for all of them together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cachemgr.units import format_bytes, format_duration
from registry.models import ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an act would do to one model. Sizes in bytes.

    `way`: where it happens, in words. `seconds` None: nobody knows how long it takes. `landing_bytes` come to a
    filesystem that has `free_bytes` (None: none comes anywhere). `problem`: why it cannot be done now.
    """

    model: ModelRegistry
    way: str = ""
    file_count: int = 0
    size_bytes: int = 0
    seconds: float | None = None
    landing_bytes: int = 0
    free_bytes: int | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return tuple(_facts([self]))


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same act in another way: its words, and what its page is asked for."""

    words: str
    query: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Act:
    """`plan` asks what doing it to one model would mean, and changes nothing. `do` does it and answers with a sentence.
    Both raise HomelabError."""

    question: str
    button: str
    icon: str
    explained: str
    plan: Callable[[ModelRegistry], Line]
    do: Callable[[ModelRegistry], str]
    alternatives: tuple[Alternative, ...] = ()
    path: str | None = None
    """Of an act that needs a folder from who asks for it: "" as long as there is none."""

    @property
    def wants_path(self) -> bool:
        return self.path is not None


def sum_up(lines: Sequence[Line]) -> tuple[tuple[str, str], ...]:
    """All that can be done, together; nothing where that is one."""
    able = [line for line in lines if not line.problem]
    return (("Models", str(len(able))), *_facts(able)) if len(able) > 1 else ()


def shortage(lines: Sequence[Line]) -> str:
    """Where each would fit, but not all of them: a sentence, else ""."""
    able = [line for line in lines if not line.problem and line.free_bytes is not None]
    landing_bytes = sum(line.landing_bytes for line in able)
    free_bytes = min((line.free_bytes or 0 for line in able), default=0)
    if len(able) < 2 or landing_bytes <= free_bytes:
        return ""
    return (
        f"Together they take {format_bytes(landing_bytes)}, and {format_bytes(free_bytes)} are free there: "
        "those that do not fit any more will be refused."
    )


def _facts(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """A label and words for each; what is not known and could be says so."""
    size_bytes, file_count = sum(line.size_bytes for line in lines), sum(line.file_count for line in lines)
    if file_count:
        yield "Files", f"{file_count:,}"
    if size_bytes:
        yield "Size", format_bytes(size_bytes)
    known = [line.seconds for line in lines if line.seconds is not None]
    if known:
        yield "Time", _time(sum(known), is_all=len(known) == len(lines))
    free = [line.free_bytes for line in lines if line.free_bytes is not None]
    if free:
        left_bytes = min(free) - sum(line.landing_bytes for line in lines)
        yield "Free there afterwards", format_bytes(max(0, left_bytes))


def _time(seconds: float, *, is_all: bool) -> str:
    more = "" if is_all else ", or more"
    return f"under a second{more}" if seconds < 1 else f"about {format_duration(seconds)}{more}"
