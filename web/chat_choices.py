"""What the Chat page offers: the models, those that cannot be chosen with the reason, and the settings of an answer."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from inference.openai.schema import MAX_STOPS, NUMBERS, WHOLE_NUMBERS
from registry.models import ModelRegistry

Status = ModelRegistry.Status
_MOST_EXACT = 2**53 - 1  # of whole numbers, in a browser
SERVED = frozenset({Status.READY, Status.MOVING})


@dataclass(frozen=True, slots=True)
class Choice:
    """`why_not` is "" for a model that can be chosen, else a sentence, and `page` is where to do something about it.
    `note`: what comes before its first answer."""

    name: str
    repo: str
    why_not: str
    note: str
    page: str


def make_choice(model: ModelRegistry) -> Choice:
    can_come = model.downloads_on_request and model.status in {Status.REGISTERED, Status.DOWNLOADING}
    return Choice(
        name=model.model_name,
        repo=model.hf_path,
        why_not="" if can_come or model.status in SERVED else _why_not(model),
        note="Downloaded first, when you ask it." if can_come else "",
        page=_page_of(model),
    )


def _why_not(model: ModelRegistry) -> str:
    usual = {
        Status.REGISTERED: "Not downloaded yet.",
        Status.DOWNLOADING: "It is being downloaded.",
        Status.MISSING: "Its files are not there now.",
        Status.FAILED: "It failed.",
    }
    return model.error or usual[Status(model.status)]


def _page_of(model: ModelRegistry) -> str:
    if model.status == Status.DOWNLOADING:
        return f"{reverse('jobs-page')}?{urlencode({'model': model.model_name})}"
    return reverse("admin:registry_modelregistry_change", args=[model.pk])


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of an OpenAI request. Empty leaves it to the model."""

    name: str
    label: str
    words: str
    least: float
    most: float
    step: str


def _setting(name: str, *, label: str, words: str, step: str = "any") -> Setting:
    least, most = (NUMBERS | WHOLE_NUMBERS)[name]
    return Setting(name, label, words, least=max(least, -_MOST_EXACT), most=min(most, _MOST_EXACT), step=step)


SETTINGS = (
    _setting("temperature", label="Temperature", words="0 takes the likeliest word; more is freer."),
    _setting("top_p", label="Top p", words="Only the likeliest words that together have this share."),
    _setting("top_k", label="Top k", words="Only so many of the likeliest words; -1 is all.", step="1"),
    _setting(
        "max_tokens", label="Longest answer", words="In tokens; a token is about three quarters of a word.", step="1"
    ),
    _setting("seed", label="Seed", words="The same number gives the same answer again.", step="1"),
)
STOPS_HELP = f"The answer ends before any of these texts: one a line, {MAX_STOPS} at most."
