"""From messages or a prompt to token ids that fit into the context."""

from collections.abc import Iterator, Mapping
from functools import partial

from jinja2 import TemplateError

from inference.engine.backend import RunnerFacts, Tokenizer
from inference.engine.bodies import Asked, BadRequest
from inference.engine.deadline import Overran, run_within
from inference.engine.templates import find_poison

# A template is a program of the model's author: besides its own errors it may do arithmetic on text, or miss a key.
_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
_TEMPLATE_SECONDS = 10.0
_TEMPLATE_BYTES = 2 * 10**9

# Texts that are longer than this for each token of the context are tried in parts, each this many times as long.
_CHARACTERS_PER_TOKEN = 8
_GROWTH = 4
_SURELY_TOO_MANY = 1.1  # the last word was cut, and may have become more tokens by that


def encode_prompt(asked: Asked, *, tokenizer: Tokenizer, facts: RunnerFacts) -> tuple[int, ...]:
    """Raises BadRequest if the template refuses the messages, no token is left for an answer, or the model has no
    weights for one."""
    is_chat = asked.messages is not None
    context_length = facts.context_length
    text = asked.prompt if asked.messages is None else _apply_template(asked.messages, tokenizer=tokenizer)
    for part in _list_beginnings(text, context_length=context_length):
        tokens = len(tokenizer(part, add_special_tokens=False)["input_ids"])
        if tokens > _SURELY_TOO_MANY * context_length:
            raise _too_long(asked, tokens=tokens, context_length=context_length, is_all=False)
    ids = tuple(tokenizer(text, add_special_tokens=not is_chat)["input_ids"])
    if len(ids) >= context_length:
        raise _too_long(asked, tokens=len(ids), context_length=context_length)
    ids = ids or _start_from_nothing(asked, bos_token_id=tokenizer.bos_token_id)
    if max(ids) >= facts.words:
        raise _unknown(asked, token=str(tokenizer.decode([max(ids)])), words=facts.words)
    return ids


def _list_beginnings(text: str, *, context_length: int) -> Iterator[str]:
    """Of a text that is very long for the context: if a beginning is too long, nobody waits for the rest to be read."""
    characters = context_length * _CHARACTERS_PER_TOKEN
    while characters < len(text):
        yield text[:characters]
        characters *= _GROWTH


def _apply_template(messages: tuple[dict[str, str], ...], *, tokenizer: Tokenizer) -> str:
    if not tokenizer.chat_template:
        raise BadRequest(
            "This model has no chat template, so it cannot take `messages`. Send a `prompt` to /v1/completions.",
            param="messages",
            code="no_chat_template",
        )
    apply = partial(tokenizer.apply_chat_template, list(messages), tokenize=False, add_generation_prompt=True)
    try:
        _check_template(tokenizer.chat_template)
        return str(run_within(apply, seconds=_TEMPLATE_SECONDS, growth_bytes=_TEMPLATE_BYTES))
    except Overran as error:
        message = f"The chat template of this model {error}, and was stopped. Send a `prompt` to /v1/completions."
        raise BadRequest(message, param="messages", code="chat_template_error") from error
    except _TEMPLATE_ERRORS as error:
        message = f"The chat template of this model refuses these messages: {str(error) or type(error).__name__}"
        raise BadRequest(message, param="messages", code="chat_template_error") from error


def _check_template(template: str | Mapping[str, str]) -> None:
    """Some models have several, by name."""
    for each in template.values() if isinstance(template, Mapping) else [template]:
        if poison := find_poison(each):
            raise BadRequest(
                f"The chat template of this model {poison}, which could block the engine for hours, so it is not used. "
                "Send a `prompt` to /v1/completions.",
                param="messages",
                code="chat_template_error",
            )


def _start_from_nothing(asked: Asked, *, bos_token_id: int | None) -> tuple[int, ...]:
    if bos_token_id is None:
        what = _name_content(asked)
        raise BadRequest(f"`{what}` is empty, and this model has no token to begin a text with.", param=what)
    return (bos_token_id,)


def _too_long(asked: Asked, *, tokens: int, context_length: int, is_all: bool = True) -> BadRequest:
    what = _name_content(asked)
    excess = tokens - context_length + 1
    count, by = (f"{tokens}", f"{excess}") if is_all else (f"more than {tokens}", f"more than {excess}")
    return BadRequest(
        f"This model's maximum context length is {context_length} tokens, and your {what} take {count} tokens; "
        f"at least one token must be left for the answer. Shorten the {what} by {by}.",
        param=what,
        code="context_length_exceeded",
    )


def _unknown(asked: Asked, *, token: str, words: int) -> BadRequest:
    what = _name_content(asked)
    return BadRequest(
        f"This model's tokenizer knows {token!r}, but its weights end after {words} tokens, without this one. "
        f"Leave it out of the {what}.",
        param=what,
        code="unknown_token",
    )


def _name_content(asked: Asked) -> str:
    return "prompt" if asked.messages is None else "messages"
