"""script/setup, on a project whose packages need no network: a folder beside it that is one package."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "setup"

# A build backend that needs nothing: pip would have to fetch setuptools.
BACKEND = """
import zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{name}}", "w") as wheel:
        wheel.writestr("{name}.py", "")
        info = "{name}-1.0.dist-info"
        wheel.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        wheel.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{info}}/RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_package(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND.format(name=name))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder with a blank in its name, as a user's may have."""
    project = tmp_path / "my project"
    (project / "script").mkdir(parents=True)
    shutil.copy(SCRIPT, project / "script" / "setup")
    make_package(project / "server_package", "server_package")
    make_package(project / "dev_package", "dev_package")
    (project / "requirements.txt").write_text("./server_package\n")
    (project / "requirements-dev.txt").write_text("./dev_package\n")
    return project


def set_up(project: Path, *options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path or f"{Path(sys.executable).parent}:/usr/bin:/bin", "PIP_NO_INDEX": "1"}
    command = [shutil.which("bash") or "bash", str(project / "script" / "setup"), *options]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


def has_package(project: Path, name: str) -> bool:
    command = [str(project / ".venv" / "bin" / "python"), "-c", f"import {name}"]
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


def test_it_installs_once_and_then_does_nothing_at_once(project: Path) -> None:
    first = set_up(project)
    assert (first.returncode, first.stderr) == (0, "")
    assert "Installing the packages of requirements.txt" in first.stdout
    assert has_package(project, "server_package")
    started = time.monotonic()
    second = set_up(project)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert time.monotonic() - started < 0.3


def test_it_installs_again_when_a_file_has_changed(project: Path) -> None:
    set_up(project)
    (project / "requirements.txt").write_text("./server_package\n./dev_package\n")
    assert "Installing" in set_up(project).stdout
    assert has_package(project, "dev_package")


def test_constraints_count_too(project: Path) -> None:
    set_up(project)
    (project / "constraints.txt").write_text("server_package==1.0\n")
    assert "Installing" in set_up(project).stdout
    (project / "constraints.txt").write_text("server_package==2.0\n")
    assert set_up(project).returncode == 1


def test_dev_installs_the_tools_too_and_the_server_needs_no_second_set_up(project: Path) -> None:
    assert set_up(project).returncode == 0
    assert not has_package(project, "dev_package")
    assert set_up(project, "--dev").returncode == 0
    assert has_package(project, "dev_package")
    assert set_up(project).stdout == ""
    assert set_up(project, "--dev").stdout == ""


def test_what_cannot_be_installed_is_a_sentence_and_tried_again_the_next_time(project: Path) -> None:
    (project / "requirements.txt").write_text("./not_there\n")
    failed = set_up(project)
    assert failed.returncode == 1
    assert "Set-up failed: pip could not install everything" in failed.stderr
    (project / "requirements.txt").write_text("./server_package\n")
    assert set_up(project).returncode == 0
    assert has_package(project, "server_package")


def test_an_interrupted_set_up_starts_again(project: Path) -> None:
    (project / "server_package" / "backend.py").write_text("import time; time.sleep(600)")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PIP_NO_INDEX": "1"}
    command = ["bash", str(project / "script" / "setup")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        while "Installing" not in running.stdout.readline():
            pass
        os.killpg(running.pid, signal.SIGKILL)
    (project / "server_package" / "backend.py").write_text(BACKEND.format(name="server_package"))
    assert set_up(project).returncode == 0
    assert has_package(project, "server_package")


def test_a_broken_virtual_environment_is_made_again(project: Path) -> None:
    set_up(project)
    (project / ".venv" / "bin" / "python").unlink()
    assert set_up(project).returncode == 0
    assert has_package(project, "server_package")


def make_python(folder: Path, *, body: str) -> str:
    """A PATH with a python3 of our own and the few programs that the script needs."""
    folder.mkdir()
    for name in ("bash", "dirname", "sha256sum", "rm", "sed", "mv"):
        (folder / name).symlink_to(shutil.which(name) or name)
    if body:
        (folder / "python3").write_text(f"#!/bin/bash\n{body}\n")
        (folder / "python3").chmod(0o755)
    return str(folder)


def test_a_machine_without_python_is_told_what_to_install(project: Path, tmp_path: Path) -> None:
    failed = set_up(project, path=make_python(tmp_path / "bin", body=""))
    assert failed.returncode == 1
    assert "python3 is not installed. On Debian or Ubuntu: sudo apt install python3 python3-venv" in failed.stderr


def test_an_old_python_is_named(project: Path, tmp_path: Path) -> None:
    old = 'if [[ "$1" == --version ]]; then echo Python 3.9.2; else exit 1; fi'
    failed = set_up(project, path=make_python(tmp_path / "bin", body=old))
    assert failed.returncode == 1
    assert "Python 3.9.2 is too old; Python 3.11 or newer is wanted." in failed.stderr


def test_a_python_without_venv_names_the_package(project: Path, tmp_path: Path) -> None:
    bare = 'if [[ "$2" == *ensurepip* ]]; then exit 1; fi'
    failed = set_up(project, path=make_python(tmp_path / "bin", body=bare))
    assert failed.returncode == 1
    assert "has no venv module. On Debian or Ubuntu: sudo apt install python3-venv" in failed.stderr


def test_an_unknown_option_is_a_sentence(project: Path) -> None:
    failed = set_up(project, "--develop")
    assert failed.returncode == 1
    assert "'--develop' is no option" in failed.stderr


def test_help_explains_the_options(project: Path) -> None:
    shown = set_up(project, "--help")
    assert shown.returncode == 0
    assert "Usage: script/setup [--dev]" in shown.stdout
    assert not (project / ".venv").exists()
