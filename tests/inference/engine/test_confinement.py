"""An engine gives up what it does not need before it reads anything of a model, and says what it could not give up."""

import importlib.util
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from inference.engine.confinement import FOR_THE_CHOICE, Identity, choose, explain, list_identities
from inference.engine.kernel import CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID
from tests.inference.engine.conftest import (
    START_SECONDS,
    Engine,
    make_command,
    start_engine,
    takes_connections,
    wait_until,
)
from tests.inference.engine.test_lifetime import is_gone

MB = 10**6
ALL = frozenset(range(41))
ROOT, NOBODY, USER = Identity("root", 0, 0), Identity("nobody", 65534, 65534), Identity("user 1000", 1000, 1000)
PROJECT = Path(__file__).resolve().parents[3]
SYSTEM_PYTHON = Path("/usr/bin/python3.11")
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


# The decision


def names_of(identities: tuple[Identity, ...]) -> list[tuple[str, frozenset[int]]]:
    return [(each.name, each.keeps) for each in identities]


def test_an_ordinary_user_stays_what_it_is_without_any_capability() -> None:
    for capabilities in (frozenset[int](), ALL):
        found = list_identities(USER, nobody=NOBODY, capabilities=capabilities, has_threads=False)
        assert found == (USER,) and explain(USER, obstacles={}) == ""


def test_root_becomes_nobody_else_loses_all_capabilities_else_all_but_one() -> None:
    found = list_identities(ROOT, nobody=NOBODY, capabilities=ALL, has_threads=False)
    assert names_of(found) == [
        ("nobody", frozenset()),
        ("root", frozenset()),
        ("root", frozenset({CAP_DAC_READ_SEARCH})),
    ]
    assert explain(found[0], obstacles={}) == ""
    obstacles = {found[0]: "nobody cannot open /x"}
    assert choose(found, obstacles=obstacles) == found[1]
    assert explain(found[1], obstacles=obstacles) == "It runs as root, without capabilities: nobody cannot open /x."
    assert choose(found, obstacles=dict.fromkeys(found, "it cannot")) == found[2]


@pytest.mark.parametrize("lacking", [CAP_SETUID, CAP_SETGID, CAP_KILL])
def test_who_could_not_end_its_engine_any_more_does_not_let_it_become_another(lacking: int) -> None:
    found = list_identities(ROOT, nobody=NOBODY, capabilities=ALL - {lacking}, has_threads=False)
    assert {each.name for each in found} == {"root"}
    assert "has not the rights to become another user" in explain(choose(found, obstacles={}), obstacles={})


def test_a_standby_that_cannot_become_nobody_says_what_it_keeps() -> None:
    found = list_identities(ROOT, nobody=NOBODY, capabilities=ALL, has_threads=True)
    assert names_of(found) == [("nobody", frozenset()), ("root", FOR_THE_CHOICE)]
    assert "with the rights that it waited with" in explain(found[1], obstacles={found[0]: "it cannot"})


# What a running engine has


def read_status(pid: int, *, thread: int | None = None) -> dict[str, str]:
    path = Path(f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status")
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def assert_is_powerless(pid: int) -> None:
    """Each of its threads."""
    for thread in psutil.Process(pid).threads():
        status = read_status(pid, thread=thread.id)
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}, status


def has_network(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()


def allows_namespaces() -> bool:
    done = subprocess.run(
        ["unshare", "--net", "true"] if os.getuid() == 0 else ["unshare", "-Urn", "true"], check=False
    )
    return done.returncode == 0


def test_an_engine_has_no_capability_no_network_and_limits(engine: Engine) -> None:
    pid = engine.process.pid
    assert_is_powerless(pid)
    assert has_network(pid) != allows_namespaces()
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0), limits
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] <= 4096
    assert 0 < resource.prlimit(pid, resource.RLIMIT_NPROC)[1] <= 8192


def test_it_says_what_is_open_in_it(engine: Engine) -> None:
    said = engine.client.get("/health").json()["exposures"]
    runs_as_root = read_status(engine.process.pid)["Uid"].split()[0] == "0"
    assert len([each for each in said if each.startswith("It runs as root, without capabilities: ")]) == runs_as_root
    assert len([each for each in said if each.startswith("It can reach the network")]) == has_network(
        engine.process.pid
    )
    assert len(said) == runs_as_root + has_network(engine.process.pid)


def test_an_ordinary_users_engine_is_confined_as_well(model_folder: Path) -> None:
    """It has no rights to give up, and gets its network taken by a namespace of its own."""
    if os.getuid() != 0:
        pytest.skip("`engine` above is one.")
    with engine_of("nobody", model_folder) as engine:
        assert_is_powerless(engine.process.pid)
        assert not has_network(engine.process.pid)
        assert engine.client.get("/health").json()["exposures"] == []
        assert engine.chat("Hello", max_tokens=2).json()["usage"]["completion_tokens"] == 2


@only_root
def test_root_lets_it_become_nobody_where_nobody_can_read_the_model(model_folder: Path) -> None:
    with engine_of("root", model_folder) as engine:
        pid = engine.process.pid
        status = read_status(pid)
        assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4 and not status["Groups"].strip()
        assert_is_powerless(pid)
        assert not has_network(pid)
        assert engine.client.get("/health").json()["exposures"] == []
        assert engine.chat("Hello", max_tokens=2).json()["usage"]["completion_tokens"] == 2


@only_root
def test_it_stays_root_where_nobody_cannot_read_the_model_and_says_so(model_folder: Path) -> None:
    with engine_of("root", model_folder, mode=0o700) as engine:
        assert read_status(engine.process.pid)["Uid"].split()[0] == "0"
        assert_is_powerless(engine.process.pid)
        (said,) = engine.client.get("/health").json()["exposures"]
        assert said.startswith("It runs as root, without capabilities: nobody cannot open /")


@only_root
def test_as_nobody_it_still_dies_with_its_parent(model_folder: Path) -> None:
    """A change of user takes back what the kernel was told."""
    parent = "import subprocess; e = subprocess.Popen({command}); print(e.pid, flush=True); e.wait()"
    with readable_copy(model_folder) as folder:
        command = system_command(folder / "s", model_path=folder / "model")
        process = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", parent.format(command=command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=system_environment(),
            cwd=PROJECT,
        )
        with process:
            pid = int(process.stdout.readline())
            wait_until(lambda: read_status(pid)["Uid"].startswith("65534"), seconds=START_SECONDS)
            process.kill()  # its pipe is ours, and stays open
            wait_until(lambda: is_gone(pid), seconds=5)


@contextmanager
def engine_of(user: str, model_folder: Path, *, mode: int = 0o755) -> Iterator[Engine]:
    """Started by this user, with the system's Python, which everybody can read."""
    with readable_copy(model_folder, mode=mode) as folder, (folder / "errors").open("wb") as errors:
        if user == "nobody":
            os.chown(folder, NOBODY.uid, NOBODY.gid)
        setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if user == "nobody" else []
        process = subprocess.Popen(
            [*setpriv, *system_command(folder / "s", model_path=folder / "model")],
            stdin=subprocess.PIPE,
            stderr=errors,
            env=system_environment(),
            cwd=PROJECT,
        )
        transport = httpx2.HTTPTransport(uds=str(folder / "s"))
        try:
            with httpx2.Client(transport=transport, base_url="http://engine", timeout=60) as client:
                engine = Engine(process, folder / "s", client, folder / "errors")
                wait_until(lambda: is_ready(engine), seconds=START_SECONDS)
                yield engine
        finally:
            process.kill()
            process.wait()
            process.stdin.close()


def is_ready(engine: Engine) -> bool:
    assert engine.process.poll() is None
    return takes_connections(engine.socket) and engine.client.get("/health").status_code == 200


@contextmanager
def readable_copy(model_folder: Path, *, mode: int = 0o755) -> Iterator[Path]:
    if not (SYSTEM_PYTHON.exists() and SYSTEM_PYTHON.name == f"python{sys.version_info[0]}.{sys.version_info[1]}"):
        pytest.skip("This machine has no Python of this version that everybody can read.")
    with tempfile.TemporaryDirectory(prefix="engine-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(model_folder, folder / "model")
        (folder / "model").chmod(mode)
        yield folder


def system_command(socket_path: Path, *, model_path: Path) -> list[str]:
    _, *words = make_command(socket_path, model_path=model_path)
    return [str(SYSTEM_PYTHON), *words]


def system_environment() -> dict[str, str]:
    torch = importlib.util.find_spec("torch")
    libraries = Path(torch.origin).parents[1]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{PROJECT}:{libraries}",
        "OMP_NUM_THREADS": "1",
        "HOME": "/nonexistent",
    }


# A standby


def test_a_standby_is_confined_before_it_knows_its_model(tmp_path: Path, model_folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with readable_copy(model_folder) as folder, theirs, ours:
        process = subprocess.Popen(
            [str(SYSTEM_PYTHON), "-m", "inference.engine", "--standby"],
            stdin=theirs.fileno(),
            env=system_environment(),
            cwd=PROJECT,
        )
        try:
            maps = Path(f"/proc/{process.pid}/maps")
            wait_until(lambda: "libtorch_cpu" in maps.read_text(), seconds=START_SECONDS)
            status = read_status(process.pid)
            assert status["NoNewPrivs"] == "1" and (int(status["CapBnd"], 16) == 0 or os.getuid() != 0)
            assert has_network(process.pid) != allows_namespaces()
            _, _, _, *words = make_command(folder / "s", model_path=folder / "model")
            ours.sendall(json.dumps({"arguments": words}).encode() + b"\n")
            with httpx2.Client(
                transport=httpx2.HTTPTransport(uds=str(folder / "s")), base_url="http://e", timeout=60
            ) as client:
                engine = Engine(process, folder / "s", client, folder / "s")
                wait_until(lambda: is_ready(engine), seconds=START_SECONDS)
                assert client.get("/health").json()["exposures"] == []
            assert read_status(process.pid)["Uid"].split()[0] == ("65534" if os.getuid() == 0 else str(os.getuid()))
            assert_is_powerless(process.pid)
        finally:
            process.kill()
            process.wait()


# Memory


def test_what_nobody_has_is_no_memory_and_costs_its_own_request(copied_folder: Path) -> None:
    """The kernel would hand it out, as one that never refuses does for any number, and kill somebody for it later."""
    (copied_folder / "chat_template.jinja").write_text("{{ 'a'|center(4000000000) }}")
    with start_engine(copied_folder, "--memory-limit", str(3000 * MB)) as engine:
        refused = engine.chat("Hello")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "chat_template_error"), refused.text
        assert "MemoryError" in refused.json()["error"]["message"]
        assert engine.post("/v1/completions", prompt="The sea", max_tokens=2).status_code == 200


def test_an_engine_needs_little_of_the_room_that_it_has(engine: Engine) -> None:
    """What counts against the limit, of a tiny model that was in use: the room above what is needed is 5 GB."""
    engine.chat("Hello", max_tokens=2)
    kilobytes = int(read_status(engine.process.pid)["VmData"].split()[0])
    assert kilobytes * 1000 < 2000 * MB
