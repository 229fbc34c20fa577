"""supervisord with three differences. Runs alone: it imports nothing of the project and stays small.

A terminal that closes stops the server (supervisord would start everything again), the terminal hears of the
stop, and a demo's folder is removed at the end. Arguments: the configuration, and the folder to remove.
"""

import shutil
import signal
import sys
from types import FrameType

from supervisor.options import ServerOptions
from supervisor.supervisord import go


class Options(ServerOptions):
    def setsignals(self) -> None:
        super().setsignals()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.signal_receiver.receive(signal.SIGTERM, frame)


def say(text: str) -> None:
    """A terminal that is gone must not keep the processes from being stopped."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open("/dev/null", "w", encoding="ascii")  # noqa: SIM115 (kept until the exit)


def main(config: str, folder_to_remove: str = "") -> None:
    options = Options()
    options.realize(["--nodaemon", "--silent", "--configuration", config], doc=__doc__)
    options.first = True
    options.test = False
    try:
        go(options)
    finally:
        options.close_httpservers()
        if folder_to_remove:
            shutil.rmtree(folder_to_remove, ignore_errors=True)
        say("Stopped.")


if __name__ == "__main__":
    main(*sys.argv[1:])
