"""OpenAI's objects, to the letter: chat.completion, chat.completion.chunk, text_completion and errors."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class TokenText:
    """One generated token as text, its logprob, and the most probable tokens at its place."""

    text: str
    token_bytes: bytes
    logprob: float
    top: tuple["TokenText", ...] = ()
    offset: int = 0
    """Characters of the answer before this token."""


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int

    def to_json(self) -> Json:
        total = self.prompt_tokens + self.completion_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "total_tokens": total}


@dataclass(frozen=True)
class Envelope:
    """What all objects of one answer share: id, time, model. `has_logprobs` and `has_usage_chunk` as asked for."""

    model: str
    is_chat: bool
    has_logprobs: bool = False
    has_usage_chunk: bool = False
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def make_answer(self, choices: Sequence[Json], *, usage: Usage) -> Json:
        return self._head("chat.completion") | {"choices": list(choices), "usage": usage.to_json()}

    def make_choice(self, text: str, *, index: int, reason: str, logprobs: Sequence[TokenText]) -> Json:
        content: Json = {"message": {"role": "assistant", "content": text, "refusal": None}}
        content = content if self.is_chat else {"text": text}
        return {"index": index} | content | {"logprobs": self._logprobs(logprobs), "finish_reason": reason}

    def make_role_chunk(self, *, index: int) -> Json:
        """The first chunk of a chat's choice."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, index=index)

    def make_text_chunk(self, text: str, *, index: int, logprobs: Sequence[TokenText]) -> Json:
        content: Json = {"delta": {"content": text}} if self.is_chat else {"text": text}
        return self._chunk(content, index=index, logprobs=self._logprobs(logprobs))

    def make_last_chunk(self, *, index: int, reason: str) -> Json:
        content: Json = {"delta": {}} if self.is_chat else {"text": ""}
        return self._chunk(content, index=index, reason=reason)

    def make_usage_chunk(self, usage: Usage) -> Json:
        return self._head("chat.completion.chunk") | {"choices": [], "usage": usage.to_json()}

    def _head(self, kind: str) -> Json:
        prefix, kind = ("chatcmpl", kind) if self.is_chat else ("cmpl", "text_completion")
        return {"id": f"{prefix}-{self.unique}", "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, content: Json, *, index: int, logprobs: Json | None = None, reason: str | None = None) -> Json:
        choice = {"index": index} | content | {"logprobs": logprobs, "finish_reason": reason}
        usage = {"usage": None} if self.has_usage_chunk else {}
        return self._head("chat.completion.chunk") | {"choices": [choice]} | usage

    def _logprobs(self, tokens: Sequence[TokenText]) -> Json | None:
        if not self.has_logprobs:
            return None
        return _chat_logprobs(tokens) if self.is_chat else _completion_logprobs(tokens)


def _chat_logprobs(tokens: Sequence[TokenText]) -> Json:
    content = [_describe(token) | {"top_logprobs": [_describe(each) for each in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _describe(token: TokenText) -> Json:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.token_bytes)}


def _completion_logprobs(tokens: Sequence[TokenText]) -> Json:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{each.text: each.logprob for each in token.top} for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def make_error(message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def make_event(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
