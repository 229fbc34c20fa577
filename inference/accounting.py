"""What the records are told of loads. Of a failure its code alone."""

import asyncio
import time
from typing import Literal

from homelab.errors import HomelabError
from inference.records import Usage
from inference.slots import Slot


def usage_of_load(slot: Slot, error: BaseException | None) -> Usage:
    """For a load that has ended; `error` None if the model is there, CancelledError if somebody unloaded it first."""
    duration = time.time() - slot.asked_at.timestamp()
    return Usage(
        kind="load",
        model_pk=slot.model_pk,
        model_name=slot.model_name,
        started_at=slot.asked_at,
        duration_seconds=duration,
        status=_status_of(error),
        error_code=code_of(error),
        was_cold=True,
        load_seconds=slot.load_seconds if error is None else None,
        stage_seconds=slot.stage_seconds,
        cache_location=slot.located.cache_location if slot.located else "",
        cache_path=slot.located.cache_path if slot.located else "",
    )


def _status_of(error: BaseException | None) -> Literal["ok", "error", "left"]:
    if error is None:
        return "ok"
    return "left" if isinstance(error, asyncio.CancelledError) else "error"


def code_of(error: BaseException | None) -> str:
    if _status_of(error) != "error":
        return ""
    return error.code if isinstance(error, HomelabError) else "internal_error"
