"""Where a model is on its way into memory, as people and programs are told. Pure."""

from dataclasses import dataclass
from typing import Any, Literal

from cachemgr.units import format_bytes

StageName = Literal["queued", "downloading", "reading", "warming", "ready"]
STAGES: tuple[StageName, ...] = ("queued", "downloading", "reading", "warming", "ready")


@dataclass(frozen=True, slots=True)
class Stage:
    """queued -> (downloading -> queued) -> reading -> warming -> ready

    Bytes are those of the stage, 0 where they are not known. `position`: 1 is next in the queue for memory, 0 is in no
    queue. `reason`: a sentence about what it waits for, or "".
    """

    name: StageName = "queued"
    bytes_done: int = 0
    bytes_total: int = 0
    position: int = 0
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        return self.name == "ready"

    def __str__(self) -> str:
        """`reading 1.2 GB of 3.0 GB`, `queued, number 2 in line`, `ready`"""
        if self.bytes_total:
            return f"{self.name} {format_bytes(self.bytes_done)} of {format_bytes(self.bytes_total)}"
        return f"{self.name}, number {self.position} in line" if self.position else self.name

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "position": self.position,
            "reason": self.reason,
        }


def stage_of_health(health: dict[str, Any]) -> Stage:
    """What an engine's /health says while it loads. The import of its libraries counts as reading."""
    name: StageName = "warming" if health.get("stage") == "warming" else "reading"
    return Stage(name, bytes_done=_bytes(health, "bytes_done"), bytes_total=_bytes(health, "bytes_total"))


def _bytes(health: dict[str, Any], name: str) -> int:
    value = health.get(name)
    return value if isinstance(value, int) else 0
