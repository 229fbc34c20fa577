"""`python -m cachemgr.hands`: one order in, lines out.

The order is `{"task": name, ...}`. Lines: `{"stage", "bytes", "total"}` while bytes move and `{"alive": true}` while a
drive answers; then `{"done": {...}}`, or `{"error": {"code", "message", "is_permanent"}}`. The other end of stdin is
the master's life: without it, this ends.
"""

import importlib
import json
import os
import signal
import sys
import threading
from typing import Any

from cachemgr.hands.errors import as_trouble
from cachemgr.hands.telling import pulse

TASKS = ("find", "move", "verify", "trash", "clean")
"""Each is a module beside this one, with `run(order, say=...)`, which answers what is done."""


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def die_with_master() -> None:
    def wait_for_end() -> None:
        while sys.stdin.readline():
            continue
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def main() -> int:
    order = json.loads(sys.stdin.readline())
    die_with_master()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    told = _do(order)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to be cleaned up
    say(**told)
    return 0 if "done" in told else 1


def _do(order: dict[str, Any]) -> dict[str, Any]:
    task = order.pop("task")
    if task not in TASKS:
        raise SystemExit(f"There is no task {task!r}: {', '.join(TASKS)}.")
    module = importlib.import_module(f"cachemgr.hands.{task}")
    try:
        with pulse.heard_by(say):
            return {"done": module.run(order, say=say)}
    except Exception as error:
        trouble = as_trouble(error)
        told = {"code": trouble.code, "message": trouble.message, "is_permanent": trouble.is_permanent}
        return {"error": told}


if __name__ == "__main__":
    sys.exit(main())
