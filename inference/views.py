"""`/api/ps…` and `/api/models/<name>/{load,unload}`: doors to the pool."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.ps_stream import stream_presences
from inference.services import STATUSES, describe_slot, list_presences, load, pool_of, unload
from inference.stages import STAGES
from registry.job_views import AnyAccept
from registry.services import get_model
from registry.views import body_of


class PresenceSerializer(serializers.Serializer[Any]):
    """Where a model is: in memory, or on its way there or out of it. `stage` and `since` are empty for one that is
    neither. One that is `leaving` takes no requests, ends those that it has, and gives its memory back.

    Bytes are those of the stage; `position` is its place in the queue for memory; `reason` says what it waits for, or
    why it failed. `unloads_at`: when it leaves, if nobody asks for it again. `exposures`: what this machine leaves open
    in its confinement, in sentences."""

    model = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    stage = serializers.ChoiceField(choices=STAGES, allow_blank=True)
    bytes_done = serializers.IntegerField()
    bytes_total = serializers.IntegerField()
    position = serializers.IntegerField()
    reason = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    requests = serializers.IntegerField()
    memory_bytes = serializers.IntegerField()
    load_seconds = serializers.FloatField()
    cache_path = serializers.CharField()
    device = serializers.CharField()
    dtype = serializers.CharField()
    context_length = serializers.IntegerField(allow_null=True)
    backend = serializers.CharField()
    backend_reason = serializers.CharField()
    exposures = serializers.ListField(child=serializers.CharField())
    keep_alive_seconds = serializers.FloatField(allow_null=True)
    unloads_at = serializers.DateTimeField(allow_null=True)


class UnloadQuestionSerializer(serializers.Serializer[Any]):
    """`force`: also one that answers requests; these end with an error."""

    force = serializers.BooleanField(default=False)


class UnloadedSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    status = serializers.CharField()
    was_loaded = serializers.BooleanField()


class LoadedModelsView(APIView):
    """The models in memory, and those on their way there or out of it. One that is loaded anew while its old engine
    ends its answers is there twice, `leaving` first."""

    @extend_schema(responses=PresenceSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(list_presences(pool_of(request)))


class PresenceEventsView(APIView):
    """Server-sent events: first one named `ps` with all that /api/ps tells, then one named `model` for each that
    changed or left; the last one of a model counts. A comment line comes at least every 10 s."""

    content_negotiation_class = AnyAccept
    renderer_classes = [JSONRenderer]

    @extend_schema(responses={(200, "text/event-stream"): OpenApiTypes.STR})
    def get(self, request: Request) -> StreamingHttpResponse:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # no proxy may keep events back
        events = stream_presences(pool_of(request))
        return StreamingHttpResponse(events, content_type="text/event-stream", headers=headers)


class LoadView(APIView):
    """Loads a model from its own cache and answers when it is ready. The load goes on if the client leaves. A model
    that failed too often gets a new chance."""

    @extend_schema(request=None, responses=PresenceSerializer)
    def post(self, request: Request, model_name: str) -> Response:
        pool = pool_of(request)
        return Response(describe_slot(load(get_model(model_name), pool=pool), pool=pool))


class UnloadView(APIView):
    """Takes a model out of memory. One that answers requests stays, unless by force: 409 model_busy."""

    @extend_schema(
        request=UnloadQuestionSerializer,
        parameters=[OpenApiParameter("force", bool, description="The same in the query.")],
        responses=UnloadedSerializer,
    )
    def post(self, request: Request, model_name: str) -> Response:
        asked = UnloadQuestionSerializer(data=body_of(request) | request.query_params.dict())
        asked.is_valid(raise_exception=True)
        model, pool = get_model(model_name), pool_of(request)
        was_loaded = unload(model, pool=pool, by_force=asked.validated_data["force"])
        return Response({"model": model.model_name, "status": "unloaded", "was_loaded": was_loaded})
