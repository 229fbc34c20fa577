"""Models that mean harm: whatever their files say, nothing of them is run, and each ends in a sentence or is a model."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.canary import WORDS, nothing_changes
from tests.inference.engine.conftest import start_engine
from tests.inference.engine.test_lifetime import change_config, run_engine

HUGE = 10**9


@pytest.fixture(autouse=True)
def canaries(tmp_path: Path) -> Iterator[Path]:
    with nothing_changes(tmp_path, but=[tmp_path / "copied", tmp_path / "s"]) as folder:
        yield folder


class Bomb:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.mark}",))


def plant_everything(folder: Path) -> None:
    """All ways to have code run that anybody has thought of."""
    mark = folder.parent / "was-run"
    code = f"open({str(mark)!r}, 'w')\n"
    bomb = pickle.dumps(Bomb(mark))
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "custom_generate/generate.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    for name in ("pytorch_model.bin", "model.pt", "tokenizer.pkl", "training_args.bin", "rng_state.pth", "extra.ckpt"):
        (folder / name).write_bytes(bomb)
    (folder / "__init__.py").write_text(code)
    (folder / "sitecustomize.py").write_text(code)
    (folder / "torch.py").write_text(code)
    auto_map = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "modeling_evil.Evil")
    change_config(folder, auto_map=auto_map, custom_pipelines={"text-generation": {"impl": "modeling_evil.Evil"}})
    for name, more in {
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}},
        "generation_config.json": {"custom_generate": str(folder / "custom_generate")},
    }.items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_nothing_that_lies_beside_the_weights_is_run(copied_folder: Path, tmp_path: Path) -> None:
    plant_everything(copied_folder)
    with start_engine(copied_folder) as engine:
        assert engine.chat("Hello", max_tokens=2).json()["usage"]["completion_tokens"] > 0
    assert not (tmp_path / "was-run").exists()


def write_header(folder: Path, header: Any, *, length: int | None = None, data_bytes: int = 8) -> None:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = len(content) if length is None else length
    (folder / "model.safetensors").write_bytes(said.to_bytes(8, "little") + content + bytes(data_bytes))


def tensor(begin: int, end: int, *, shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape or [1], "data_offsets": [begin, end]}


def write_deep(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text('{"a": ' * 10**5 + "1" + "}" * 10**5)


def point_outside(name: str) -> Callable[[Path], Any]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder.parent / "canary" / "secret")

    return spoil


HARMFUL: dict[str, Callable[[Path], Any]] = {
    "a billion layers": lambda folder: change_config(folder, num_hidden_layers=HUGE),
    "a billion experts": lambda folder: change_config(folder, text_config={"num_local_experts": HUGE}),
    "layers that are no number": lambda folder: change_config(folder, num_hidden_layers=float("nan")),
    "a huge hidden size": lambda folder: change_config(folder, hidden_size=HUGE),
    "a huge vocabulary": lambda folder: change_config(folder, vocab_size=10**15),
    "a negative size": lambda folder: change_config(folder, hidden_size=-64),
    "no heads": lambda folder: change_config(folder, num_attention_heads=0),
    "text for a size": lambda folder: change_config(folder, hidden_size="../../etc/passwd"),
    "a deep config": write_deep("config.json"),
    "a deep tokenizer": write_deep("tokenizer.json"),
    "another's kernel": lambda folder: change_config(folder, _attn_implementation="evil/kernel"),
    "a header of 2^63 bytes": lambda folder: write_header(folder, b"{}", length=2**63),
    "a header that is all": lambda folder: write_header(folder, b"{" * 1000, data_bytes=0),
    "a deep header": lambda folder: write_header(folder, b"[" * 10**5),
    "offsets beyond the file": lambda folder: write_header(folder, {"a": tensor(0, 2**40)}),
    "offsets that overlap": lambda folder: write_header(folder, {"a": tensor(0, 8, shape=[2]), "b": tensor(4, 8)}),
    "negative offsets": lambda folder: write_header(folder, {"a": tensor(-8, 8)}),
    "offsets of text": lambda folder: write_header(folder, {"a": {"dtype": "F32", "shape": [1], "data_offsets": "ab"}}),
    "a config of another folder": point_outside("config.json"),
    "weights of another folder": point_outside("model.safetensors"),
    "a tokenizer of another folder": point_outside("tokenizer.json"),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_model_that_means_harm_ends_in_a_sentence(harm: str, copied_folder: Path, tmp_path: Path) -> None:
    HARMFUL[harm](copied_folder)
    result = run_engine(tmp_path, "--memory-limit", str(4 * 10**9), model_path=copied_folder)
    assert result.returncode in {3, 4}, result.stderr
    (said,) = result.stderr.strip().splitlines()
    assert len(said) < 1000 and WORDS not in said
    assert not (tmp_path / "was-run").exists()
