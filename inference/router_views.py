"""`/models`, `/models/load` and `/models/unload`: as llama.cpp's router has them, for the tools that speak to it
(Open WebUI's llama.cpp connections among them)."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.services import begin_to_load, describe_servable, list_servable, pool_of, unload
from registry.models import ModelRegistry
from registry.services import get_model
from registry.views import body_of


class RouterQuestionSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)


class RouterAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()


def _asked_model(request: Request) -> ModelRegistry:
    asked = RouterQuestionSerializer(data=body_of(request))
    asked.is_valid(raise_exception=True)
    return get_model(asked.validated_data["model"])


class RouterModelsView(APIView):
    """The models that can be served, each with its status, as /v1/models lists them."""

    @extend_schema(responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        pool = pool_of(request)
        return Response({"object": "list", "data": [describe_servable(each, pool=pool) for each in list_servable()]})


class RouterLoadView(APIView):
    """Begins to load a model, and answers at once: the list tells when it is there."""

    @extend_schema(request=RouterQuestionSerializer, responses=RouterAnswerSerializer)
    def post(self, request: Request) -> Response:
        begin_to_load(_asked_model(request), pool=pool_of(request))
        return Response({"success": True})


class RouterUnloadView(APIView):
    """Takes a model out of memory. One that answers requests stays: 409 model_busy."""

    @extend_schema(request=RouterQuestionSerializer, responses=RouterAnswerSerializer)
    def post(self, request: Request) -> Response:
        unload(_asked_model(request), pool=pool_of(request))
        return Response({"success": True})
