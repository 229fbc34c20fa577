"""The shell's way to the running server: engines live in the web process, not in commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from django.conf import settings

from homelab.errors import HomelabError


class ServerRefused(HomelabError):
    code = "server_refused"


class ServerDown(HomelabError):
    code = "server_down"


def call_server(path: str) -> Any:
    """POSTs to our own server. Raises ServerDown, or ServerRefused with the server's own sentence."""
    with _client() as client, _explained():
        answer = client.post(path)
        if answer.status_code >= 400:
            raise _refusal(answer.content)
        return answer.json()


def stream_chat(model_name: str, messages: list[dict[str, str]], **settings_of_chat: Any) -> Iterator[str]:
    """The answer's text, piece by piece, as the model makes it."""
    body = {"model": model_name, "messages": messages, "stream": True, **settings_of_chat}
    with _client() as client, _explained(), client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise _refusal(answer.read())
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield _text_of(json.loads(line.removeprefix("data: ")))


def _text_of(event: dict[str, Any]) -> str:
    if "error" in event:
        raise ServerRefused(event["error"]["message"])
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _client() -> httpx2.Client:
    """By the socket that only the owner of the server's data may open: it wants no key, wherever the server listens."""
    transport = httpx2.HTTPTransport(uds=str(settings.OWNERS_SOCKET))
    return httpx2.Client(base_url="http://localhost", timeout=httpx2.Timeout(None, connect=5.0), transport=transport)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx2.ConnectError as error:
        message = f"No server answers at {settings.OWNERS_SOCKET} ({error})."
        raise ServerDown(f"{message} Start it with script/server, as the same user.") from error
    except httpx2.TransportError as error:
        raise ServerDown("The server went away in the middle of its answer.") from error


def _refusal(content: bytes) -> ServerRefused:
    try:
        return ServerRefused(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ServerRefused(f"The server answered: {content[:200].decode(errors='replace')}")
