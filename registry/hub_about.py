"""What the Hub says about a model beside its files, for who chooses one. As hostile as the rest: what has not the form
that it has to have is left out."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}")
_MAX_PARAMETERS = 10**14


@dataclass(frozen=True)
class HubAbout:
    """`parameters` None, `licence` "": the Hub does not say. `is_gated`: its terms have to be accepted first."""

    parameters: int | None = None
    licence: str = ""
    is_gated: bool = False


def read_about(info: "ModelInfo") -> HubAbout:
    return HubAbout(_count_parameters(info), _find_licence(info), is_gated=bool(getattr(info, "gated", False)))


def _count_parameters(info: "ModelInfo") -> int | None:
    total = getattr(getattr(info, "safetensors", None), "total", None)
    return total if type(total) is int and 0 < total <= _MAX_PARAMETERS else None


def _find_licence(info: "ModelInfo") -> str:
    """The model card's; of one that is no usual licence its own name; else what its tags say."""
    card: Any = getattr(info, "card_data", None)
    tags = getattr(info, "tags", None)
    tagged = [str(tag).removeprefix("license:") for tag in tags or () if str(tag).startswith("license:")]
    named = [getattr(card, "license_name", None), getattr(card, "license", None)]
    return next((word for word in [*named, *tagged] if isinstance(word, str) and _LICENCE.fullmatch(word)), "")
