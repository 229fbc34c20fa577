"""The icons in the pages' font: those that a source of ours or of the admin theme names. `script/icons` cuts it.

    .venv/bin/python -m tests.web.icons

The whole Material Symbols are 290 KB of 4,000 icons; a name that is one of them and stands alone between quotes or tags
counts as used, so that a few more are in than are seen.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import unfold
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

PROJECT = Path(__file__).resolve().parents[2]
THEME = Path(unfold.__file__).parent
_FONT = Path("unfold/fonts/material-symbols/Material-Symbols-Outlined.woff2")
WHOLE_FONT, OUR_FONT = THEME / "static" / _FONT, PROJECT / "static" / _FONT
_OURS = ("templates", "static", "web", "homelab", "access", "cachemgr", "registry", "inference")
_WORD = re.compile(r"""(?<=["'>\s}])[a-z0-9_]+(?=["'<\s{])""")
_QUOTED = re.compile(r"""(?<=["'>}])[a-z0-9_]+(?=["'<{])""")


def icons_of(font: TTFont) -> dict[str, str]:
    """The glyph of each icon, by its name: a ligature of the name's letters."""
    letters = {glyph: chr(code) for code, glyph in font.getBestCmap().items()}
    return {
        "".join(letters[glyph] for glyph in (first, *ligature.Component)): ligature.LigGlyph
        for table in _ligature_tables(font)
        for first, ligatures in table.ligatures.items()
        for ligature in ligatures
    }


def _ligature_tables(font: TTFont) -> Iterator[Any]:
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            if hasattr(table, "ligatures"):
                yield table


def names_used(known: set[str]) -> set[str]:
    """Which of the known icons the sources name."""
    theme = _words([THEME], pattern=_WORD)
    return known & (theme | _words([PROJECT / name for name in _OURS], pattern=_QUOTED))


def _words(folders: list[Path], *, pattern: re.Pattern[str]) -> set[str]:
    paths = (path for folder in folders for path in folder.rglob("*") if path.suffix in {".html", ".py", ".js"})
    return {word for path in paths for word in pattern.findall(path.read_text(errors="ignore"))}


def cut() -> None:
    font = TTFont(WHOLE_FONT)
    icons = icons_of(font)
    used = names_used(set(icons))
    _drop_ligatures(font, kept={icons[name] for name in used})
    subsetter = Subsetter(Options(layout_features=["*"], drop_tables=["FFTM"]))
    subsetter.populate(text="".join(sorted(used)))
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(OUR_FONT)
    sys.stdout.write(f"{len(used)} icons, {OUR_FONT.stat().st_size / 1000:.0f} KB\n")


def _drop_ligatures(font: TTFont, *, kept: set[str]) -> None:
    """Else each icon that can be spelled with the letters of the others would stay."""
    for table in _ligature_tables(font):
        few = {first: [each for each in many if each.LigGlyph in kept] for first, many in table.ligatures.items()}
        table.ligatures = {first: many for first, many in few.items() if many}


if __name__ == "__main__":
    cut()
