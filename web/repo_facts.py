"""What is known of a repo that somebody is about to register: from the Hub, else from its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.core.cache import cache

from cachemgr.units import format_bytes
from inference.architecture import Architecture, Hints, read_architecture
from registry.estimates import Notice, Size, ask_config, find_size
from registry.hub import HubSnapshot

_REMEMBERED_SECONDS = 60
_BYTES_OF = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_ADVICE = {
    "hub_gated": "Registering works; the download needs the token of an account that accepted its terms.",
    "hub_not_found": "Is it written as on the Hub? It can be registered all the same.",
    "hub_revision_not_found": "Most repos have the revision main.",
    "no_safetensors": "Look for a repo of the same model with safetensors files.",
}
_PASSING = (
    "Everything else works: type its size below, or let it be guessed. The exact one is booked before a download."
)


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """`facts` are labels and words. `trouble`: what the Hub refused, with what to do about it. `size` is what a
    registration would go by."""

    facts: tuple[tuple[str, str], ...]
    trouble: str
    advice: str
    notices: tuple[Notice, ...]
    size: Size
    is_gated: bool


def find_facts(hf_path: str, *, revision: str, typed_bytes: int | None) -> RepoFacts:
    """Asks the Hub, for ten seconds at most."""
    found, config = _ask(hf_path, revision=revision)
    trouble = next((notice for notice in found.notices if notice.code.startswith(("hub_", "no_"))), None)
    is_gated = bool(found.snapshot and found.snapshot.about.is_gated)
    return RepoFacts(
        facts=tuple(_describe(found.snapshot, config=config) if found.snapshot else ()),
        trouble=trouble.message if trouble else "",
        advice=_ADVICE.get(trouble.code, _PASSING) if trouble else "",
        notices=tuple(_size_notices(found, typed_bytes=typed_bytes)),
        size=found if typed_bytes is None else Size(typed_bytes, "given"),
        is_gated=is_gated,
    )


def _ask(hf_path: str, *, revision: str) -> tuple[Size, Mapping[str, Any]]:
    """A good answer is remembered for a minute: who types on about the same repo does not ask the Hub each time."""
    asked = "\n".join((settings.HF_ENDPOINT, hf_path, revision))
    key = f"repo-facts-{sha256(asked.encode()).hexdigest()}"
    known: tuple[Size, Mapping[str, Any]] | None = cache.get(key)
    if known is not None:
        return known
    found = find_size(hf_path, revision=revision)
    if found.snapshot is None:
        return found, {}
    answer = found, ask_config(found.snapshot)
    cache.set(key, answer, timeout=_REMEMBERED_SECONDS)
    return answer


def _size_notices(found: Size, *, typed_bytes: int | None) -> list[Notice]:
    if typed_bytes is None:
        return [notice for notice in found.notices if notice.code in {"size_guessed", "size_unknown"}]
    if found.source == "hub" and not 0.5 < typed_bytes / max(1, found.size_bytes) < 2:
        message = f"You typed {format_bytes(typed_bytes)}, but the Hub says {format_bytes(found.size_bytes)}."
        return [Notice("size_differs", message)]
    return []


def _describe(snapshot: HubSnapshot, *, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape = read_architecture(config, hints=Hints()) if config else None
    facts = [("Size", format_bytes(snapshot.size_bytes)), ("Files", f"{len(snapshot.files):,}")]
    if parameters := _count_parameters(snapshot, shape=shape):
        facts.append(("Parameters", parameters))
    if shape and shape.max_positions:
        facts.append(("Context", f"{shape.max_positions:,} tokens"))
    facts.append(("Licence", snapshot.about.licence or "not said"))
    facts.append(("Access", "gated" if snapshot.about.is_gated else "open"))
    return facts


def _count_parameters(snapshot: HubSnapshot, *, shape: Architecture | None) -> str:
    """As the Hub counts them, else by the bytes of the weights; "" where nobody can tell."""
    if snapshot.about.parameters:
        return format_count(snapshot.about.parameters)
    width = _BYTES_OF.get(shape.stored_dtype, 0) if shape and not shape.quantization_method else 0
    weights = sum(file.size_bytes for file in snapshot.contents if file.name.endswith(".safetensors"))
    return f"about {format_count(weights // width)}" if width and weights >= width else ""


def format_count(count: int) -> str:
    """8030261248 -> "8.0 B"."""
    for step, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= step * 0.9995:
            return f"{count / step:.1f} {unit}" if count < 99.95 * step else f"{count / step:.0f} {unit}"
    return str(count)
