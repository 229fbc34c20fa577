"""`python -m registry.fetch`: an order as a line of JSON on stdin, JSON lines out.

`{"stage", "bytes", "total"}` twice a second, then `{"done": ...}` or `{"error": {"code", "message", "is_permanent",
"details"}}`. The other end of stdin is the master's life: without it, this ends. Whenever it ends, what has landed
stays for the next attempt; `{"forget": folder, "root": ...}` removes that.
"""

import json
import os
import signal
import sys
from typing import Any

from cachemgr.hands.__main__ import die_with_master, say
from registry.errors import HubError
from registry.fetch.forgetting import forget
from registry.fetch.order import read_order
from registry.fetch.work import fetch


def main() -> None:
    data = json.loads(sys.stdin.readline())
    die_with_master()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # a thread may hang, and there is nothing to put in order
    try:
        done = _do(data)
    except HubError as error:
        say(
            error={
                "code": error.code,
                "message": error.message,
                "is_permanent": error.is_permanent,
                "details": error.details,
            }
        )
        os._exit(1)
    say(done=done)
    os._exit(0)


def _do(data: dict[str, Any]) -> dict[str, Any]:
    if "forget" in data:
        return forget(data["root"], data["forget"])
    return fetch(read_order(data), token=os.environ.get("HF_TOKEN", ""), say=say)


if __name__ == "__main__":
    main()
