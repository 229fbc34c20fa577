"""What OpenAI's clients may ask for and no engine of ours can do: a 400 that names the field. Pure.

What changes nothing of an answer's meaning is taken and left alone: user, metadata, store, service_tier, prediction,
reasoning_effort, verbosity, parallel_tool_calls, prompt_cache_key, safety_identifier, and whatever nobody knows.
"""

from collections.abc import Callable, Mapping
from typing import Any

from inference.errors import BadRequest

Body = Mapping[str, Any]


def refuse_unsupported(body: Body) -> None:
    """Raises BadRequest."""
    for field, (is_asked, sentence) in _UNSUPPORTED.items():
        if is_asked(body):
            raise BadRequest(sentence, param=field, code="unsupported")


def _asks_for_tools(body: Body) -> bool:
    return bool(body.get("tools")) and body.get("tool_choice") != "none"


def _asks_for_functions(body: Body) -> bool:
    return bool(body.get("functions")) and body.get("function_call") != "none"


def _asks_for_a_form(body: Body) -> bool:
    form = body.get("response_format")
    return form is not None and (form.get("type", "text") if isinstance(form, dict) else form) != "text"


def _asks_for_more_than_text(body: Body) -> bool:
    return body.get("modalities") not in (None, ["text"], [])


def _asks_for_the_best(body: Body) -> bool:
    return body.get("best_of") not in (None, 1, body.get("n"))


_UNSUPPORTED: dict[str, tuple[Callable[[Body], bool], str]] = {
    "tools": (_asks_for_tools, 'tools are not supported: leave them out, or send tool_choice "none".'),
    "functions": (_asks_for_functions, 'functions are not supported: leave them out, or send function_call "none".'),
    "response_format": (_asks_for_a_form, "response_format can only be text."),
    "modalities": (_asks_for_more_than_text, 'modalities can only be ["text"].'),
    "audio": (lambda body: bool(body.get("audio")), "audio is not supported: these models write text."),
    "logit_bias": (lambda body: bool(body.get("logit_bias")), "logit_bias is not supported: leave it out."),
    "web_search_options": (
        lambda body: body.get("web_search_options") is not None,
        "web_search_options is not supported: this server searches no web.",
    ),
    "best_of": (_asks_for_the_best, "best_of is not supported: ask for n answers, and choose."),
    "echo": (lambda body: bool(body.get("echo")), "echo is not supported: the answer is without the prompt."),
    "suffix": (lambda body: bool(body.get("suffix")), "suffix is not supported: no text can be put in between."),
}
