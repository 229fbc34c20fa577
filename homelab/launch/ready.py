"""Says when the web process answers, then ends. Runs alone, on the standard library.

Arguments: the URL to ask, the address to show, the time of the start, what to say then, the folder with the logs.
"""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.05


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until(condition: Callable[[], bool], *, patience_seconds: float, is_wanted: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline and is_wanted():
        if condition():
            return True
        time.sleep(PAUSE_SECONDS)
    return False


def main(url: str, address: str, started: str, steps: str, logs: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    supervisor = os.getppid()

    def is_wanted() -> bool:
        return os.getppid() == supervisor

    if wait_until(lambda: answers(url), patience_seconds=PATIENCE_SECONDS, is_wanted=is_wanted):
        print(f"Ready at {address} after {time.time() - float(started):.1f} s.{steps}", flush=True)
    elif is_wanted():
        print(f"The web process does not answer after {PATIENCE_SECONDS} s; see {logs}/web.log", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
