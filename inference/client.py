"""The shell's way to the running server: engines live in the web process, not in commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from django.conf import settings

from homelab.errors import HomelabError

_HERE = {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104  (compared, not bound)


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
    host = "localhost" if settings.HOST in _HERE else settings.HOST
    host = f"[{host}]" if ":" in host else host
    return httpx2.Client(
        base_url=f"http://{host}:{settings.PORT}", timeout=httpx2.Timeout(None, connect=5.0), trust_env=False
    )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx2.ConnectError as error:
        raise ServerDown(f"No server answers on port {settings.PORT}. Start it with script/server.") from error
    except httpx2.TransportError as error:
        raise ServerDown(f"The server on port {settings.PORT} went away in the middle of its answer.") from error


def _refusal(content: bytes) -> ServerRefused:
    try:
        return ServerRefused(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ServerRefused(f"The server answered: {content[:200].decode(errors='replace')}")
