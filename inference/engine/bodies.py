"""Reads the JSON body of a request into frozen values. The gateway has checked it; here nothing may crash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.engine.backend import Sampling

Body = Mapping[str, Any]


class BadRequest(Exception):
    """400 in OpenAI's shape; `param` names the field."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Asked:
    """A request of either kind: `messages` for a chat, else `prompt`. `max_tokens` None = the rest of the context."""

    model: str
    messages: tuple[dict[str, str], ...] | None
    prompt: str
    max_tokens: int | None
    sampling: Sampling
    stops: tuple[str, ...]
    choices: int
    is_streamed: bool
    has_usage_chunk: bool


def read_chat(body: Any, *, model: str) -> Asked:
    """`model` is the name to answer with if the body has none. Raises BadRequest."""
    body = _need_object(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message.", param="messages")
    read = tuple(_read_message(message, index=index) for index, message in enumerate(messages))
    top_logprobs = (_read_int(body, "top_logprobs") or 0) if body.get("logprobs") else None
    return _read_common(body, model=model, messages=read, top_logprobs=top_logprobs)


def read_completion(body: Any, *, model: str) -> Asked:
    body = _need_object(body)
    if not isinstance(body.get("prompt"), str):
        raise BadRequest("`prompt` must be a string.", param="prompt")
    _check_text(body["prompt"], where="prompt")
    return _read_common(body, model=model, messages=None, top_logprobs=_read_int(body, "logprobs"))


def _need_object(body: Any) -> Body:
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def _read_common(
    body: Body, *, model: str, messages: tuple[dict[str, str], ...] | None, top_logprobs: int | None
) -> Asked:
    options = body.get("stream_options")
    limit = _read_int(body, "max_completion_tokens", least=0)
    return Asked(
        model=_check_text(str(body.get("model") or model), where="model"),
        messages=messages,
        prompt=str(body.get("prompt") or ""),
        max_tokens=_read_int(body, "max_tokens", least=0) if limit is None else limit,
        sampling=_read_sampling(body, top_logprobs=top_logprobs),
        stops=_read_stops(body.get("stop")),
        choices=_read_int(body, "n", least=1) or 1,
        is_streamed=bool(body.get("stream")),
        has_usage_chunk=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _read_sampling(body: Body, *, top_logprobs: int | None) -> Sampling:
    return Sampling(
        temperature=_read_float(body, "temperature", least=0),
        top_p=_read_float(body, "top_p", least=0),
        top_k=_read_int(body, "top_k", least=-1),
        seed=_read_int(body, "seed", least=None),
        presence_penalty=_read_float(body, "presence_penalty") or 0.0,
        frequency_penalty=_read_float(body, "frequency_penalty") or 0.0,
        repetition_penalty=_read_float(body, "repetition_penalty", least=1e-3),
        top_logprobs=top_logprobs,
    )


def _read_message(message: Any, *, index: int) -> dict[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise BadRequest(f"`{where}` must be an object with a `role`.", param=where)
    role = _check_text(message["role"], where=f"{where}.role")
    role = "system" if role == "developer" else role
    return {"role": role, "content": _read_content(message.get("content"), where=f"{where}.content")}


def _read_content(content: Any, *, where: str) -> str:
    if content is None or isinstance(content, str):
        return _check_text(content or "", where=where)
    if not isinstance(content, list):
        raise BadRequest(f"`{where}` must be a string or a list of text parts.", param=where)
    return "\n".join(_read_part(part, where=f"{where}[{index}]") for index, part in enumerate(content))


def _read_part(part: Any, *, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return _check_text(part["text"], where=where)
    raise BadRequest(f"`{where}` is not text. This model reads parts of the type `text` only.", param=where)


def _check_text(text: str, *, where: str) -> str:
    """JSON can carry half a surrogate pair, which no tokenizer and no answer can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"`{where}` holds half of a surrogate pair (U+{ord(text[error.start]):04X}), which is no character."
        raise BadRequest(message, param=where) from error
    return text


def _read_stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise BadRequest("`stop` must be a string or a list of strings.", param="stop")
    return tuple(each for each in stops if each)


def _read_int(body: Body, name: str, *, least: int | None = 0) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise BadRequest(f"`{name}` must be a whole number{_say_least(least)}, not {value!r}.", param=name)
    return value


def _read_float(body: Body, name: str, *, least: float | None = None) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    if not is_number or (least is not None and value < least):
        raise BadRequest(f"`{name}` must be a number{_say_least(least)}, not {value!r}.", param=name)
    return float(value)


def _say_least(least: float | None) -> str:
    return "" if least is None else f" of at least {least}"
