"""The whole server, started as a user starts it: what it lets in, what it survives, what it leaves behind."""

import json
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.server import (
    PROJECT,
    STOP_SECONDS,
    Server,
    free_port,
    make_environment,
    refusal,
    running_server,
    start_server,
    wait_for,
)
from tests.processes import is_over

pytestmark = pytest.mark.e2e

PROGRAMS = ["broker", "web", "worker", "transfers"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do it no harm."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


# What it lets in


def talk(server: Server, *lines: str, address: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Sends the lines as a request's head, byte for byte; status, headers and body of the answer."""
    with socket.create_connection((address, server.port), timeout=10) as sock:
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        answer = b""
        while part := sock.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, value in (h.split(": ", 1) for h in headers)}, body


STATS = "GET /api/cache/stats HTTP/1.1"
CREATE = "POST /api/models HTTP/1.1"
BAD_HOSTS = ["evil.example", "127.0.0.1.nip.io", "localhost.evil.com", "foo.localhost", "0.0.0.0:8000", ""]
BAD_HOSTS += ["localhost:8000@evil"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_foreign_host_is_refused_in_json(server: Server, host: str, address: str) -> None:
    status, _, body = talk(server, STATS, f"Host: {host}", address=address)
    assert status == 400
    assert json.loads(body)["error"]["code"] == "bad_host"


@pytest.mark.parametrize("second", ["evil.example", "localhost"])
def test_two_host_lines_are_refused_in_json(server: Server, second: str) -> None:
    status, _, body = talk(server, STATS, "Host: localhost", f"Host: {second}")
    assert status == 400
    assert json.loads(body)["error"]["message"]


@pytest.mark.parametrize("host", ["LOCALHOST", "localhost.", "localhost:8000", "[::1]:8000", "127.0.0.1"])
def test_this_machine_needs_no_key_under_any_of_its_names(server: Server, host: str) -> None:
    status, _, body = talk(server, STATS, f"Host: {host}")
    assert status == 200
    assert json.loads(body)["primary"]["cache_location"] == "primary"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_answers_on_both_loopback_addresses(server: Server, address: str) -> None:
    assert talk(server, "GET /health HTTP/1.1", "Host: localhost", address=address)[0] == 200


FOREIGN_PAGES = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]


@pytest.mark.parametrize("sign", FOREIGN_PAGES)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "GET"])
def test_other_sites_pages_are_refused_and_get_no_cors_header(server: Server, method: str, sign: str) -> None:
    lines = [f"{method} /api/models HTTP/1.1", "Host: localhost", sign, "Access-Control-Request-Method: POST"]
    status, headers, body = talk(server, *lines)
    assert status == 403
    assert json.loads(body)["error"]["code"] == "cross_origin"
    assert not [name for name in headers if name.startswith("access-control-")]


def test_our_own_pages_are_let_in(server: Server) -> None:
    assert talk(server, STATS, "Host: localhost", "Sec-Fetch-Site: same-origin")[0] == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "Tailscale-User-Login: me"])
def test_what_a_proxy_passed_on_is_refused(server: Server, header: str) -> None:
    status, _, body = talk(server, STATS, "Host: localhost", header)
    assert status == 403
    assert json.loads(body)["error"]["code"] == "forwarded_request"


def test_a_refusal_under_v1_has_the_shape_of_openai(server: Server) -> None:
    status, _, body = talk(server, "GET /v1/models HTTP/1.1", "Host: evil.example")
    error = json.loads(body)["error"]
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", None)


def test_health_is_open_to_all(server: Server) -> None:
    lines = ["GET /health HTTP/1.1", "Host: evil.example", "X-Forwarded-For: 10.0.0.1"]
    assert talk(server, *lines)[0] == 200


def test_only_the_web_process_listens_and_only_on_loopback(server: Server) -> None:
    listening = {
        (process.environ().get("SUPERVISOR_PROCESS_NAME"), connection.laddr)
        for process in server.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }
    assert listening == {("web", ("127.0.0.1", server.port)), ("web", ("::1", server.port))}


# What lies in its folder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_its_folders_and_secrets_are_the_owners_alone(server: Server) -> None:
    folders = [path for path in (".", "run", "logs", "broker") if mode_of(server.data_dir / path) != 0o700]
    files = ["secret_key", "first-api-key", "db.sqlite3", "server.lock", "supervisord.conf"]
    assert folders == []
    assert [name for name in files if mode_of(server.data_dir / name) != 0o600] == []
    control = [path for path in server.data_dir.rglob("*") if path.is_socket() and mode_of(path) & 0o077]
    assert control == []


def test_each_program_has_its_log(server: Server) -> None:
    logs = {path.name for path in (server.data_dir / "logs").iterdir()}
    assert {f"{name}.log" for name in PROGRAMS} | {"supervisord.log"} <= logs


def test_the_terminal_shows_the_address_the_folders_and_nothing_else(server: Server) -> None:
    wait_for(lambda: "Ready" in server.output())
    lines = [line for line in server.output().splitlines() if not line.startswith("Hint: ")]
    assert lines[0] == f"Homelab LLM Server: http://localhost:{server.port}"
    assert [line.split() for line in lines[1:3]] == [
        ["data", str(server.data_dir)],
        ["logs", str(server.data_dir / "logs")],
    ]
    assert lines[3].split()[:2] == ["key", str(server.data_dir / "first-api-key")]
    assert lines[4] == "Ctrl-C stops it."
    assert lines[5].startswith(f"Ready at http://localhost:{server.port} after ")
    assert len(lines) == 6


# Starts that are refused


def assert_refused(answer: tuple[int, str], *sentences: str) -> None:
    code, errors = answer
    assert code == 2
    assert errors.splitlines()[-1].startswith("The server cannot start: ")
    assert "Traceback" not in errors
    assert [sentence for sentence in sentences if sentence not in errors] == []


def test_a_second_start_with_the_same_folder_is_refused(server: Server) -> None:
    environment = make_environment(server.data_dir.parent, port=free_port())
    assert_refused(refusal(environment), f"(pid {server.process.pid})", str(server.data_dir))
    assert server.is_up()


def test_a_taken_port_is_refused_with_the_holder_and_the_way_out(server: Server, tmp_path: Path) -> None:
    answer = refusal(make_environment(tmp_path, port=server.port))
    assert_refused(answer, f"Port {server.port} is taken by ", "(pid ", f"PORT={server.port + 1} script/server")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PRIMARY_CACHE_LIMIT_GB", "abc"),
        ("CACHE_WARNING_THRESHOLD", "nan"),
        ("PORT", "99999"),
        ("LOCAL_TRUST", "maybe"),
        ("DATA_DIR", "relative"),
        ("PRIMARY_CACHE_PATH", "relative"),
        ("DATABASE_URL", "nonsense"),
        ("HOST", "192.0.2.1"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("ALLOWED_HOSTS", "*"),
        ("HTTPS", "perhaps"),
    ],
)
def test_a_wrong_setting_is_a_sentence_with_its_name_and_value(tmp_path: Path, name: str, value: str) -> None:
    environment = make_environment(tmp_path, port=free_port()) | {name: value}
    assert_refused(refusal(environment), name, value)


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = make_environment(tmp_path, port=free_port(), DATA_DIR=str(tmp_path / "file" / "data"))
    assert_refused(refusal(environment), str(tmp_path / "file"))


def test_a_database_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    environment = make_environment(tmp_path, port=free_port())
    Path(environment["DATA_DIR"]).mkdir()
    (Path(environment["DATA_DIR"]) / "db.sqlite3").write_bytes(b"this is no database" * 1000)
    assert_refused(refusal(environment), "The database cannot be prepared", "file is not a database")


# Starts that are not


def test_a_missing_cache_does_not_stop_the_start(tmp_path: Path) -> None:
    missing = {"PRIMARY_CACHE_PATH": str(tmp_path / "not/there"), "SECONDARY_CACHE_PATH": "/mnt/not-there"}
    with running_server(tmp_path, **missing) as server:
        status, stats = server.get("/api/cache/stats")
        assert status == 200
        assert stats["secondary"]["cache_path"] == "/mnt/not-there"
        assert not Path("/mnt/not-there").exists()


@pytest.mark.parametrize("name", ['it\'s my "data" #1; $HOME', "deep/" * 40 + "er"], ids=["odd", "deep"])
def test_a_data_folder_may_have_an_odd_or_a_long_name(tmp_path: Path, name: str) -> None:
    if " #" in name:
        name = name.replace(" #", "#")
    with running_server(tmp_path / name) as server:
        for program in PROGRAMS:
            server.wait_for_program(program)


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    port = free_port()
    server = start_server(tmp_path, "--port", str(port), "--data-dir", str(tmp_path / "data"), PORT="1")
    server.port = port
    try:
        server.wait_until_up()
    finally:
        server.stop()


def test_the_script_starts_it_from_any_folder(tmp_path: Path) -> None:
    shown = subprocess.run([PROJECT / "script" / "server", "--help"], cwd=tmp_path, capture_output=True, check=True)
    assert b"--demo" in shown.stdout


# What it survives


def is_working(server: Server) -> bool:
    """The worker runs tasks again: beat's message went through the broker."""
    log = server.data_dir / "logs" / "worker.log"
    return "succeeded" in log.read_text()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, CACHE_MONITOR_INTERVAL_SECONDS="1") as running:
        yield running


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_killed_program_is_back_within_10_seconds(own_server: Server, name: str) -> None:
    first = own_server.wait_for_program(name)
    wait_for(lambda: is_working(own_server))
    log = own_server.data_dir / "logs" / "worker.log"
    first.kill()
    own_server.wait_for_program(name, other_than=first.pid, seconds=10)
    wait_for(own_server.is_up, seconds=10)
    log.write_text("")
    wait_for(lambda: is_working(own_server), seconds=20)


def test_a_killed_worker_takes_its_beat_with_it(own_server: Server) -> None:
    worker = own_server.wait_for_program("worker")
    [beat] = wait_for(worker.children)
    worker.kill()
    wait_for(lambda: is_over(beat), seconds=5)


def assert_nothing_is_left(server: Server) -> None:
    wait_for(lambda: not server.processes(), seconds=STOP_SECONDS)


def test_ctrl_c_stops_everything_within_10_seconds(own_server: Server) -> None:
    started = time.monotonic()
    own_server.press_ctrl_c()
    own_server.process.wait(STOP_SECONDS)
    assert_nothing_is_left(own_server)
    assert time.monotonic() - started < STOP_SECONDS
    assert own_server.output().rstrip().endswith("Stopped.")
    assert "Traceback" not in own_server.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_manager_and_a_closed_terminal_stop_it_too(own_server: Server, number: int) -> None:
    own_server.process.send_signal(number)
    own_server.process.wait(STOP_SECONDS)
    assert_nothing_is_left(own_server)


def test_ctrl_c_stops_it_while_a_client_is_connected(own_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", own_server.port)) as client:
        client.sendall(b"POST /api/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        own_server.press_ctrl_c()
        own_server.process.wait(STOP_SECONDS)
        assert_nothing_is_left(own_server)


def test_ctrl_c_stops_it_while_it_starts(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    try:
        wait_for(lambda: (server.data_dir / "server.lock").exists())
        server.press_ctrl_c()
        server.process.wait(STOP_SECONDS)
        assert_nothing_is_left(server)
        assert "Traceback" not in server.output()
    finally:
        server.stop()


def test_a_killed_supervisor_leaves_nothing_behind_and_a_new_start_works(own_server: Server) -> None:
    for name in PROGRAMS:
        own_server.wait_for_program(name)
    own_server.process.kill()
    own_server.process.wait()
    assert_nothing_is_left(own_server)
    with running_server(own_server.data_dir.parent, port=own_server.port) as second:
        assert second.get("/api/cache/stats")[0] == 200


def test_a_program_with_a_wrong_setting_does_not_write_to_the_terminal(own_server: Server) -> None:
    wait_for(lambda: "Ready" in own_server.output())
    before = own_server.output()
    web = own_server.wait_for_program("web")
    web.kill()
    own_server.wait_for_program("web", other_than=web.pid)
    assert own_server.output() == before


# The demo


def test_the_demo_offers_two_models_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "TMPDIR": str(tmp_path),
        "PRIMARY_CACHE_PATH": "/precious",
        "HF_TOKEN": "secret",
        "DATA_DIR": "/precious",
    }
    environment = make_environment(tmp_path / "user", port=port) | settings
    output_path = tmp_path / "terminal.txt"
    with open(output_path, "w", encoding="utf-8") as output:
        from tests.e2e.server import launch

        process = launch(environment, "--demo", output=output)
    server = Server(process=process, port=port, data_dir=Path("/unknown"), output_path=output_path)
    try:
        wait_for(lambda: "What to try" in server.output() or process.poll() is not None, seconds=120)
        assert process.poll() is None, server.output()
        [folder] = tmp_path.glob("homelab-demo-*")
        server.data_dir = folder / "data"
        assert_demo(server, folder)
    finally:
        server.stop()
    assert_nothing_is_left(server)
    assert list(tmp_path.glob("homelab-demo-*")) == []


def assert_demo(server: Server, folder: Path) -> None:
    assert mode_of(folder) == 0o700
    stats: Any = server.get("/api/cache/stats")[1]
    assert stats["primary"]["cache_path"] == str(folder / "fast-drive")
    assert stats["primary"]["limit_gb"] == 0.1
    hub = server.wait_for_program("hub")
    assert "HF_TOKEN" not in hub.environ()
    assert sorted(path.name for path in (folder / "hub" / "demo").iterdir()) == ["small-llama", "tiny-llama"]
    status, estimate = server.get("/api/models/estimate?hf_path=demo/tiny-llama")
    assert status == 200, estimate
