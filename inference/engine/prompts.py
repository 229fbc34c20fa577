"""From messages or a prompt to token ids that fit into the context."""

from jinja2 import TemplateError

from inference.engine.backend import Tokenizer
from inference.engine.bodies import Asked, BadRequest

# A template is a program of the model's author: besides its own errors it may do arithmetic on text, or miss a key.
_TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def encode_prompt(asked: Asked, *, tokenizer: Tokenizer, context_length: int) -> tuple[int, ...]:
    """Raises BadRequest if the template refuses the messages, or no token is left for an answer."""
    if asked.messages is None:
        ids = tuple(tokenizer(asked.prompt)["input_ids"])
        ids = ids or _start_from_nothing(tokenizer.bos_token_id)
    else:
        text = _apply_template(asked.messages, tokenizer=tokenizer)
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) >= context_length:
        raise _too_long(asked, prompt_tokens=len(ids), context_length=context_length)
    return ids


def _apply_template(messages: tuple[dict[str, str], ...], *, tokenizer: Tokenizer) -> str:
    if not tokenizer.chat_template:
        raise BadRequest(
            "This model has no chat template, so it cannot take `messages`. Send a `prompt` to /v1/completions.",
            param="messages",
            code="no_chat_template",
        )
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except _TEMPLATE_ERRORS as error:
        message = f"The chat template of this model refuses these messages: {str(error) or type(error).__name__}"
        raise BadRequest(message, param="messages", code="chat_template_error") from error
    return str(text)


def _start_from_nothing(bos_token_id: int | None) -> tuple[int, ...]:
    if bos_token_id is None:
        raise BadRequest("`prompt` is empty, and this model has no token to begin a text with.", param="prompt")
    return (bos_token_id,)


def _too_long(asked: Asked, *, prompt_tokens: int, context_length: int) -> BadRequest:
    what = "prompt" if asked.messages is None else "messages"
    return BadRequest(
        f"This model's maximum context length is {context_length} tokens, and your {what} take {prompt_tokens} tokens; "
        f"at least one token must be left for the answer. Shorten the {what} by {prompt_tokens - context_length + 1}.",
        param=what,
        code="context_length_exceeded",
    )
