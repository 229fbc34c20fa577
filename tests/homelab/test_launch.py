"""The launch: arguments, the lock, the supervisor's configuration, the demo's environment."""

import configparser
import os
import shlex
import stat
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.core import checks
from supervisor.options import ServerOptions

from homelab.launch import arguments, demo
from homelab.launch.lock import AlreadyRunning, hold_lock
from homelab.launch.openness import Openness, describe_openness
from homelab.launch.prepare import CannotStart, sentence
from homelab.launch.programs import Program, escape_command, local_address, render, web_address

# Arguments


def test_no_argument_leaves_all_to_the_settings() -> None:
    assert arguments.parse([]) == arguments.Arguments(demo=False, port=None, host=None, data_dir=None)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "abc", "8000.0", "8_000", "٣", ""])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        arguments.parse([f"--port={port}"])
    assert stopped.value.code == 2
    assert "a number from 1 to 65535 is wanted" in capsys.readouterr().err


def test_a_data_folder_is_relative_to_where_the_user_stands() -> None:
    assert arguments.parse(["--called-from", "/srv", "--data-dir", "../here"]).data_dir == Path("/here")


def test_an_absolute_data_folder_stays() -> None:
    assert arguments.parse(["--called-from", "/srv", "--data-dir", "/there"]).data_dir == Path("/there")


def test_the_demo_takes_no_data_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(["--demo", "--data-dir", "/there"])
    assert "leave --data-dir out" in capsys.readouterr().err


# The lock

HOLDER = "import sys; from pathlib import Path; from homelab.launch.lock import hold_lock\n"
HOLDER += "hold_lock(Path(sys.argv[1])); print('held', flush=True); {then}"
BECOME_ANOTHER_PROGRAM = "import os; os.execvp('cat', ['cat'])"


def start_holder(path: Path, *, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER.format(then=then), str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("then", ["sys.stdin.read()", BECOME_ANOTHER_PROGRAM])
def test_the_lock_holds_as_long_as_its_process_even_when_that_runs_another_program(tmp_path: Path, then: str) -> None:
    path = tmp_path / "server.lock"
    with start_holder(path, then=then) as holder:
        with pytest.raises(AlreadyRunning, match=rf"{tmp_path} runs already \(pid {holder.pid}\)"):
            hold_lock(path)
        holder.kill()
        holder.wait()
        os.close(hold_lock(path))


def test_the_lock_says_who_holds_it_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.lock"
    path.write_text("1234567890 from an earlier start\n")
    path.chmod(0o600)
    descriptor = hold_lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.close(descriptor)


# The supervisor's configuration

WORDS = [
    "plain",
    "two words",
    "50%",
    "%(here)s",
    "a ;b",
    "a #b",
    "it's",
    'say "x"',
    "",
    "back\\slash",
    "$HOME",
    "ü",
    "' ;'",
]


def read_by_supervisord(line: str) -> list[str]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand={line}\n")
    expansions = {f"ENV_{name}": value for name, value in os.environ.items()} | {"here": "/expanded"}
    return shlex.split(parser.get("program:x", "command") % expansions)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_a_command_reaches_the_program_as_it_is(word: str) -> None:
    words = ["/bin/program", word, "last"]
    assert read_by_supervisord(escape_command(words)) == words


def make_config(folder: Path) -> ServerOptions:
    programs = [
        Program("broker", ("/bin/broker",)),
        Program("web", ("/bin/web", "a b")),
        Program("worker", ("/bin/w",)),
    ]
    (folder / "logs").mkdir(parents=True)
    (folder / "supervisord.conf").write_text(render(programs, data_dir=folder, control_socket=folder / "x.sock"))
    options = ServerOptions()
    options.realize(["--nodaemon", "--configuration", str(folder / "supervisord.conf")], doc="")
    return options


@pytest.mark.parametrize("name", ["data", "my data", "it's", "a#b;c", "ünï", '"quoted"', "$HOME"])
def test_supervisord_reads_the_configuration_of_any_usual_folder(tmp_path: Path, name: str) -> None:
    options = make_config(tmp_path / name)
    logs = {config.stdout_logfile for group in options.process_group_configs for config in group.process_configs}
    assert logs == {str(tmp_path / name / "logs" / f"{program}.log") for program in ("broker", "web", "worker")}
    assert options.logfile == str(tmp_path / name / "logs" / "supervisord.log")


@pytest.mark.parametrize("name", ["100%", "a ;b", "a #b", "two\nlines"])
def test_a_folder_that_supervisord_cannot_write_down_is_a_sentence(name: str) -> None:
    with pytest.raises(CannotStart, match="use a folder without %"):
        render([], data_dir=Path("/srv") / name, control_socket=Path("/tmp/x.sock"))


def test_all_programs_stop_at_the_same_time_and_the_broker_after_them(tmp_path: Path) -> None:
    broker, rest = sorted(make_config(tmp_path / "data").process_group_configs)
    assert (broker.name, rest.name) == ("broker", "homelab")
    assert sorted(config.name for config in rest.process_configs) == ["web", "worker"]


def test_the_supervisor_listens_on_no_tcp_port(tmp_path: Path) -> None:
    [server] = make_config(tmp_path / "data").server_configs
    assert (server["file"], server["chmod"]) == (str(tmp_path / "data" / "x.sock"), 0o700)


# Addresses


@pytest.mark.parametrize(
    ("host", "shown", "asked"),
    [
        ("127.0.0.1", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("::1", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("::", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("10.77.0.1", "http://10.77.0.1:8000", "http://10.77.0.1:8000"),
        ("fd00::1", "http://[fd00::1]:8000", "http://[fd00::1]:8000"),
    ],
)
def test_the_address_for_people_and_the_one_for_programs(host: str, shown: str, asked: str) -> None:
    assert (web_address(host, port=8000), local_address(host, port=8000)) == (shown, asked)


# What is open to whom


def describe(**others) -> str:
    facts = {"host": "127.0.0.1", "port": 8000, "trusts_local": True, "wants_https": False} | others
    return " ".join(describe_openness(Openness(**facts)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "::1", "127.0.0.2"])
def test_a_server_for_this_machine_alone_says_nothing(host: str) -> None:
    assert describe(host=host) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.77.0.1", "box.lan"])
def test_a_server_for_others_says_what_is_open_to_whom(host: str) -> None:
    words = describe(host=host, own_names=["box.lan"])
    assert f"Who reaches {host}, port 8000, from elsewhere gets /health and /login" in words
    assert "Names: box.lan." in words
    assert "each of its users is the owner" in words
    assert "HTTPS is off: whoever can listen on that network reads keys" in words


def test_it_says_what_the_settings_change() -> None:
    words = describe(host="0.0.0.0", trusts_local=False, wants_https=True, proxies=[ip_network("10.9.0.0/24")])
    assert "LOCAL_TRUST=off" in words
    assert "10.9.0.0/24 pass on is believed" in words
    assert "https:// only" in words and "HTTPS is off" not in words


def test_behind_a_proxy_it_says_so_on_this_machine_too() -> None:
    words = describe(proxies=[ip_network("127.0.0.2")])
    assert words.startswith("This machine itself needs neither") and "127.0.0.2/32" in words


# Checks


def test_a_system_check_becomes_a_sentence_with_its_hint_and_id() -> None:
    warning = checks.Warning("The disk is small.", hint="Buy another.", id="cachemgr.W009")
    assert sentence(warning) == "The disk is small. Buy another. (cachemgr.W009)"


def test_a_system_check_without_a_hint_is_a_sentence_too() -> None:
    assert sentence(checks.Error("The disk is gone.", id="cachemgr.E001")) == "The disk is gone. (cachemgr.E001)"


# The demo


def test_the_demo_reads_none_of_the_users_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    users = {"HF_TOKEN": "secret", "DATABASE_URL": "postgres://x/y", "REDIS_URL": "redis://x", "DATA_DIR": "/precious"}
    users |= {"PRIMARY_CACHE_PATH": "/precious", "http_proxy": "http://proxy", "HF_HOME": "/precious", "PORT": "8123"}
    before = dict(os.environ)
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    try:
        demo.enter(demo.Demo(folder=tmp_path, hub_port=4567))
        entered = dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert not {"HF_TOKEN", "DATABASE_URL", "REDIS_URL", "http_proxy", "HF_HOME"} & entered.keys()
    assert "/precious" not in entered.values()
    assert entered["DATA_DIR"] == str(tmp_path / "data")
    assert entered["HF_ENDPOINT"] == "http://127.0.0.1:4567"
    assert entered["PORT"] == "8123"
    assert entered["HOMELAB_ENV_FILE"] == "/dev/null"


def test_each_demo_has_a_folder_of_its_own_that_only_its_owner_can_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = demo.make_demo(), demo.make_demo()
    assert first.folder != second.folder
    assert stat.S_IMODE(first.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in first.folder.iterdir()) == ["big-drive", "data", "fast-drive", "hub"]


def test_the_next_steps_are_commands_that_a_shell_reads_as_meant() -> None:
    steps = demo.next_steps("http://localhost:8000")
    register = next(line for line in steps.splitlines() if "Register" in line)
    assert (
        shlex.split(register)[-1] == '{"model_name": "tiny", "hf_path": "demo/tiny-llama", "cache_location": "primary"}'
    )
