"""The engine's routes around a model that does nothing: what happens before a generation begins."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from inference.engine.app import EngineApp
from inference.engine.backend import Generation, Ready, RunnerFacts

FACTS = RunnerFacts("batching", context_length=512, parallel_requests=1, words=2048)


@dataclass
class SlowTokenizer:
    """Each text takes until `go_on` is set."""

    go_on: threading.Event = field(default_factory=threading.Event)
    texts: list[str] = field(default_factory=list)
    chat_template: str = "x"
    bos_token_id: int = 1

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        self.texts.append(text)
        assert self.go_on.wait(timeout=20)
        return {"input_ids": [1, 2]}

    def decode(self, ids: Any, **others: Any) -> str:
        return ""


@dataclass
class IdleBackend:
    tokenizer: SlowTokenizer = field(default_factory=SlowTokenizer)
    submitted: list[Generation] = field(default_factory=list)

    def get_state(self) -> Ready:
        return Ready(SimpleNamespace(), FACTS, load_seconds=0, stage_seconds={})

    def get_tokenizer(self) -> SlowTokenizer:
        return self.tokenizer

    def submit(self, generation: Generation) -> None:
        self.submitted.append(generation)

    def cancel(self, generation: Generation) -> None:
        generation.cancelled.set()


@dataclass
class Client:
    """Of one request to the app, without a socket."""

    app: Any
    body: dict[str, Any]
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)
    has_asked: bool = False

    async def ask(self) -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "query_string": b""}
        await self.app(scope, self.receive, self.send)

    async def receive(self) -> dict[str, Any]:
        if not self.has_asked:
            self.has_asked = True
            return {"type": "http.request", "body": json.dumps(self.body).encode(), "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@contextmanager
def serve(backend: IdleBackend) -> Iterator[Any]:
    try:
        yield EngineApp(backend, model_name="idle").make_app()
    finally:
        backend.tokenizer.go_on.set()


async def test_who_leaves_while_his_prompt_is_encoded_is_let_go_and_never_submitted() -> None:
    backend = IdleBackend()
    with serve(backend) as app:
        for is_streamed in (True, False):
            client = Client(app, {"prompt": "slow", "stream": is_streamed})
            asking = asyncio.create_task(client.ask())
            while not backend.tokenizer.texts:
                await asyncio.sleep(0.01)
            client.left.set()
            async with asyncio.timeout(1):
                await asking
            assert client.sent[0]["status"] == 499
            backend.tokenizer.texts.clear()
    await asyncio.sleep(0.05)
    assert not backend.submitted


async def test_who_waits_to_be_encoded_and_leaves_is_not_encoded_any_more() -> None:
    backend = IdleBackend()
    with serve(backend) as app:
        clients = [Client(app, {"prompt": f"number {number}"}) for number in range(3)]
        asking = [asyncio.create_task(client.ask()) for client in clients]
        async with asyncio.timeout(5):
            while len(backend.tokenizer.texts) < 2:
                await asyncio.sleep(0.01)
        assert set(backend.tokenizer.texts) == {"number 0", "number 1"}
        clients[2].left.set()
        async with asyncio.timeout(1):
            await asking[2]
        backend.tokenizer.go_on.set()
        while len(backend.submitted) < 2:
            await asyncio.sleep(0.01)
        assert "number 2" not in backend.tokenizer.texts
        for client, task in zip(clients[:2], asking[:2], strict=True):
            client.left.set()
            await task
        assert all(each.cancelled.is_set() for each in backend.submitted)
