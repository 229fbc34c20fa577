"""How a model is served: what its owner chose in the admin or by PATCH, and what may be chosen. Pure.

A model in memory keeps what it was loaded with; a change counts from its next load.
"""

from dataclasses import dataclass

from homelab.durations import parse_duration

MOST_GPUS = 16

DTYPES = {
    "auto": "Automatic",
    "float32": "32 bit (float32)",
    "bfloat16": "16 bit (bfloat16)",
    "float16": "16 bit (float16)",
}
DEVICES = {
    "auto": "Automatic",
    "cpu": "Processor (CPU)",
    "cuda": "Any GPU",
    "balanced": "Spread over all GPUs",
} | {f"cuda:{number}": f"GPU {number}" for number in range(MOST_GPUS)}
QUANTIZATIONS = {"": "None", "8bit": "8 bit", "4bit": "4 bit"}
CONTEXT_TOKENS = (16, 10**7)
PARALLEL_REQUESTS = (1, 256)
PRIORITIES = (-100, 100)

COLUMNS = (
    "dtype",
    "device",
    "quantization",
    "context_limit",
    "parallel_requests",
    "keep_alive",
    "priority",
    "preload",
    "downloads_on_request",
)
"""Their names in the table, in the admin and in the API."""

WANTED = {
    "dtype": f"one of {', '.join(DTYPES)}",
    "device": f"auto, cpu, cuda, balanced, or one GPU from cuda:0 to cuda:{MOST_GPUS - 1}",
    "quantization": 'empty, "8bit" or "4bit"',
    "context_limit": f"empty, or a whole number of tokens from {CONTEXT_TOKENS[0]} to {CONTEXT_TOKENS[1]}",
    "parallel_requests": f"empty, or a whole number from {PARALLEL_REQUESTS[0]} to {PARALLEL_REQUESTS[1]}",
    "keep_alive": 'empty, or a time such as "10m", 300, 0 for at once, or -1 for ever',
    "priority": f"a whole number from {PRIORITIES[0]} to {PRIORITIES[1]}",
    "preload": "true or false",
    "downloads_on_request": "true or false",
}
"""What each takes, to end the sentence "X is …, but … is wanted"."""


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """None, "auto" and an empty quantization leave it to the server. `context_length` in tokens; `keep_alive_seconds`
    -1 for ever; a higher `priority` stays in memory longer."""

    dtype: str = "auto"
    device: str = "auto"
    quantization: str = ""
    context_length: int | None = None
    parallel_requests: int | None = None
    keep_alive_seconds: float | None = None
    priority: int = 0
    preload: bool = False
    downloads_on_request: bool = False


def is_keep_alive(text: str) -> bool:
    """Empty is the server's KEEP_ALIVE."""
    return text == "" or parse_duration(text) is not None
