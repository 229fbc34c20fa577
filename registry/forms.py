"""The form that registers a model: the same checks as the API, beside the fields that they concern."""

from typing import Any

from django import forms
from rest_framework.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from cachemgr.models import Cache
from cachemgr.questions import MegabytesField
from cachemgr.stats import CacheLine, cache_lines
from cachemgr.units import MB, format_bytes
from homelab.errors import HomelabError, InvalidValue
from registry import services
from registry.models import NAME_PATTERN, ModelRegistry


class SizeField(forms.FloatField):
    """Megabytes, written as the API takes them."""

    def to_python(self, value: Any) -> Any:
        text = "" if value is None else str(value).strip()
        try:
            return MegabytesField().run_validation(text) / MB if text else None
        except ValidationError as error:
            raise forms.ValidationError([str(problem) for problem in error.detail]) from error


class CacheChoice(UnfoldAdminRadioSelectWidget):
    """A radio button per cache, with its bar, limit, use and free space. The figures are read when it is shown."""

    template_name = "registry/cache_choice.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        lines = {line.cache.location: line for line in cache_lines() if line.cache.is_configured}
        for _, options, _ in context["widget"]["optgroups"]:
            for option in options:
                line = lines.get(option["value"])
                option["line"], option["words"] = line, describe_line(line) if line else "Any folder on any drive."
        return context


class RegisterModelForm(forms.ModelForm[ModelRegistry]):
    """Its `clean` proposes the registration; the admin executes the proposal when it saves."""

    model_name = forms.RegexField(
        NAME_PATTERN,
        max_length=96,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "llama-3-8b"}),
        help_text="What clients put into the field “model”: letters, digits, dots, colons, _ and -.",
    )
    hf_path = forms.CharField(
        label="Hub repo",
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "meta-llama/Meta-Llama-3-8B"}),
        help_text="org/name on the Hub, or name alone as in gpt2.",
    )
    cache_location = forms.ChoiceField(
        choices=Cache.Location.choices, widget=CacheChoice, initial=Cache.Location.PRIMARY
    )
    cache_path = forms.CharField(
        label="Custom path",
        required=False,
        strip=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "/mnt/external-drive/models"}),
        help_text="The absolute path of a folder on the drive that you mean.",
    )
    estimated_size_mb = SizeField(
        label="Estimated size (MB)",
        required=False,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"placeholder": "14000", "step": "any"}),
        help_text="May stay empty: it is read from the Hub, or guessed from the name.",
    )
    download = forms.BooleanField(
        label="Download it now",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Otherwise it waits for the Download button.",
    )

    proposal: services.Proposal

    class Meta:
        model = ModelRegistry
        fields = (
            "model_name",
            "hf_path",
            "cache_location",
            "cache_path",
            "estimated_size_mb",
            "wanted_revision",
            "pinned",
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            try:
                self.proposal = services.propose_for_good(self._wish(data))
            except InvalidValue as error:
                self.add_error(error.field if error.field in self.fields else None, error.message)
            except HomelabError as error:
                self.add_error("model_name" if error.code == "name_taken" else None, error.message)
            else:
                self._refuse_what_does_not_fit()
        return data

    def _refuse_what_does_not_fit(self) -> None:
        if self.proposal.verdict.is_refusal:
            self.add_error("cache_location", services.shortage(self.proposal).message)

    def _wish(self, data: dict[str, Any]) -> services.Wish:
        megabytes = data.get("estimated_size_mb")
        is_custom = data["cache_location"] == Cache.Location.CUSTOM
        return services.Wish(
            model_name=data["model_name"],
            hf_path=data["hf_path"],
            cache_location=data["cache_location"],
            cache_path=data.get("cache_path") if is_custom else None,
            estimated_bytes=round(megabytes * MB) if megabytes else None,
            wanted_revision=data.get("wanted_revision") or "main",
            pinned=bool(data.get("pinned")),
        )

    def validate_unique(self) -> None:
        """The proposal looks for the name: one message is enough."""


def describe_line(line: CacheLine) -> str:
    """One cache in a sentence, for those who do not see the bar."""
    figures = line.figures
    if not figures.is_usable:
        return figures.state_message or line.status
    size, used = format_bytes(figures.size_bytes), format_bytes(figures.filled_bytes)
    room, free = format_bytes(line.available_bytes), format_bytes(figures.disk_free_bytes)
    return f"{used} of {size} used, {room} left to book, {free} free on the disk"
