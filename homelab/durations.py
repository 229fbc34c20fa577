"""Times as people write them: in `.env`, in a request's `keep_alive`, in the settings of a model. Pure."""

import re

FOR_EVER = -1.0

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_LONGEST_SECONDS = 1e9  # thirty years: a number that every clock can add


def parse_duration(text: str) -> float | None:
    """`10m`, `300`, `1.5h`, `0` -> seconds; whatever begins with - is FOR_EVER. None for what is no time."""
    text = text.strip()
    if text.startswith("-"):
        return FOR_EVER if _DURATION.fullmatch(text[1:]) else None
    match = _DURATION.fullmatch(text)
    return min(float(match[1]) * _SECONDS[match[2]], _LONGEST_SECONDS) if match else None
