"""What OpenAI's clients send, checked once: an engine gets a clean body. Pure. Unknown fields are ignored.

Raises BadRequest, which names the field, for what is wrong and for what no engine of ours can do.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from homelab.durations import parse_duration
from inference.errors import BadRequest
from inference.openai.unsupported import refuse_unsupported

_MAX_TOKENS = 10**7
ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_STOPS = 16
_MAX_PARTS = 10_000

# The least and the most of each field. The document of the API has them from here.
WHOLE_NUMBERS = {
    "max_tokens": (1, 10**18),
    "max_completion_tokens": (1, 10**18),
    "top_k": (-1, 10**6),
    "seed": (-(2**63), 2**63 - 1),
    "n": (1, 8),
    "top_logprobs": (0, 20),
}
NUMBERS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 10),
}

Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Generation:
    """`body` is what was asked for, checked. `keep_alive_seconds` None: the model's default; -1 for ever."""

    model: str
    body: dict[str, Any]
    stream: bool
    keep_alive_seconds: float | None

    @property
    def wants_usage(self) -> bool:
        """As the last chunk of a stream."""
        return bool(self.body.get("stream_options", {}).get("include_usage"))

    @property
    def order(self) -> bytes:
        """What the engine gets: it always tells its figures, for the records."""
        usage = {"stream_options": {"include_usage": True}} if self.stream else {}
        return json.dumps(self.body | usage).encode()


def parse_chat(data: Any) -> Generation:
    body = _object(data)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages has to be a list with at least one message.", param="messages")
    _check_count("messages", messages)
    cleaned = [_message(f"messages[{index}]", message) for index, message in enumerate(messages)]
    return _generation(body, {"messages": cleaned})


def parse_completion(data: Any) -> Generation:
    body = _object(data)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise BadRequest("prompt has to be a text that is not empty.", param="prompt")
    return _generation(body, {"prompt": prompt})


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadRequest("The body has to be a JSON object.", param="body")
    return data


def _generation(body: Mapping[str, Any], content: dict[str, Any]) -> Generation:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model has to name a model. GET /v1/models lists them.", param="model")
    refuse_unsupported(body)
    fields = {name: check(name, body[name]) for name, check in _FIELDS.items() if body.get(name) is not None}
    stream = bool(fields.get("stream", False))
    return Generation(model, {"model": model, **content, **fields}, stream, _keep_alive(body))


def _message(where: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadRequest(f"{where} has to be an object with role and content.", param=where)
    role = message.get("role")
    if role not in ROLES:
        raise BadRequest(
            f"{where}.role is {str(role)[:40]!r}, but one of {', '.join(ROLES)} is wanted.", param=f"{where}.role"
        )
    return {
        "role": "system" if role == "developer" else role,
        "content": _content(f"{where}.content", message.get("content")),
    }


def _content(where: str, content: Any) -> str:
    """A text, or parts of which only texts can be read. None, as assistants send it beside tool calls, is empty."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRequest(f"{where} has to be a text, or a list of parts.", param=where)
    _check_count(where, content)
    return "".join(_part(f"{where}[{index}]", part) for index, part in enumerate(content))


def _check_count(where: str, items: list[Any]) -> None:
    """Hundreds of thousands fit into a body, and all other streams would wait for them."""
    if len(items) > _MAX_PARTS:
        raise BadRequest(f"{where} has {len(items)} items, and {_MAX_PARTS} are the most.", param=where)


def _part(where: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "input_text") or not isinstance(part.get("text"), str):
        raise BadRequest(
            f"{where} is of type {str(kind)[:40]!r}: only text parts are supported.", param=where, code="unsupported"
        )
    return str(part["text"])


def _number(minimum: float, maximum: float) -> Check:
    def check(name: str, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum:
            raise BadRequest(
                f"{name} is {str(value)[:40]}, but a number from {minimum:g} to {maximum:g} is wanted.", param=name
            )
        return float(value)

    return check


def _whole(minimum: int, maximum: int) -> Check:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise BadRequest(
                f"{name} is {str(value)[:40]}, but a whole number from {minimum} to {maximum} is wanted.", param=name
            )
        return value

    return check


def _capped_tokens(name: str, value: Any) -> int:
    """Any large number of tokens means as many as the context holds."""
    return min(_MAX_TOKENS, int(_whole(*WHOLE_NUMBERS["max_tokens"])(name, value)))


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {str(value)[:40]}, but true or false is wanted.", param=name)
    return value


def _stops(name: str, value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(each, str) and each for each in stops)
    ):
        raise BadRequest(f"{name} has to be a text, or a list of at most {MAX_STOPS} texts.", param=name)
    return stops


def _stream_options(name: str, value: Any) -> dict[str, bool]:
    if not isinstance(value, dict):
        raise BadRequest(f"{name} has to be an object.", param=name)
    return {"include_usage": value.get("include_usage") is True}


def _logprobs(name: str, value: Any) -> bool | int:
    """A flag in a chat, a number of alternatives in a completion."""
    return value if isinstance(value, bool) else int(_whole(*WHOLE_NUMBERS["top_logprobs"])(name, value))


_FIELDS: dict[str, Check] = (
    {name: _whole(*limits) for name, limits in WHOLE_NUMBERS.items()}
    | {name: _number(*limits) for name, limits in NUMBERS.items()}
    | {
        "max_tokens": _capped_tokens,
        "max_completion_tokens": _capped_tokens,
        "stop": _stops,
        "stream": _boolean,
        "stream_options": _stream_options,
        "logprobs": _logprobs,
    }
)


def _keep_alive(body: Mapping[str, Any]) -> float | None:
    name = "keep_alive" if body.get("keep_alive") is not None else "ttl"
    value = body.get(name)
    return None if value is None else parse_keep_alive(name, value)


def parse_keep_alive(name: str, value: Any) -> float:
    """`"10m"`, seconds as a number or a text, 0 for at once, -1 for ever -> seconds."""
    is_text = isinstance(value, int | float | str) and not isinstance(value, bool)
    seconds = parse_duration(str(value)) if is_text else None
    if seconds is None:
        raise BadRequest(
            f'{name} is {str(value)[:40]!r}, but a time such as "10m", 300, 0 or -1 is wanted.', param=name
        )
    return seconds
