"""What fits, what warns, and why. Pure, and the only place with these rules.

A cache has room for what its limit leaves, counting what is promised, and for what its filesystem leaves, counting
what is promised to every cache on it, minus a reserve that is never booked.
"""

from dataclasses import dataclass

from cachemgr.units import format_bytes

YELLOW_FROM = 0.75
CRITICAL_FROM = 0.97
_UNUSABLE = ("missing", "unmounted", "unresponsive", "not_measured", "read_only")


@dataclass(frozen=True)
class Rules:
    """`warning_threshold` is a share of 1; `disk_reserve_bytes` of each filesystem stay free."""

    warning_threshold: float
    disk_reserve_bytes: int


@dataclass(frozen=True)
class CacheFigures:
    """What is known of one cache, in bytes. `limit_bytes` is None for a custom cache: its disk is its limit.

    `pool_reserved_bytes` is promised on the whole filesystem, this cache included.
    """

    location: str
    path: str
    state: str
    limit_bytes: int | None
    used_bytes: int
    reserved_bytes: int
    pool_reserved_bytes: int
    disk_total_bytes: int
    disk_used_bytes: int
    disk_free_bytes: int
    inodes_free: int | None = None
    state_message: str = ""

    @property
    def is_usable(self) -> bool:
        return self.state not in _UNUSABLE

    @property
    def size_bytes(self) -> int:
        """What percentages are of: the limit, or the disk of a custom cache."""
        return self.disk_total_bytes if self.limit_bytes is None else self.limit_bytes

    @property
    def filled_bytes(self) -> int:
        return self.disk_used_bytes if self.limit_bytes is None else self.used_bytes

    @property
    def usage(self) -> float:
        """The filled share, 1 is full. 0 where nothing is known."""
        return self.filled_bytes / self.size_bytes if self.size_bytes else 0.0


@dataclass(frozen=True)
class Verdict:
    """`limiting_factor` is what leaves the least room: limit, disk, inodes, or unavailable."""

    figures: CacheFigures
    required_bytes: int
    sufficient: bool
    warning: bool
    available_bytes: int
    projected_bytes: int
    projected_usage: float
    limiting_factor: str
    message: str

    @property
    def shortfall_bytes(self) -> int:
        return max(0, self.required_bytes - self.available_bytes)

    @property
    def is_refusal(self) -> bool:
        """Not knowing is not refusing: a drive that is away refuses only what its limit can never hold."""
        if self.limiting_factor != "unavailable":
            return not self.sufficient
        limit = self.figures.limit_bytes
        return limit is not None and self.projected_bytes > limit


def check_space(figures: CacheFigures, *, required_bytes: int, rules: Rules) -> Verdict:
    available, factor = room_left(figures, rules=rules)
    promised = figures.pool_reserved_bytes if figures.limit_bytes is None else figures.reserved_bytes
    projected = figures.filled_bytes + promised + required_bytes
    usage = projected / figures.size_bytes if figures.size_bytes else 0.0
    sufficient = figures.is_usable and required_bytes <= available
    warning = not sufficient or usage > rules.warning_threshold
    verdict = Verdict(figures, required_bytes, sufficient, warning, available, projected, usage, factor, message="")
    return Verdict(**{**vars(verdict), "message": _explain(verdict, rules=rules)})


def room_left(figures: CacheFigures, *, rules: Rules) -> tuple[int, str]:
    """Bytes that may still be booked, and what limits them."""
    if not figures.is_usable:
        return 0, "unavailable"
    if figures.inodes_free is not None and figures.inodes_free < 64:
        return 0, "inodes"
    on_disk = figures.disk_free_bytes - figures.pool_reserved_bytes - rules.disk_reserve_bytes
    if figures.limit_bytes is None:
        return max(0, on_disk), "disk"
    in_limit = figures.limit_bytes - figures.used_bytes - figures.reserved_bytes
    return (max(0, on_disk), "disk") if on_disk < in_limit else (max(0, in_limit), "limit")


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


def recommend(verdicts: list[Verdict]) -> Verdict | None:
    """The first cache, in the order given, that fits without a warning; else the first that fits; else None."""
    fitting = [verdict for verdict in verdicts if verdict.sufficient]
    calm = [verdict for verdict in fitting if not verdict.warning]
    return next(iter(calm or fitting), None)


def _explain(verdict: Verdict, *, rules: Rules) -> str:
    figures = verdict.figures
    needed, available = format_bytes(verdict.required_bytes), format_bytes(verdict.available_bytes)
    name = f"the {figures.location} cache ({figures.path})"
    if not figures.is_usable:
        return f"T{name[1:]} cannot be used now: {figures.state_message or figures.state}"
    after = f"{verdict.projected_usage:.0%} of {format_bytes(figures.size_bytes)}"
    if verdict.sufficient and verdict.warning:
        return f"{needed} fit, but {name} would then be at {after}, above {rules.warning_threshold:.0%}."
    if verdict.sufficient:
        return f"{needed} fit: {available} are free, and {name} would then be at {after}."
    shortage = f"{format_bytes(verdict.shortfall_bytes)} too little ({_FACTORS[verdict.limiting_factor]})"
    return f"{needed} do not fit: {name} has room for {available}, {shortage}."


_FACTORS = {
    "limit": "its limit is what binds",
    "disk": "the disk's free space is what binds",
    "inodes": "the filesystem has no inodes left",
    "unavailable": "it is not available",
}
