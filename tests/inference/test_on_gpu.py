"""What only a machine with an NVIDIA GPU can show; it is skipped elsewhere.

The engine's own tests run there too: `ENGINE_DEVICE=cuda:0 script/test tests/inference`.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inference.devices import read_devices, read_taken
from inference.engine.endings import OUT_OF_MEMORY
from inference.facts import read_facts
from inference.memory import Choices, MemoryPlan, plan_memory
from tests.inference.engine.conftest import Engine, start_engine, wait_until
from tests.inference.test_memory_measured import Meter, arguments_of, fill_cache, make_llama

pytestmark = pytest.mark.skipif(len(read_devices()) == 1, reason="there is no GPU that torch can use")

MB = 10**6
LARGE = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "a billion parameters": LARGE
    | {"num_hidden_layers": 16, "num_key_value_heads": 8, "vocab_size": 32_000, "max_position_embeddings": 8192},
    "a wide vocabulary": LARGE
    | {"num_hidden_layers": 4, "num_key_value_heads": 8, "vocab_size": 128_000, "max_position_embeddings": 4096},
    "a large cache": LARGE
    | {"num_hidden_layers": 12, "num_key_value_heads": 32, "vocab_size": 8000, "max_position_embeddings": 16_384},
}


def count_used() -> int:
    """Bytes of the first GPU, of all processes."""
    gpu = read_devices()[1]
    return gpu.total_bytes - gpu.free_bytes


def meter_gpu() -> Meter:
    """Of what is used beyond what was used before."""
    before_bytes = count_used()
    return Meter(lambda: count_used() - before_bytes)


def is_all_back(meter: Meter) -> bool:
    return meter.read() < 50 * MB


@contextmanager
def on_gpu(folder: Path, *arguments: str, **start: Any) -> Iterator[Engine]:
    with start_engine(folder, *arguments, "--device", "cuda:0", **start) as engine:
        yield engine


def plan_for(folder: Path, **choices: Any) -> MemoryPlan:
    return plan_memory(read_facts(folder), choices=Choices(device="cuda:0", **choices), devices=read_devices())


@pytest.fixture(scope="module")
def billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("billion")
    make_on_gpu(folder, name="a billion parameters")
    return folder


def make_on_gpu(folder: Path, *, name: str) -> None:
    import torch

    make_llama(folder, shape=SHAPES[name], dtype="bfloat16", device="cuda")
    torch.cuda.empty_cache()


def test_the_first_gpu_is_that_of_nvidia_smi() -> None:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits", "--id=0"]
    name, mebibytes = subprocess.check_output(command, text=True).strip().split(", ")
    gpu = read_devices()[1]
    assert (gpu.name, gpu.label) == ("cuda:0", name)
    assert gpu.total_bytes == pytest.approx(int(mebibytes) * 2**20, rel=0.01)


@pytest.mark.parametrize("name", SHAPES)
def test_an_engine_takes_of_the_gpu_what_its_plan_says(name: str, tmp_path: Path) -> None:
    make_on_gpu(tmp_path, name=name)
    plan = plan_for(tmp_path)
    meter = meter_gpu()
    with meter.running(), on_gpu(tmp_path, *arguments_of(plan)) as engine:
        said = engine.client.get("/health").json()
        fill_cache(engine, plan, vocab_size=SHAPES[name]["vocab_size"])
        host_bytes = read_taken(engine.process.pid)["cpu"]
    share = plan.shares["cuda:0"]
    assert (said["backend"], said["device"], said["dtype"]) == ("batching", "cuda:0", "bfloat16"), said
    assert said["memory"]["cuda:0"]["kv_bytes"] == share.kv_bytes
    assert said["memory"]["cuda:0"]["weights_bytes"] == pytest.approx(share.weights_bytes, rel=0.001)
    assert meter.peak_bytes == pytest.approx(share.total_bytes, rel=0.1)
    assert host_bytes < plan.shares["cpu"].total_bytes
    wait_until(lambda: is_all_back(meter))


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantized_weights_take_what_the_plan_says(billion: Path, quantization: str) -> None:
    pytest.importorskip("bitsandbytes")
    plan = plan_for(billion, quantization=quantization)
    meter = meter_gpu()
    with meter.running(), on_gpu(billion, *arguments_of(plan), "--quantization", quantization) as engine:
        said = engine.client.get("/health").json()
        fill_cache(engine, plan, vocab_size=SHAPES["a billion parameters"]["vocab_size"])
    share = plan.shares["cuda:0"]
    assert said["backend"] == "batching", said["backend_reason"]
    assert said["memory"]["cuda:0"]["weights_bytes"] == pytest.approx(share.weights_bytes, rel=0.03)
    assert meter.peak_bytes == pytest.approx(share.total_bytes, rel=0.1)


def test_a_killed_engine_gives_the_gpu_back(billion: Path) -> None:
    meter = meter_gpu()
    with on_gpu(billion) as engine:
        assert not is_all_back(meter)
        engine.process.send_signal(signal.SIGKILL)
        wait_until(lambda: is_all_back(meter))


@pytest.fixture
def hog() -> Iterator[Any]:
    """Takes all of the GPU but so many bytes."""
    import torch

    taken = []

    def leave_free(size_bytes: int) -> None:
        free_bytes, _ = torch.cuda.mem_get_info()
        taken.append(torch.empty(free_bytes - size_bytes, dtype=torch.uint8, device="cuda"))

    yield leave_free
    taken.clear()
    torch.cuda.empty_cache()


def test_without_memory_of_the_gpu_a_load_ends_in_a_sentence(billion: Path, hog: Any) -> None:
    hog(1500 * MB)
    with on_gpu(billion, is_ready=False) as engine:
        assert engine.process.wait(90) == OUT_OF_MEMORY
        assert "cannot be loaded" in engine.read_errors().strip().splitlines()[-1]


def test_without_memory_of_the_gpu_the_plan_refuses(billion: Path, hog: Any) -> None:
    hog(1500 * MB)
    refused = plan_for(billion)
    assert not refused.fits
    assert plan_memory(read_facts(billion), choices=Choices(), devices=read_devices()).device == "cpu"


def test_when_the_gpu_fills_up_the_engine_ends_with_a_reason(billion: Path, hog: Any) -> None:
    plan = plan_for(billion)
    with on_gpu(billion, *arguments_of(plan)) as engine:
        hog(20 * MB)
        prompt = " ".join(["w7"] * 3000)
        answer = engine.client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4}, timeout=60)
        assert "did not suffice" in answer.text
        assert engine.process.wait(30) == OUT_OF_MEMORY


def test_balanced_is_the_gpu_where_there_is_one(billion: Path) -> None:
    if len(read_devices()) > 2:
        pytest.skip("there are several")
    with start_engine(billion, "--device", "balanced") as engine:
        said = engine.client.get("/health").json()
        assert (said["device"], said["backend"]) == ("cuda:0", "batching")
