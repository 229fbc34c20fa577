"""Where a model goes, and how: on which device, in pieces or whole, quantized or not.

Pure, so that it is tested without a GPU.
"""

from dataclasses import dataclass

from inference.engine.backend import EngineSettings, LoadError

DeviceMap = str | dict[str, str]


@dataclass(frozen=True)
class Machine:
    """`gpus`: how many torch sees."""

    gpus: int = 0
    has_bitsandbytes: bool = False


@dataclass(frozen=True)
class Placement:
    """`device`: cpu, cuda:N or balanced. `device_map` as from_pretrained takes it, None on the CPU."""

    device: str
    device_map: DeviceMap | None = None
    quantized_bits: int | None = None


def place(settings: EngineSettings, *, machine: Machine) -> Placement:
    """Raises LoadError for a GPU that is not there, and for quantization without one.

    1. The CPU is the default only where there is no GPU.
    2. `balanced` spreads the layers over all GPUs; with one GPU it is that one.
    """
    if settings.device == "cpu" or (settings.device == "auto" and machine.gpus == 0):
        return _place_on_cpu(settings, machine=machine)
    number = _read_number(settings.device)
    if machine.gpus <= number:
        there_is = f"torch sees {machine.gpus} GPUs" if machine.gpus else "torch sees no GPU"
        raise LoadError(
            f"--device {settings.device} was asked for, but {there_is}. Use --device cpu, or install a CUDA build."
        )
    bits = _read_bits(settings, machine=machine)
    if settings.device == "balanced" and machine.gpus > 1:
        return Placement("balanced", device_map="balanced", quantized_bits=bits)
    return Placement(f"cuda:{number}", device_map={"": f"cuda:{number}"}, quantized_bits=bits)


def _place_on_cpu(settings: EngineSettings, *, machine: Machine) -> Placement:
    if settings.quantization == "none":
        return Placement("cpu")
    reason = "this model goes to the CPU" if machine.gpus else "torch sees no GPU"
    raise LoadError(
        f"--quantization {settings.quantization} needs a GPU, and {reason}. Load it without quantization, "
        "or get a model whose weights are stored smaller."
    )


def _read_number(device: str) -> int:
    """`cuda` and `balanced` begin with the first."""
    return int(device.partition(":")[2] or 0)


def _read_bits(settings: EngineSettings, *, machine: Machine) -> int | None:
    if settings.quantization == "none":
        return None
    if not machine.has_bitsandbytes:
        raise LoadError(
            f"--quantization {settings.quantization} needs the package bitsandbytes: pip install bitsandbytes."
        )
    return int(settings.quantization.removesuffix("bit"))
