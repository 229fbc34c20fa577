"""What a client of any of the servers sees: the same requests and the same code for all of them."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

PATIENCE_SECONDS = 300.0
Chat = list[dict[str, str]]
_TOPICS = ("the harbour", "an old clock", "two lanterns", "the library", "a frozen lake", "the night train", "bread")


@dataclass(frozen=True)
class Endpoint:
    """`model` is the name that this server knows it by: the peer takes a path."""

    url: str
    model: str


@dataclass(frozen=True)
class Heard:
    """One answer; times on the clock of `time.monotonic`. `first_at` is that of the first piece of text."""

    asked_at: float
    first_at: float
    ended_at: float
    tokens: int

    @property
    def first_seconds(self) -> float:
        return self.first_at - self.asked_at


def make_chat(number: int) -> Chat:
    """About forty tokens, no two alike from their first words on, so that no cache of prompts is of use."""
    topic = _TOPICS[number % len(_TOPICS)]
    return [{"role": "user", "content": f"{number}: please tell me a long story about {topic}, and leave nothing out."}]


def ask_together(endpoint: Endpoint, chats: Sequence[Chat], *, tokens: int) -> list[Heard]:
    """All at once, each on a connection of its own. Raises SystemExit where one does not get all its tokens."""
    return asyncio.run(_ask_together(endpoint, chats, tokens=tokens))


async def _ask_together(endpoint: Endpoint, chats: Sequence[Chat], *, tokens: int) -> list[Heard]:
    async with httpx2.AsyncClient(base_url=endpoint.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
        return await asyncio.gather(*(_ask(client, _make_body(endpoint, chat, tokens=tokens)) for chat in chats))


def _make_body(endpoint: Endpoint, chat: Chat, *, tokens: int) -> dict[str, Any]:
    """Greedy: then both sides compute the same tokens."""
    usage = {"include_usage": True}
    settings = {"temperature": 0, "max_tokens": tokens, "stream": True, "stream_options": usage}
    return {"model": endpoint.model, "messages": chat, **settings}


async def _ask(client: httpx2.AsyncClient, body: dict[str, Any]) -> Heard:
    asked_at = time.monotonic()
    first_at, counted = None, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                event = _read_event(line)
                if first_at is None and _text_of(event):
                    first_at = time.monotonic()
                counted = (event.get("usage") or {}).get("completion_tokens", counted)
    if answer.status_code != 200 or first_at is None or counted != body["max_tokens"]:
        raise SystemExit(f"{client.base_url}: {answer.status_code}, {counted} of {body['max_tokens']} tokens came.")
    return Heard(asked_at, first_at, time.monotonic(), counted)


def _read_event(line: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise SystemExit(f"A server failed: {event['error']}")
    return event


def _text_of(event: dict[str, Any]) -> str:
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def tokens_per_second(answers: Sequence[Heard]) -> float:
    """Of all together, from the first request to the last token."""
    took = max(each.ended_at for each in answers) - min(each.asked_at for each in answers)
    return sum(each.tokens for each in answers) / took
