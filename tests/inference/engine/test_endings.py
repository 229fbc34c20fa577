"""What errors mean for the process that met them."""

import pytest
import torch  # noqa: TID253

from inference.engine.endings import BROKEN, LOAD_FAILED, OUT_OF_MEMORY, explain_load_error, find_ending


def fail_to_allocate() -> Exception:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    return failed.value


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), fail_to_allocate()],
    ids=lambda error: type(error).__name__,
)
def test_without_memory_the_process_ends(error: Exception) -> None:
    ending = find_ending(error)
    assert ending and ending.code == OUT_OF_MEMORY
    assert "memory did not suffice" in str(ending)
    assert explain_load_error(error).code == OUT_OF_MEMORY


def test_an_error_of_a_gpu_ends_the_process() -> None:
    ending = find_ending(RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might"))
    assert ending and ending.code == BROKEN
    assert "\n" not in str(ending)


def test_what_a_request_did_ends_only_the_request() -> None:
    assert find_ending(IndexError("index out of range in self")) is None
    assert find_ending(RuntimeError("The size of tensor a must match")) is None


def test_what_cannot_be_loaded_is_explained_in_a_sentence() -> None:
    ending = explain_load_error(ValueError("unknown architecture\nand a long story"))
    assert (ending.code, str(ending)) == (LOAD_FAILED, "The model cannot be loaded: ValueError: unknown architecture")
