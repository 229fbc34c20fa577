from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm


class SignInForm(AuthenticationForm):
    """A name and a password, or an admin key in their place."""

    error_messages = AuthenticationForm.error_messages | {
        "invalid_key": "This is no valid admin key. manage.py apikey list shows which are valid.",
        "nothing": "Type your name and password, or paste an admin key.",
    }
    key = forms.CharField(
        required=False, max_length=200, widget=forms.PasswordInput(attrs={"autocomplete": "off"}), label="Admin key"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].required = self.fields["password"].required = False

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("key"):
            return self._clean_key(self.cleaned_data["key"])
        if not (self.cleaned_data.get("username") and self.cleaned_data.get("password")):
            raise self._error("nothing")
        return super().clean()

    def _clean_key(self, key: str) -> dict[str, Any]:
        self.user_cache = authenticate(self.request, api_key=key)
        if self.user_cache is None:
            raise self._error("invalid_key")
        return self.cleaned_data

    def _error(self, code: str) -> forms.ValidationError:
        return forms.ValidationError(self.error_messages[code], code=code)
