"""The models in memory, as people are told: what the pool says, in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone

from cachemgr.units import format_bytes, format_duration


@dataclass(frozen=True, slots=True)
class Presence:
    """`memory` is such as "4.2 GB of RAM". `percent` is how far a load is, None where nobody knows."""

    name: str
    doing: str
    memory: str
    is_loading: bool
    percent: int | None
    can_leave: bool
    address: str


def describe(presences: Iterable[Mapping[str, Any]], *, keys: Mapping[str, int]) -> list[Presence]:
    """`presences` as /api/ps has them; `keys` are those of the models' rows, by name."""
    return [_describe(each, key=keys.get(each["model"])) for each in presences]


def _describe(each: Mapping[str, Any], *, key: int | None) -> Presence:
    total, is_loading = each["bytes_total"], each["status"] == "loading"
    return Presence(
        name=each["model"],
        doing=_doing(each),
        memory=_memory(each),
        is_loading=is_loading,
        percent=min(100, round(each["bytes_done"] / total * 100)) if is_loading and total else None,
        can_leave=each["status"] != "leaving",
        address=reverse("admin:registry_modelregistry_change", args=[key]) if key else "",
    )


def _memory(each: Mapping[str, Any]) -> str:
    if not each["memory_bytes"]:
        return ""
    kind = "VRAM" if str(each["device"]).startswith("cuda") else "RAM"
    return f"{format_bytes(each['memory_bytes'])} of {kind}"


def _doing(each: Mapping[str, Any]) -> str:
    if each["status"] == "loading":
        return _loading(each)
    answers = {0: "", 1: "answers 1 request"}.get(each["requests"], f"answers {each['requests']} requests")
    if each["status"] == "leaving":
        return f"leaves, {answers}" if answers else "leaves"
    return answers or _idle(each["unloads_at"])


def _loading(each: Mapping[str, Any]) -> str:
    if each["bytes_total"]:
        return f"{each['stage']}: {format_bytes(each['bytes_done'])} of {format_bytes(each['bytes_total'])}"
    if each["position"]:
        return f"{each['stage']}, number {each['position']} in line"
    return f"{each['stage']}: {each['reason']}" if each["reason"] else each["stage"]


def _idle(unloads_at: str | None) -> str:
    if unloads_at is None:
        return "idle, stays"
    left = (datetime.fromisoformat(unloads_at) - timezone.now()).total_seconds()
    return f"idle, leaves in {format_duration(max(0.0, left))}"
