"""`/v1`: what OpenAI's clients call. Asynchronous doors: an answer can take minutes."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from homelab.errors import HomelabError, NotFound
from homelab.owner import may_act
from inference.errors import BadRequest
from inference.openai.errors import error_response
from inference.openai.relay import Exchange
from inference.openai.schema import Generation, parse_chat, parse_completion
from inference.pool import EnginePool
from inference.services import describe_servable, list_servable, pool_of
from registry.services import get_model

_HEADERS_WITHIN_SECONDS = 0.5

AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def openai_view(*methods: str) -> Callable[[AsyncView], AsyncView]:
    """Checks the method and who asks; every HomelabError becomes OpenAI's error shape. The gate refused other sites."""

    def decorate(view: AsyncView) -> AsyncView:
        @csrf_exempt
        @wraps(view)
        async def answer(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    raise _method_not_allowed(request)
                await sync_to_async(may_act)(request)
                return await view(request, **kwargs)
            except HomelabError as error:
                return error_response(error)

        return answer

    return decorate


def _method_not_allowed(request: HttpRequest) -> HomelabError:
    error = HomelabError(f"{request.path} does not answer {request.method}.")
    error.status, error.code = 405, "method_not_allowed"
    return error


@openai_view("GET")
async def list_models(request: HttpRequest) -> HttpResponse:
    models = await sync_to_async(list_servable)()
    pool = pool_of(request)
    return JsonResponse(
        {
            "object": "list",
            "data": [describe_servable(model, state=pool.state_of(model.model_name)) for model in models],
        }
    )


@openai_view("GET")
async def show_model(request: HttpRequest, name: str) -> HttpResponse:
    model = await sync_to_async(get_model)(name)
    return JsonResponse(describe_servable(model, state=pool_of(request).state_of(model.model_name)))


@openai_view("POST")
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    return await _generate(request, parse_chat(_json(request)), path="/v1/chat/completions")


@openai_view("POST")
async def completions(request: HttpRequest) -> HttpResponseBase:
    return await _generate(request, parse_completion(_json(request)), path="/v1/completions")


@openai_view("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
async def unknown(request: HttpRequest, rest: str) -> HttpResponse:
    raise NotFound(f"There is no {request.path[:100]}. /v1/models, /v1/chat/completions and /v1/completions are there.")


def _json(request: HttpRequest) -> Any:
    if request.content_type != "application/json":
        error = BadRequest(
            "The body has to be JSON: send Content-Type: application/json.", param="body", code="unsupported_media_type"
        )
        error.status = 415
        raise error
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}", param="body", code="invalid_json") from error


async def _generate(request: HttpRequest, generation: Generation, *, path: str) -> HttpResponseBase:
    """A quick refusal gets its true status; what takes longer begins to stream, and says later what happened."""
    pool: EnginePool = pool_of(request)
    exchange = Exchange(pool, generation, path=path)
    try:
        if generation.stream:
            return await _stream(exchange)
        status, body = await exchange.read_body()
    except BaseException:
        await exchange.close()
        raise
    await exchange.close()
    return HttpResponse(body, status=status, content_type="application/json")


async def _stream(exchange: Exchange) -> HttpResponseBase:
    await asyncio.wait({exchange.open()}, timeout=_HEADERS_WITHIN_SECONDS)
    if exchange.open().done():
        response = exchange.open().result()  # raises what went wrong before the headers
        if response.status_code != 200:
            body = await response.aread()
            await exchange.close()
            return HttpResponse(body, status=response.status_code, content_type="application/json")
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(exchange.events(), content_type="text/event-stream", headers=headers)
