"""Prepares a start step by step, then becomes the supervisor of all processes.

Every step that fails ends in a sentence on stderr and exit code 2. The settings are imported late, because the
options and the demo change the environment that they read.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from homelab.errors import HomelabError
from homelab.launch import arguments, demo, programs
from homelab.launch.lock import hold_lock
from homelab.launch.openness import Openness, describe_openness
from homelab.launch.prepare import prepare_database, prepare_first_key, system_check_hints
from homelab.web import WRONG_START, bind_sockets

HERE = Path(__file__).resolve().parent


def main() -> int:
    given = arguments.parse(sys.argv[1:])
    try:
        return start(given)
    except (ImproperlyConfigured, HomelabError) as error:
        print(f"The server cannot start: {error}", file=sys.stderr)
    except OSError as error:
        print(f"The server cannot start: {error.filename or 'the system'}: {error.strerror}.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return WRONG_START


def start(given: arguments.Arguments) -> int:
    """Does not return when all goes well: this process becomes the supervisor."""
    started = time.time()
    with ExitStack() as clean_up:
        show = None
        if given.demo:
            show = demo.make_demo()
            clean_up.callback(shutil.rmtree, show.folder, ignore_errors=True)
            demo.enter(show)
        apply_options(given)
        from homelab import settings

        hold_lock(settings.DATA_DIR / "server.lock")
        for sock in bind_sockets(settings.HOST, port=settings.PORT):
            sock.close()
        if show:
            print("Making the demo's two models (about half a minute) ...", flush=True)
            demo.make_models(show)
        prepare_database()
        for hint in system_check_hints():
            print(f"Hint: {hint}")
        supervise(started=started, show=show, first_key=prepare_first_key())
    return 0


def apply_options(given: arguments.Arguments) -> None:
    options = {"PORT": given.port, "HOST": given.host, "DATA_DIR": given.data_dir}
    os.environ.update({name: str(value) for name, value in options.items() if value is not None})
    os.environ["DJANGO_SETTINGS_MODULE"] = "homelab.settings"
    os.environ["PYTHONUNBUFFERED"] = "1"


def supervise(*, started: float, show: demo.Demo | None, first_key: str) -> None:
    from homelab import settings

    config = programs.write_config(demo_hub=show)
    address = programs.web_address(settings.HOST, port=settings.PORT)
    print(f"Homelab LLM Server: {address}")
    print(f"  data  {settings.DATA_DIR}\n  logs  {config.logs_folder}")
    if first_key:
        print(f"  key   {first_key} (the first API key, an admin's, for other machines)")
    for line in who_may_come():
        print(line)
    print("Ctrl-C stops it.", flush=True)
    steps = demo.next_steps(address) if show else ""
    poll = programs.local_address(settings.HOST, port=settings.PORT)
    # A child of this process, and so of the supervisor that it is about to become.
    subprocess.Popen(
        [sys.executable, "-P", HERE / "ready.py", f"{poll}/health", address, str(started), steps, config.logs_folder]
    )
    os.chdir(settings.BASE_DIR)
    command = [sys.executable, "-P", str(HERE / "supervise.py"), str(config.path)]
    os.execv(sys.executable, command + ([str(show.folder)] if show else []))  # noqa: S606 (no shell is meant)


def who_may_come() -> list[str]:
    from homelab import settings

    return describe_openness(
        Openness(
            host=settings.HOST,
            port=settings.PORT,
            trusts_local=settings.LOCAL_TRUST,
            wants_https=settings.HTTPS,
            own_names=settings.OWN_NAMES,
            proxies=settings.TRUSTED_PROXIES,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
