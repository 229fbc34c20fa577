"""`/api/ps` and `/api/models/<name>/{load,unload}`: doors to the pool."""

from typing import Any

from asgiref.sync import async_to_sync
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.services import describe_slot, pool_of
from registry.services import get_model


class SlotSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    status = serializers.ChoiceField(choices=["loaded", "loading"])
    stage = serializers.CharField()
    requests = serializers.IntegerField()
    memory_bytes = serializers.IntegerField()
    load_seconds = serializers.FloatField()
    cache_path = serializers.CharField()
    device = serializers.CharField()
    dtype = serializers.CharField()
    context_length = serializers.IntegerField(allow_null=True)


class UnloadedSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    status = serializers.CharField()
    was_loaded = serializers.BooleanField()


class LoadedModelsView(APIView):
    """The models in memory, and those on their way there."""

    @extend_schema(responses=SlotSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response([describe_slot(slot) for slot in list(pool_of(request).slots.values())])


class LoadView(APIView):
    """Loads a model from its own cache and answers when it is ready. The load goes on if the client leaves."""

    @extend_schema(request=None, responses=SlotSerializer)
    def post(self, request: Request, model_name: str) -> Response:
        model = get_model(model_name)
        return Response(describe_slot(async_to_sync(pool_of(request).load)(model.model_name)))


class UnloadView(APIView):
    """Takes a model out of memory. One that answers requests stays: 409 model_busy."""

    @extend_schema(request=None, responses=UnloadedSerializer)
    def post(self, request: Request, model_name: str) -> Response:
        model = get_model(model_name)
        was_loaded = async_to_sync(pool_of(request).unload)(model.model_name)
        return Response({"model": model.model_name, "status": "unloaded", "was_loaded": was_loaded})
