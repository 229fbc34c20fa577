"""What fits, what warns, and why. Pure, and the only place with these rules.

A cache has room for what its limit leaves, counting what is promised, and for what each pool of free space that it
fills leaves, minus a reserve that is never booked. A pool is a filesystem, and caches may share it. A cache on a disk
image with holes fills two: that of the image, and that of the drive on which the image lies.

Inodes belong to a filesystem as free bytes do. A file takes them from its own alone, not from the drive below an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cachemgr.units import format_bytes, format_percent

YELLOW_FROM = 0.75
CRITICAL_FROM = 0.97
USUAL_FILES = 64  # of a model whose files nobody has counted yet
_INODES_PER_FILE = 3  # its blob, the link that names it, and the lock of its download
_INODES_PER_REPO = 16  # the folders
_UNUSABLE = ("missing", "unmounted", "unresponsive", "not_measured", "read_only")


@dataclass(frozen=True, slots=True)
class Rules:
    """`warning_threshold` is a share of 1; `disk_reserve_bytes` of each filesystem stay free."""

    warning_threshold: float
    disk_reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Pool:
    """The free space of one filesystem. What is reserved is promised there, to whatever cache. `name` is for people.

    `inodes_free` is None where the filesystem makes inodes as it needs them, and where nobody counted.
    """

    free_bytes: int
    reserved_bytes: int
    name: str = "the disk"
    inodes_free: int | None = None
    inodes_reserved: int = 0

    def lacks_inodes(self, needed: int) -> bool:
        return self.inodes_free is not None and self.inodes_free - self.inodes_reserved < needed


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """What is known of one cache, in bytes. `limit_bytes` is None for a custom cache: its disk is its limit.

    `pools` are what it fills: its own filesystem first, then that of the drive on which a disk image lies.
    """

    location: str
    path: str
    state: str
    limit_bytes: int | None
    used_bytes: int
    reserved_bytes: int
    pools: tuple[Pool, ...]
    disk_total_bytes: int
    disk_used_bytes: int
    state_message: str = ""

    @property
    def is_usable(self) -> bool:
        return self.state not in _UNUSABLE

    @property
    def disk_free_bytes(self) -> int:
        return self.pools[0].free_bytes

    @property
    def size_bytes(self) -> int:
        """What percentages are of: the limit, or the disk of a custom cache."""
        return self.disk_total_bytes if self.limit_bytes is None else self.limit_bytes

    @property
    def filled_bytes(self) -> int:
        return self.disk_used_bytes if self.limit_bytes is None else self.used_bytes

    @property
    def promised_bytes(self) -> int:
        """What will come to `filled_bytes` by the promises that stand."""
        return self.pools[0].reserved_bytes if self.limit_bytes is None else self.reserved_bytes

    @property
    def usage(self) -> float:
        """The filled share, 1 is full. 0 where nothing is known."""
        return self.share(self.filled_bytes)

    def share(self, part_bytes: int) -> float:
        return part_bytes / self.size_bytes if self.size_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may leave the cache of that location. `last_used_at` is None where nobody ever used it."""

    name: str
    size_bytes: int
    last_used_at: datetime | None
    location: str


@dataclass(frozen=True, slots=True)
class Trashed:
    """What lies in the trash: the numbers of its entries, and what their disk gets back when they are emptied."""

    entries: tuple[int, ...] = ()
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`limiting_factor` is what leaves the least room: limit, disk, inodes, or unavailable.

    `shortfall_bytes` have to go before it fits: more than needed minus available where a cache is over its limit.
    `would_make_room` are the models whose leaving would do, where it does not fit and such are known; `in_trash` is
    what emptying the trash would give, be it enough or not.
    """

    figures: CacheFigures
    required_bytes: int
    required_files: int
    sufficient: bool
    warning: bool
    available_bytes: int
    shortfall_bytes: int
    projected_bytes: int
    projected_usage: float
    limiting_factor: str
    message: str = ""
    would_make_room: tuple[Candidate, ...] = ()
    in_trash: Trashed = Trashed()

    @property
    def is_above_limit(self) -> bool:
        limit = self.figures.limit_bytes
        return limit is not None and self.projected_bytes > limit

    @property
    def is_refusal(self) -> bool:
        """Not knowing is not refusing: a drive that is away refuses only what its limit can never hold."""
        return self.is_above_limit if self.limiting_factor == "unavailable" else not self.sufficient


@dataclass(frozen=True, slots=True)
class _Bound:
    """One thing that limits a cache. `room_bytes` is below 0 where more is used or promised than there is."""

    factor: str
    room_bytes: int
    words: str


def check_space(
    figures: CacheFigures,
    *,
    required_bytes: int,
    rules: Rules,
    required_files: int = USUAL_FILES,
    lying_bytes: int = 0,
) -> Verdict:
    """Would so many more bytes fit, in so many files? `lying_bytes` of them lie on its filesystem already."""
    bound = _tightest(figures, required_files=required_files, rules=rules, lying_bytes=lying_bytes)
    projected = figures.filled_bytes + figures.promised_bytes + required_bytes
    sufficient = figures.is_usable and required_bytes <= max(0, bound.room_bytes)
    verdict = Verdict(
        figures=figures,
        required_bytes=required_bytes,
        required_files=required_files,
        sufficient=sufficient,
        warning=not sufficient or figures.share(projected) > rules.warning_threshold,
        available_bytes=max(0, bound.room_bytes),
        shortfall_bytes=0 if sufficient else required_bytes - bound.room_bytes,
        projected_bytes=projected,
        projected_usage=figures.share(projected),
        limiting_factor=bound.factor,
    )
    return replace(verdict, message=_explain(verdict, bound=bound, rules=rules))


def room_left(figures: CacheFigures, *, rules: Rules) -> tuple[int, str]:
    """Bytes that may still be booked, and what limits them."""
    bound = _tightest(figures, required_files=USUAL_FILES, rules=rules)
    return max(0, bound.room_bytes), bound.factor


def inodes_needed(required_files: int, *, repos: int = 1) -> int:
    """Of so many files in so many repos, while they are downloaded."""
    return _INODES_PER_REPO * repos + _INODES_PER_FILE * required_files


def _tightest(figures: CacheFigures, *, required_files: int, rules: Rules, lying_bytes: int = 0) -> _Bound:
    if not figures.is_usable:
        return _Bound("unavailable", 0, "it is not available")
    needed, own = inodes_needed(required_files), figures.pools[0]
    if own.lacks_inodes(needed):
        words = f"about {needed} inodes are needed, and its filesystem has {own.inodes_free} left"
        promised = f", with {own.inodes_reserved} promised already" if own.inodes_reserved else ""
        return _Bound("inodes", 0, words + promised)
    return min(_bounds(figures, rules=rules, lying_bytes=lying_bytes), key=lambda bound: bound.room_bytes)


def _bounds(figures: CacheFigures, *, rules: Rules, lying_bytes: int = 0) -> tuple[_Bound, ...]:
    disks = tuple(
        _Bound(
            "disk", _room_in(pool, rules=rules, lying_bytes=lying_bytes), f"the free space of {pool.name} is what binds"
        )
        for pool in figures.pools
    )
    if figures.limit_bytes is None:
        return disks
    in_limit = figures.limit_bytes - figures.used_bytes - figures.reserved_bytes
    return _Bound("limit", in_limit, "its limit is what binds"), *disks


def _room_in(pool: Pool, *, rules: Rules, lying_bytes: int) -> int:
    """What lies there already takes no more of it, however full the disk is."""
    room_bytes = pool.free_bytes - pool.reserved_bytes - rules.disk_reserve_bytes
    return max(0, room_bytes) + lying_bytes if lying_bytes else room_bytes


def limit_that_fits(verdict: Verdict, *, rules: Rules) -> int | None:
    """The limit in bytes that would let it in; None where a higher limit does not help."""
    figures = verdict.figures
    if verdict.sufficient or verdict.limiting_factor != "limit":
        return None
    _, *disks = _bounds(figures, rules=rules)
    has_disk = all(verdict.required_bytes <= bound.room_bytes for bound in disks)
    return figures.size_bytes + verdict.shortfall_bytes if has_disk else None


def level(usage: float, *, rules: Rules) -> str:
    if usage > rules.warning_threshold:
        return "red"
    return "yellow" if usage >= YELLOW_FROM else "green"


def status(figures: CacheFigures, *, rules: Rules) -> str:
    """The state of the drive where that is the news, else how full the cache is."""
    if not figures.is_usable:
        return figures.state
    if figures.usage > 1:
        return "over_limit"
    if figures.usage >= CRITICAL_FROM:
        return "critical"
    return "warning" if figures.usage > rules.warning_threshold else "ok"


def choose_to_free(candidates: Sequence[Candidate], *, shortfall_bytes: int) -> tuple[Candidate, ...]:
    """Who should leave: the least recently used, and none whose leaving is not needed. Empty if all are too few."""
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(candidates, key=_last_use):
        if freed >= shortfall_bytes:
            break
        chosen.append(candidate)
        freed += candidate.size_bytes
    if freed < shortfall_bytes:
        return ()
    return tuple(_without_the_needless(chosen, spare_bytes=freed - shortfall_bytes))


def _last_use(candidate: Candidate) -> tuple[bool, float, str]:
    used_at = candidate.last_used_at
    return used_at is not None, used_at.timestamp() if used_at else 0.0, candidate.name


def _without_the_needless(chosen: list[Candidate], *, spare_bytes: int) -> list[Candidate]:
    """A large one may have made earlier ones needless: those used last stay first."""
    kept = list(chosen)
    for candidate in reversed(chosen):
        if candidate.size_bytes <= spare_bytes:
            kept.remove(candidate)
            spare_bytes -= candidate.size_bytes
    return kept


def _explain(verdict: Verdict, *, bound: _Bound, rules: Rules) -> str:
    figures = verdict.figures
    needed, available = format_bytes(verdict.required_bytes), format_bytes(verdict.available_bytes)
    name = f"the {figures.location} cache ({figures.path})"
    if not figures.is_usable:
        return f"T{name[1:]} cannot be used now: {figures.state_message or figures.state}"
    after = f"{format_percent(verdict.projected_usage)} of {format_bytes(figures.size_bytes)}"
    if verdict.sufficient and verdict.warning:
        threshold = format_percent(rules.warning_threshold)
        above = "just above" if after.startswith(f"{threshold} ") else "above"
        return f"{needed} fit, but {name} would then be at {after}, {above} {threshold}."
    if verdict.sufficient:
        return f"{needed} fit: {available} are free, and {name} would then be at {after}."
    if verdict.limiting_factor == "inodes":
        return f"{needed} do not fit: {name} has no room for so many files ({bound.words})."
    shortage = f"{format_bytes(verdict.shortfall_bytes)} too little ({bound.words})"
    return f"{needed} do not fit: {name} has room for {available}, {shortage}."
