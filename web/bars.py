"""A bar that says what fills a cache, or a disk: pieces from left to right, and marks above it. Pure.

    models, the largest first | what else lies in the cache | promised | free | what the disk cannot give

The bar of a cache is as wide as its limit: where that is more than the disk has left, the last piece says so. Where
more lies there than the limit allows, the bar is as wide as that, and the limit is a mark inside. A custom cache has no
limit: its bar is its disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cachemgr.space import CacheFigures
from cachemgr.units import format_bytes, format_percent

MOST_MODELS = 24
LEAST_SHARE = 0.01  # of the bar: what is narrower cannot be pointed at
_NAMED_FROM = 0.2  # of the bar: there is room for a name in it


@dataclass(frozen=True, slots=True)
class Held:
    """A model in a cache. `address` is that of its page; "" where it has none."""

    name: str
    size_bytes: int
    address: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """`kind`: model, rest (many small models), other, reserved, free, blocked; of disks also ours, others, kept.
    `width` is in percent of the bar. `key` ties it to its line in the list below."""

    kind: str
    words: str
    size_bytes: int
    width: float = 0.0
    address: str = ""
    key: str = ""

    @property
    def is_named(self) -> bool:
        return self.kind == "model" and self.width >= _NAMED_FROM * 100


@dataclass(frozen=True, slots=True)
class Mark:
    """`at` is in percent of the bar, from the left."""

    kind: str
    words: str
    at: float


@dataclass(frozen=True, slots=True)
class Bar:
    pieces: tuple[Piece, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def models(self) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.pieces if piece.kind in {"model", "rest"})

    @property
    def others(self) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.pieces if piece.kind not in {"model", "rest"} and piece.size_bytes)


def draw_cache(models: Sequence[Held], *, figures: CacheFigures, threshold: float) -> Bar:
    """`threshold` is a share of the limit, 1 is full."""
    if not figures.size_bytes:
        return Bar(())
    is_limited = figures.limit_bytes is not None
    full = max(figures.size_bytes, figures.used_bytes + figures.reserved_bytes if is_limited else 0)
    parts = [*_models(models, used_bytes=figures.used_bytes, full_bytes=full)]
    held = sum(piece.size_bytes for piece in parts)
    parts.append(Piece("other", "other files in it", max(0, figures.used_bytes - held)))
    parts += _room_in_limit(figures, full_bytes=full) if is_limited else _room_on_disk(figures)
    return Bar(_place(parts, full_bytes=full), _marks(figures, threshold=threshold, full_bytes=full))


def _models(models: Sequence[Held], *, used_bytes: int, full_bytes: int) -> Iterator[Piece]:
    """Files that several of them share are counted in each: then all shrink alike, so that they fit what is used."""
    total = sum(model.size_bytes for model in models)
    scale = min(1.0, used_bytes / total) if total else 1.0
    ordered = sorted(models, key=lambda model: (-model.size_bytes, model.name))
    large = [model for model in ordered if model.size_bytes * scale >= LEAST_SHARE * full_bytes][:MOST_MODELS]
    small = ordered[len(large) :]
    if len(small) == 1:
        large, small = [*large, *small], []
    for model in large:
        yield Piece("model", model.name, round(model.size_bytes * scale), address=model.address)
    if small:
        size_bytes = round(sum(model.size_bytes for model in small) * scale)
        yield Piece("rest", f"{len(small)} {'smaller ' if large else ''}models", size_bytes)


def _room_in_limit(figures: CacheFigures, *, full_bytes: int) -> Iterator[Piece]:
    yield Piece("reserved", "reserved", figures.reserved_bytes)
    left = max(0, full_bytes - figures.used_bytes - figures.reserved_bytes)
    on_disk = min(left, max(0, figures.disk_free_bytes - figures.reserved_bytes))
    yield Piece("free", "free", on_disk)
    yield Piece("blocked", "of its limit, for which the disk has no room", left - on_disk)


def _room_on_disk(figures: CacheFigures) -> Iterator[Piece]:
    total, used, free = figures.disk_total_bytes, figures.disk_used_bytes, figures.disk_free_bytes
    reserved = min(figures.reserved_bytes, free)
    yield Piece("others", "other files on the disk", max(0, used - figures.used_bytes))
    yield Piece("reserved", "reserved", reserved)
    yield Piece("free", "free", free - reserved)
    yield Piece("kept", "kept by the system", max(0, total - used - free))


def _marks(figures: CacheFigures, *, threshold: float, full_bytes: int) -> tuple[Mark, ...]:
    warns = Mark(
        "threshold",
        f"warns at {format_percent(threshold)}",
        at=_percent(round(figures.size_bytes * threshold), of=full_bytes),
    )
    if full_bytes <= figures.size_bytes:
        return (warns,)
    limit = Mark("limit", f"limit {format_bytes(figures.size_bytes)}", at=_percent(figures.size_bytes, of=full_bytes))
    return (limit,)


def draw_disk(figures: CacheFigures, *, ours_bytes: int) -> Bar:
    """The whole disk: what others have, this cache, what is promised, and what is left. `ours_bytes` is what the cache
    takes of it. The mark is as far as the cache may grow, where the disk is large enough for that."""
    total, free = figures.disk_total_bytes, figures.disk_free_bytes
    if not total:
        return Bar(())
    ours = min(ours_bytes, figures.disk_used_bytes)
    reserved = min(figures.reserved_bytes, free)
    others = figures.disk_used_bytes - ours
    parts = [
        Piece("others", "others", others),
        Piece("ours", "here", ours),
        Piece("reserved", "reserved", reserved),
        Piece("free", "free", free - reserved),
        Piece("kept", "kept by the system", max(0, total - figures.disk_used_bytes - free)),  # ext4 keeps 5 % for root
    ]
    end = total if figures.limit_bytes is None else others + figures.limit_bytes
    marks = (Mark("limit", "its limit", at=_percent(end, of=total)),) if end < total else ()
    return Bar(_place(parts, full_bytes=total), marks)


def _place(parts: Sequence[Piece], *, full_bytes: int) -> tuple[Piece, ...]:
    return tuple(
        replace(part, width=_percent(part.size_bytes, of=full_bytes), key=str(number))
        for number, part in enumerate(parts)
    )


def _percent(size_bytes: int, *, of: int) -> float:
    return round(size_bytes / of * 100, 2)
