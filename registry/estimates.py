"""How large a model will be, before a byte of it is fetched, and how that is known."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from cachemgr.space import USUAL_FILES
from cachemgr.units import format_bytes
from registry.errors import HubError
from registry.hub import HubSnapshot, read_hub
from registry.hub_config import read_hub_config
from registry.sizes import guess_size_bytes

HUB_SECONDS = 5.0


@dataclass(frozen=True)
class Notice:
    """A warning that does not stop anything. Codes: space_low, cache_unavailable, size_unknown, size_guessed, hub_…"""

    code: str
    message: str


@dataclass(frozen=True)
class Size:
    """`source`: given, hub, name, or unknown (then 0 bytes)."""

    size_bytes: int
    source: str
    notices: tuple[Notice, ...] = ()
    snapshot: HubSnapshot | None = None

    @property
    def file_count(self) -> int:
        """Of the Hub's list, else as many as is usual."""
        return len(self.snapshot.files) if self.snapshot else USUAL_FILES


def find_size(hf_path: str, *, revision: str = "main", given_bytes: int | None = None) -> Size:
    """The given estimate, else the Hub's list, else a guess from the name, else unknown. Waits 5 s at most."""
    if given_bytes is not None:
        return Size(given_bytes, "given")
    try:
        snapshot = ask_hub(hf_path, revision=revision)
        return Size(snapshot.size_bytes, "hub", snapshot=snapshot)
    except HubError as error:
        return _guess(hf_path, Notice(error.code, error.message))


def _guess(hf_path: str, trouble: Notice) -> Size:
    guess = guess_size_bytes(hf_path)
    if guess is None:
        message = "Nobody can tell its size yet. The exact one is booked before a download starts."
        return Size(0, "unknown", (trouble, Notice("size_unknown", message)))
    guessed = Notice("size_guessed", f"Its size is guessed from its name: {format_bytes(guess)}.")
    return Size(guess, "name", (trouble, guessed))


def ask_hub(hf_path: str, *, revision: str, wait_seconds: float = HUB_SECONDS) -> HubSnapshot:
    """The files of a revision. Raises HubError."""
    return read_hub(
        hf_path, revision=revision, endpoint=settings.HF_ENDPOINT, token=settings.HF_TOKEN, wait_seconds=wait_seconds
    )


def ask_config(snapshot: HubSnapshot, *, wait_seconds: float = HUB_SECONDS) -> dict[str, Any]:
    """Its config.json; {} where the Hub does not give it."""
    return read_hub_config(snapshot, endpoint=settings.HF_ENDPOINT, token=settings.HF_TOKEN, wait_seconds=wait_seconds)
