"""Where a model goes, on machines that are described."""

import pytest

from inference.engine.backend import EngineSettings, LoadError
from inference.engine.placement import Machine, Placement, place

NO_GPU, ONE_GPU, TWO_GPUS = Machine(), Machine(gpus=1, has_bitsandbytes=True), Machine(gpus=2, has_bitsandbytes=True)


def ask(device: str, *, quantization: str = "none") -> EngineSettings:
    return EngineSettings("/model", "model", device=device, quantization=quantization)


@pytest.mark.parametrize(
    ("device", "machine", "placement"),
    [
        ("auto", NO_GPU, Placement("cpu")),
        ("cpu", TWO_GPUS, Placement("cpu")),
        ("auto", TWO_GPUS, Placement("cuda:0", device_map={"": "cuda:0"})),
        ("cuda", ONE_GPU, Placement("cuda:0", device_map={"": "cuda:0"})),
        ("cuda:1", TWO_GPUS, Placement("cuda:1", device_map={"": "cuda:1"})),
        ("balanced", TWO_GPUS, Placement("balanced", device_map="balanced")),
        ("balanced", ONE_GPU, Placement("cuda:0", device_map={"": "cuda:0"})),
    ],
)
def test_a_model_goes_where_it_was_asked_for(device: str, machine: Machine, placement: Placement) -> None:
    assert place(ask(device), machine=machine) == placement


@pytest.mark.parametrize(
    ("device", "machine", "reason"),
    [
        ("cuda", NO_GPU, "sees no GPU"),
        ("balanced", NO_GPU, "sees no GPU"),
        ("cuda:2", TWO_GPUS, "--device cuda:2 was asked for, but torch sees 2 GPUs"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(device: str, machine: Machine, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        place(ask(device), machine=machine)


@pytest.mark.parametrize(("quantization", "bits"), [("8bit", 8), ("4bit", 4)])
def test_weights_are_quantized_on_a_gpu(quantization: str, bits: int) -> None:
    assert place(ask("auto", quantization=quantization), machine=TWO_GPUS).quantized_bits == bits
    assert place(ask("balanced", quantization=quantization), machine=TWO_GPUS).quantized_bits == bits


@pytest.mark.parametrize(
    ("device", "machine", "reason"),
    [
        ("auto", NO_GPU, "needs a GPU, and torch sees no GPU"),
        ("cpu", ONE_GPU, "needs a GPU, and this model goes to the CPU"),
        ("cuda", Machine(gpus=1), "pip install bitsandbytes"),
    ],
)
def test_weights_are_quantized_nowhere_else(device: str, machine: Machine, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        place(ask(device, quantization="4bit"), machine=machine)
