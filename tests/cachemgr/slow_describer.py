"""A describer for the child that looks at a drive: it tells the names in a folder, and hangs where one says so."""

import time
from pathlib import Path


def describe(folder: str) -> list[str]:
    names = sorted(path.name for path in Path(folder).iterdir())
    if "hang" in names:
        time.sleep(600)
    return names
