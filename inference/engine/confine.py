"""What an engine does to itself before it imports a library or reads a model: see docs/decisions/0016.

First `shut_in`, before there is a thread; then, when the model is known and the socket is open, `become`. What this
machine does not allow is left, and said: each of these sentences is an exposure.
"""

import importlib.util
import os
import pwd
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from inference.engine import kernel
from inference.engine.confinement import FOR_THE_CHOICE, Identity, choose, explain, list_identities

_MOST_FILES, _MOST_THREADS = 4096, 8192
_NOBODY = 65534
_DEVICES = Path("/dev")
_GPU = re.compile(r"nvidia\d+|nvidiactl|nvidia-uvm")
_MOST_BYTES_OF_A_REASON = 4096

Needed = tuple[Path, int]
"""A path, and how it has to be open to an engine: as for os.access."""


class Confinement:
    """`exposures`: what is not as it should be, in sentences."""

    def __init__(self) -> None:
        self.exposures: list[str] = []
        self._capabilities: frozenset[int] = frozenset()

    def shut_in(self) -> None:
        """Call it in the first thread, before there is another. Raises OSError where the kernel refuses what everybody
        may do."""
        self._capabilities = kernel.read_capabilities()
        _wake_gpu()
        self._leave_network()
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, _MOST_FILES)
        _limit(resource.RLIMIT_NPROC, _MOST_THREADS)
        kernel.forbid_new_privileges()
        if kernel.CAP_SETPCAP in kernel.read_capabilities():
            kernel.forget_bounds()
        kernel.keep_capabilities(FOR_THE_CHOICE if os.getuid() == 0 else ())

    def become(self, model_path: str, *, device: str, settle: Callable[[], object] | None = None) -> None:
        """Whoever may read this folder and has the fewest rights. A standby has threads: it `settle`s them before it
        changes its user under their feet."""
        has_threads = settle is not None
        identities = list_identities(_own(), nobody=_nobody(), capabilities=self._capabilities, has_threads=has_threads)
        obstacles: dict[Identity, str] = {}
        if len(identities) > 1:
            needed = [*_list_code(), *_list_files(Path(model_path)), *_list_devices(device)]
            obstacles = dict(_find_obstacles(identities, needed=needed))
        chosen = choose(identities, obstacles=obstacles)
        if settle is not None and chosen.uid != os.getuid():
            settle()
        _turn_into(chosen)
        self._note(explain(chosen, obstacles=obstacles))

    def _leave_network(self) -> None:
        """Root does it without a user namespace: there would be no nobody in it."""
        leave = kernel.leave_network if os.getuid() == 0 else kernel.leave_network_as_user
        try:
            leave()
        except OSError as error:
            self._note(f"It can reach the network: this machine lets it have none of its own ({error.strerror}).")

    def _note(self, exposure: str) -> None:
        if exposure:
            self.exposures.append(exposure)


def limit_memory(limit_bytes: int) -> None:
    """What it writes to, mapped files among it: a request beyond that fails, and nobody else is killed for it."""
    _limit(resource.RLIMIT_DATA, limit_bytes)


def _limit(kind: int, most: int) -> None:
    """For good. One that is lower already stays."""
    lowest = min([most, *(each for each in resource.getrlimit(kind) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(kind, (lowest, lowest))


def _wake_gpu() -> None:
    """CUDA makes its devices with a setuid program when it is first used after a start of the machine; soon none gives
    any rights here."""
    modprobe = shutil.which("nvidia-modprobe")
    if modprobe and Path("/proc/driver/nvidia").is_dir() and not (_DEVICES / "nvidia-uvm").exists():
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([modprobe, "-u", "-c0"], timeout=10, check=False, stdin=subprocess.DEVNULL)


# Who it becomes


def _own() -> Identity:
    uid = os.getuid()
    return Identity("root" if uid == 0 else f"user {uid}", uid, os.getgid())


def _nobody() -> Identity:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity("nobody", _NOBODY, _NOBODY)
    return Identity("nobody", entry.pw_uid, entry.pw_gid)


def _turn_into(identity: Identity) -> None:
    """The C library does it for all threads; only to lay down capabilities each has to do for itself."""
    if identity.uid != os.getuid():
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    kernel.keep_capabilities(identity.keeps)


def _find_obstacles(identities: Sequence[Identity], *, needed: Sequence[Needed]) -> Iterator[tuple[Identity, str]]:
    """Up to the first that has none."""
    for identity in identities:
        obstacle = _try(identity, needed=needed)
        if not obstacle:
            return
        yield identity, obstacle


def _try(identity: Identity, *, needed: Sequence[Needed]) -> str:
    """What keeps it from working, found out by a child that really becomes it; "" if nothing does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(writing, identity, needed=needed)
    os.close(writing)
    with open(reading, "rb") as answer:
        obstacle = answer.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return obstacle if status == 0 else f"nobody knows what {identity.name} can open"


def _answer(writing: int, identity: Identity, *, needed: Sequence[Needed]) -> NoReturn:
    """In the child, which is no engine: it ends here."""
    try:
        obstacle = _find_obstacle(identity, needed=needed)
        os.write(writing, obstacle.encode(errors="replace")[:_MOST_BYTES_OF_A_REASON])
    except BaseException:  # noqa: BLE001 - nothing of the engine may go on here
        os._exit(1)
    os._exit(0)


def _find_obstacle(identity: Identity, *, needed: Sequence[Needed]) -> str:
    try:
        _turn_into(identity)
    except OSError as error:
        return f"it cannot become {identity.name} ({error.strerror})"
    closed = next((path for path, mode in needed if not os.access(path, mode)), None)
    return f"{identity.name} cannot open {closed}" if closed else ""


# What it needs


def _list_code() -> Iterator[Needed]:
    """Of Python, of ours and of the libraries, a file each."""
    specs = (importlib.util.find_spec(name) for name in ("torch", "transformers"))
    origins = (spec.origin for spec in specs if spec is not None and spec.origin is not None)
    yield from ((Path(name), os.R_OK) for name in (os.__file__, __file__, *origins))


def _list_files(folder: Path) -> Iterator[Needed]:
    """What is not there, or hangs in the air, is told by whoever loads it."""
    for path in (folder, *folder.rglob("*")):
        if os.access(path, os.F_OK):
            yield path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK


def _list_devices(device: str) -> Iterator[Needed]:
    """Mostly everybody may use them; here and there a group."""
    if device != "cpu":
        yield from ((path, os.R_OK | os.W_OK) for path in _DEVICES.iterdir() if _GPU.fullmatch(path.name))
