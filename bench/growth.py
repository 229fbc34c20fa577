"""Draws how times grow, as a small SVG that is read on light and on dark pages."""

import math
from collections.abc import Mapping
from html import escape

Panel = dict[str, list[tuple[int, float]]]  # by name: amounts and milliseconds, both above zero

_WIDTH, _HEIGHT = 900, 420
_PLOT_WIDTH, _PLOT_HEIGHT, _TOP, _LEFT, _GAP = 370, 280, 40, 60, 450
_COLOURS = ("#d1495b", "#8a8f98", "#2a7fd4", "#2a9d5c")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.axis{stroke:#8c959f;stroke-width:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.axis{stroke:#6e7681}}"
)


def draw_growth(panels: Mapping[str, Panel]) -> str:
    """Both axes are logarithmic: what grows in proportion is a straight line that rises by 45 degrees."""
    points = [point for panel in panels.values() for line in panel.values() for point in line]
    decades = (_floor(min(ms for _, ms in points)), _floor(max(ms for _, ms in points)) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Milliseconds of a scan over the size of the cache</title><style>{_STYLE}</style>",
    ]
    for number, (title, panel) in enumerate(panels.items()):
        parts += _draw_panel(panel, title=title, left=_LEFT + number * _GAP, decades=decades)
    parts += _draw_legend(list(next(iter(panels.values()))))
    return "\n".join([*parts, "</svg>", ""])


def _floor(value: float) -> int:
    return math.floor(math.log10(value))


def _draw_panel(panel: Panel, *, title: str, left: int, decades: tuple[int, int]) -> list[str]:
    low, high = decades
    amounts = [amount for amount, _ in next(iter(panel.values()))]
    bottom = _TOP + _PLOT_HEIGHT

    def x(amount: float) -> float:
        return left + _PLOT_WIDTH * math.log(amount / amounts[0]) / math.log(amounts[-1] / amounts[0])

    def y(milliseconds: float) -> float:
        return bottom - _PLOT_HEIGHT * (math.log10(milliseconds) - low) / (high - low)

    parts = [_text(left, _TOP - 14, f"milliseconds over {title}")]
    for decade in range(low, high + 1):
        level = y(10**decade)
        parts.append(f'<path class="axis" d="M{left} {level:.1f}h{_PLOT_WIDTH}"/>')
        parts.append(_text(left - 6, level + 4, f"{10**decade:g}", anchor="end"))
    parts += [_text(x(amount), bottom + 18, f"{amount:,}", anchor="middle") for amount in amounts]
    for colour, line in zip(_COLOURS, panel.values(), strict=True):
        places = " ".join(f"{x(amount):.1f},{y(milliseconds):.1f}" for amount, milliseconds in line)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts


def _draw_legend(names: list[str]) -> list[str]:
    parts, left, top = [], _LEFT, _HEIGHT - 28
    for colour, name in zip(_COLOURS, names, strict=True):
        parts.append(f'<path d="M{left} {top - 4}h20" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(left + 26, top, name))
        left += 70 + 7 * len(name)
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
