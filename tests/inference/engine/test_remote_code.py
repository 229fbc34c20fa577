"""An engine runs code of a model only if each file of it was allowed, by its hash."""

import json
from pathlib import Path

import pytest

from tests.factories import blob_name
from tests.inference.engine.conftest import start_engine
from tests.inference.engine.test_lifetime import change_config, run_engine

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

from .helpers_own import leave_mark


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        leave_mark()
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "was-run"


@pytest.fixture
def own(copied_folder: Path, mark: Path) -> Path:
    """A model of a kind that only its own code knows."""
    (copied_folder / "modeling_own.py").write_text(CODE)
    (copied_folder / "helpers_own.py").write_text(f"def leave_mark():\n    open({str(mark)!r}, 'w').close()\n")
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    change_config(copied_folder, model_type="own", auto_map=auto_map)
    return copied_folder


def hashes_of(folder: Path) -> dict[str, str]:
    return {path.name: blob_name(path.name, path.read_bytes()) for path in folder.glob("*.py")}


def test_without_permission_it_does_not_load(own: Path, tmp_path: Path, mark: Path) -> None:
    result = run_engine(tmp_path, model_path=own)
    assert result.returncode == 3 and "cannot be loaded" in result.stderr
    assert not mark.exists()


def test_allowed_code_is_run_and_its_copy_goes_with_the_engine(own: Path, mark: Path) -> None:
    with start_engine(own, "--remote-code", json.dumps(hashes_of(own))) as engine:
        assert engine.chat("Hello", max_tokens=2).json()["usage"]["completion_tokens"] == 2
        engine.process.terminate()
        assert engine.process.wait(10) == 0
    assert mark.exists()
    assert not list(own.rglob("__pycache__"))


@pytest.mark.parametrize("change", ["another", "one more"])
def test_a_file_that_was_not_allowed_is_not_run(change: str, own: Path, tmp_path: Path, mark: Path) -> None:
    allowed = hashes_of(own)
    name = "modeling_own.py" if change == "another" else "more_own.py"
    (own / name).write_text(CODE + "leave_mark()\n")
    result = run_engine(tmp_path, "--remote-code", json.dumps(allowed), model_path=own)
    assert result.returncode == 3 and f"{name} is not the code that was allowed" in result.stderr
    assert not mark.exists()


@pytest.mark.parametrize("words", ["{", "[]", '{"x.py": 5}', '{"x.py": "short"}'])
def test_a_permission_that_makes_no_sense_is_none(words: str, tmp_path: Path) -> None:
    result = run_engine(tmp_path, "--remote-code", words, model_path=tmp_path)
    assert result.returncode == 2 and "--remote-code" in result.stderr
