"""Files beside and above the caches that nothing may touch, and what stands in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cachemgr.trees import picture

WORDS = "nobody may read or write this"


@contextmanager
def nothing_changes(around: Path, *, but: Sequence[Path] = ()) -> Iterator[Path]:
    """Plants canaries around the folders `but`, and looks at all there is outside of these before and after. Answers a
    folder of canaries."""
    canaries = around / "canary"
    for folder in (around, canaries, canaries / "deep"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "model.safetensors", "secret"):
            (folder / name).write_text(f"{WORDS} in {folder.name}")
    before = _picture(around, but=but)
    yield canaries
    assert _picture(around, but=but) == before


def _picture(around: Path, *, but: Sequence[Path]) -> dict[str, object]:
    left_out = tuple(str(folder.relative_to(around)) for folder in but)
    return {name: what for name, what in picture(around).items() if not name.startswith(left_out)}
