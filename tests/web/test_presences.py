"""Models in memory, in words."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from web.presences import Presence, describe

GB = 10**9


def presence(**values: Any) -> Presence:
    usual = {
        "model": "tiny",
        "status": "loaded",
        "stage": "ready",
        "bytes_done": 0,
        "bytes_total": 0,
        "position": 0,
        "reason": "",
        "requests": 0,
        "memory_bytes": GB,
        "device": "cpu",
        "unloads_at": None,
    }
    (found,) = describe([usual | values], keys={"tiny": 7})
    return found


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "idle, stays"),
        ({"unloads_at": (timezone.now() - timedelta(hours=2)).isoformat()}, "idle, leaves in 0 s"),
        ({"requests": 1}, "answers 1 request"),
        ({"requests": 12}, "answers 12 requests"),
        ({"status": "leaving"}, "leaves"),
        ({"status": "leaving", "requests": 2}, "leaves, answers 2 requests"),
        ({"status": "loading", "stage": "queued", "position": 2}, "queued, number 2 in line"),
        ({"status": "loading", "stage": "queued", "reason": "a waits for b"}, "queued: a waits for b"),
        ({"status": "loading", "stage": "warming"}, "warming"),
    ],
)
def test_what_a_model_does_is_said_in_words(values: dict[str, Any], words: str) -> None:
    assert presence(**values).doing == words


def test_when_an_idle_model_leaves_is_said_from_now_on() -> None:
    leaves_at = timezone.now() + timedelta(hours=2, seconds=20)
    assert presence(unloads_at=leaves_at.isoformat()).doing == "idle, leaves in 2 h 0 min"


def test_a_load_is_a_bar_where_its_bytes_are_known() -> None:
    loading = presence(status="loading", stage="reading", bytes_done=GB, bytes_total=4 * GB)
    assert (loading.percent, loading.doing) == (25, "reading: 1.0 GB of 4.0 GB")
    assert presence(status="loading").percent is None and presence().percent is None


def test_memory_says_whose_it_is_and_who_leaves_has_no_button() -> None:
    assert presence().memory == "1.0 GB of RAM" and presence(device="cuda:1").memory == "1.0 GB of VRAM"
    assert presence(memory_bytes=0).memory == ""
    assert presence().can_leave and not presence(status="leaving").can_leave
    assert presence().address == "/admin/registry/modelregistry/7/change/" and presence(model="gone").address == ""
