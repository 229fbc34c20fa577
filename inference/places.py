"""The devices of this machine, a model's share of them, and where on them a model may go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUANTIZATIONS = ("8bit", "4bit")
Tier = tuple["Place", ...]


@dataclass(frozen=True, slots=True)
class Device:
    """`name` as torch says it: cpu, cuda:0. `reclaimable_bytes`: what models that may leave hold there. `flags`: what
    the CPU can do, as the kernel names it."""

    name: str
    total_bytes: int
    free_bytes: int
    label: str
    reclaimable_bytes: int = 0
    flags: frozenset[str] = frozenset()

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


@dataclass(frozen=True, slots=True)
class Choices:
    """A model's settings, in the words of the admin. None, `auto` and "" leave it to us."""

    dtype: str = "auto"
    device: str = "auto"
    quantization: str = ""
    context_length: int | None = None
    parallel_requests: int | None = None

    @property
    def is_quantized(self) -> bool:
        return self.quantization in QUANTIZATIONS


@dataclass(frozen=True, slots=True)
class Share:
    """What one device has to give."""

    weights_bytes: int
    kv_bytes: int
    overhead_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model may go: `word` for the engine, the devices of its layers, and the host that a GPU needs too."""

    word: str
    devices: tuple[Device, ...]
    host: Device | None = None

    @property
    def is_gpu(self) -> bool:
        return self.host is not None

    def count_missing(self, shares: Mapping[str, Share], *, after_others_left: bool) -> int:
        """Bytes, on the device that lacks most; 0 or less if it fits."""
        devices = (*self.devices, self.host) if self.host else self.devices
        return max(
            shares[each.name].total_bytes - each.free_bytes - (each.reclaimable_bytes if after_others_left else 0)
            for each in devices
        )


def find_places(choices: Choices, *, devices: Sequence[Device]) -> tuple[tuple[Tier, ...], tuple[Tier, ...]]:
    """(GPUs, CPU), each in tiers from best to worst: a model on one GPU needs no traffic between several."""
    cpu = next(device for device in devices if not device.is_gpu)
    gpus = sorted((device for device in devices if device.is_gpu), key=lambda gpu: -gpu.free_bytes)
    may_share = choices.device in {"auto", "cuda", "balanced"} and len(gpus) > 1
    wanted = [gpu for gpu in gpus if _is_wanted(gpu, word=choices.device, is_only=len(gpus) == 1)]
    singles = tuple(Place(gpu.name, (gpu,), host=cpu) for gpu in wanted)
    together = (Place("balanced", tuple(gpus), host=cpu),) if may_share else ()
    may_use_cpu = choices.device in {"auto", "cpu"} and not choices.is_quantized
    return (singles, together), ((Place("cpu", (cpu,)),) if may_use_cpu else (),)


def _is_wanted(gpu: Device, *, word: str, is_only: bool) -> bool:
    return word in {"auto", "cuda", gpu.name} or (word == "balanced" and is_only)
