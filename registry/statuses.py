"""The states of a model for people: an icon, a word and a colour."""

from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from registry.models import ModelRegistry


@dataclass(frozen=True, slots=True)
class StatusWords:
    """`color` is one of our chips': green, yellow, red or grey."""

    icon: str
    title: str
    color: str


WORDS = {
    "registered": StatusWords("bookmark", "registered", "grey"),
    "downloading": StatusWords("downloading", "downloading", "yellow"),
    "moving": StatusWords("drive_file_move", "moving", "yellow"),
    "ready": StatusWords("check_circle", "ready", "green"),
    "missing": StatusWords("link_off", "missing", "red"),
    "failed": StatusWords("error", "failed", "red"),
}
_UNKNOWN = StatusWords("help", "unknown", "grey")  # SQL by hand may write anything


def chip_of(model: ModelRegistry) -> SafeString:
    words = WORDS.get(model.status, _UNKNOWN)
    return format_html(
        '<span class="hl-state hl-{}" title="{}"><span class="material-symbols-outlined" aria-hidden="true">{}</span>'
        "{}</span>",
        words.color,
        model.error,
        words.icon,
        words.title,
    )
