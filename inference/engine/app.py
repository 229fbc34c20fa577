"""The engine's HTTP routes. They answer before the model is there, and stop its work when the client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inference.engine.backend import Backend, Ready, RunnerFacts
from inference.engine.bodies import Asked, BadRequest, read_chat, read_completion
from inference.engine.choices import Answer, Ended, GenerationFailed, Part, Piece
from inference.engine.prompts import encode_prompt
from inference.engine.protocol import DONE, Envelope, Json, make_error, make_event

Result = TypeVar("Result")
_CLIENT_LEFT = 499
_ENCODERS = 2


class EngineApp:
    """`exposures`: what is open in its confinement, in sentences."""

    def __init__(self, backend: Backend, *, model_name: str, exposures: Sequence[str] = ()) -> None:
        self._backend = backend
        self._model_name = model_name
        self._exposures = list(exposures)
        # Templates and tokenizers take milliseconds to a second for a long prompt: too long for the event loop. A
        # template that does not end has one of the threads until it is stopped.
        self._encoder = ThreadPoolExecutor(max_workers=_ENCODERS, thread_name_prefix="encoder")

    def make_app(self) -> Starlette:
        routes = [
            Route("/health", self.show_health),
            Route("/status", self.show_status),
            Route("/v1/chat/completions", self.answer_chat, methods=["POST"]),
            Route("/v1/completions", self.answer_completion, methods=["POST"]),
        ]
        handlers = {BadRequest: _refuse, GenerationFailed: _apologise, ClientDisconnect: _forget}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def show_health(self, request: Request) -> Response:
        state = self._backend.get_state()
        if not isinstance(state, Ready):
            return JSONResponse({"status": "loading"} | asdict(state), status_code=503)
        about = {"status": "ready", "model": self._model_name, "exposures": self._exposures}
        return JSONResponse(about | _describe(state))

    async def show_status(self, request: Request) -> Response:
        load = self._backend.get_load()
        return JSONResponse(asdict(load) | {"idle": load.is_idle})

    async def answer_chat(self, request: Request) -> Response:
        return await self._answer(request, read=read_chat)

    async def answer_completion(self, request: Request) -> Response:
        return await self._answer(request, read=read_completion)

    async def _answer(self, request: Request, *, read: Callable[..., Asked]) -> Response:
        state = self._backend.get_state()
        if not isinstance(state, Ready):
            return _answer_loading(self._model_name, stage=state.stage)
        asked = read(await _read_json(request), model=self._model_name)
        answer = await _work_while_connected(self._prepare(asked, facts=state.runner), request=request)
        if answer is None:
            return Response(status_code=_CLIENT_LEFT)
        envelope = Envelope(
            model=asked.model,
            is_chat=asked.messages is not None,
            has_logprobs=asked.sampling.top_logprobs is not None,
            has_usage_chunk=asked.has_usage_chunk and asked.is_streamed,
        )
        if asked.is_streamed:
            return EventStream(_stream(answer, envelope=envelope), on_end=answer.cancel)
        whole = await _work_while_connected(_collect(answer, envelope=envelope), request=request)
        return JSONResponse(whole) if whole else Response(status_code=_CLIENT_LEFT)

    async def _prepare(self, asked: Asked, *, facts: RunnerFacts) -> Answer:
        encode = partial(encode_prompt, asked, tokenizer=self._backend.get_tokenizer(), facts=facts)
        prompt_ids = await asyncio.get_running_loop().run_in_executor(self._encoder, encode)
        return Answer(asked, prompt_ids=prompt_ids, context_length=facts.context_length, backend=self._backend)


class EventStream(StreamingResponse):
    """Server-sent events. `on_end` is called however the response ends, also when the client has left."""

    def __init__(self, events: AsyncIterator[bytes], *, on_end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _stream(answer: Answer, *, envelope: Envelope) -> AsyncIterator[bytes]:
    """The choices' chunks as they come. A failure is an event and then nothing: a client that sees no [DONE] knows that
    something is missing."""
    answer.submit()
    if envelope.is_chat:
        for choice in answer.choices:
            yield make_event(envelope.make_role_chunk(index=choice.index))
    try:
        async for index, part in answer.read():
            yield make_event(_make_chunk(part, index=index, envelope=envelope))
    except GenerationFailed as error:
        yield make_event(make_error(str(error), kind="server_error", code="generation_failed"))
        return
    if envelope.has_usage_chunk:
        yield make_event(envelope.make_usage_chunk(answer.usage))
    yield DONE


def _make_chunk(part: Part, *, index: int, envelope: Envelope) -> Json:
    match part:
        case Piece(text, tokens):
            return envelope.make_text_chunk(text, index=index, logprobs=tokens)
        case Ended(reason):
            return envelope.make_last_chunk(index=index, reason=reason)


async def _collect(answer: Answer, *, envelope: Envelope) -> Json:
    answer.submit()
    parts: list[list[Part]] = [[] for _ in answer.choices]
    try:
        async for index, part in answer.read():
            parts[index].append(part)
    finally:
        answer.cancel()
    choices = [_join(each, index=index, envelope=envelope) for index, each in enumerate(parts)]
    return envelope.make_answer(choices, usage=answer.usage)


def _join(parts: Sequence[Part], *, index: int, envelope: Envelope) -> Json:
    pieces = [part for part in parts if isinstance(part, Piece)]
    (reason,) = (part.reason for part in parts if isinstance(part, Ended))
    text = "".join(piece.text for piece in pieces)
    tokens = [token for piece in pieces for token in piece.tokens]
    return envelope.make_choice(text, index=index, reason=reason, logprobs=tokens)


async def _work_while_connected(work: Coroutine[Any, Any, Result], *, request: Request) -> Result | None:
    """The result of the work; None if the client left before, and then the work is cancelled."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_until_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _read_json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}", code="invalid_json") from error


def _describe(ready: Ready) -> Json:
    runner, model = ready.runner, ready.model
    return {
        "backend": runner.backend,
        "backend_reason": runner.backend_reason,
        "context_length": runner.context_length,
        "parallel_requests": runner.parallel_requests,
        "kv_tokens": runner.kv_tokens,
        "device": model.device,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "weights_bytes": sum(model.weights_by_device.values()),
        "memory": ready.count_memory(),
        "load_seconds": ready.load_seconds,
        "stage_seconds": dict(ready.stage_seconds),
    }


def _answer_loading(model_name: str, *, stage: str) -> Response:
    message = f"{model_name} is still loading (stage: {stage}). Try again in a moment."
    body = make_error(message, kind="server_error", code="model_loading")
    return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})


async def _refuse(request: Request, error: Exception) -> Response:
    param, code = (error.param, error.code) if isinstance(error, BadRequest) else (None, "invalid_value")
    return JSONResponse(make_error(str(error), param=param, code=code), status_code=400)


async def _apologise(request: Request, error: Exception) -> Response:
    return JSONResponse(make_error(str(error), kind="server_error", code="generation_failed"), status_code=500)


async def _forget(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT)
