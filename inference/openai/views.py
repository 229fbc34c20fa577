"""`/v1`: the models that OpenAI's clients can ask. Chats and completions never come this far: see door.py."""

import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from homelab.errors import HomelabError, NotFound
from homelab.owner import may_act
from inference.openai.errors import DATABASE_AWAY, DatabaseAway, MethodNotAllowed, error_response
from inference.services import describe_servable, list_servable, pool_of
from registry.services import get_model

logger = logging.getLogger(__name__)

AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def openai_view(*methods: str) -> Callable[[AsyncView], AsyncView]:
    """Checks the method and who asks; every HomelabError becomes OpenAI's error shape. The gate refused other sites."""

    def decorate(view: AsyncView) -> AsyncView:
        @csrf_exempt
        @wraps(view)
        async def answer(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    raise MethodNotAllowed(f"{request.path} does not answer {request.method}.")
                await sync_to_async(may_act)(request)
                return await view(request, **kwargs)
            except HomelabError as error:
                return error_response(error)
            except DatabaseError:
                logger.exception("The database failed in %s", request.path)
                return error_response(DatabaseAway(DATABASE_AWAY))

        return answer

    return decorate


@openai_view("GET")
async def list_models(request: HttpRequest) -> HttpResponse:
    models = await sync_to_async(list_servable)()
    pool = pool_of(request)
    return JsonResponse({"object": "list", "data": [describe_servable(model, pool=pool) for model in models]})


@openai_view("GET")
async def show_model(request: HttpRequest, name: str) -> HttpResponse:
    model = await sync_to_async(get_model)(name)
    return JsonResponse(describe_servable(model, pool=pool_of(request)))


@openai_view("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
async def unknown(request: HttpRequest, rest: str) -> HttpResponse:
    raise NotFound(f"There is no {request.path[:100]}. /v1/models, /v1/chat/completions and /v1/completions are there.")
