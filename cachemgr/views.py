"""`/api/cache/…`: doors to the services."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cachemgr import history, monitor, services
from cachemgr.errors import CacheUnavailable
from cachemgr.questions import (
    AdoptionSerializer,
    CacheQuestionSerializer,
    EventsQuestionSerializer,
    HistoryQuestionSerializer,
    RecommendQuestionSerializer,
)
from cachemgr.serializers import (
    CacheLineSerializer,
    CacheStatsSerializer,
    EventSerializer,
    RecommendationSerializer,
    SnapshotSerializer,
    VerdictSerializer,
    stats_body,
)
from cachemgr.stats import cache_lines, newest_events


class CacheStatsView(APIView):
    """Use, limits and disk space of each cache, as last measured. Never waits for a drive."""

    @extend_schema(responses=CacheStatsSerializer)
    def get(self, request: Request) -> Response:
        return Response(stats_body(cache_lines(), threshold=settings.CACHE_WARNING_THRESHOLD))


class CacheRefreshView(APIView):
    """Measures every cache now and answers with the stats."""

    @extend_schema(request=None, responses=CacheStatsSerializer)
    def post(self, request: Request) -> Response:
        monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
        return Response(stats_body(cache_lines(), threshold=settings.CACHE_WARNING_THRESHOLD))


class CacheCheckView(APIView):
    """Would so many megabytes fit into a cache? By query or by JSON."""

    @extend_schema(
        parameters=[
            OpenApiParameter("cache_location", str, enum=["primary", "secondary", "custom"]),
            OpenApiParameter("required_space_mb", float),
            OpenApiParameter("cache_path", str, description="For custom."),
        ],
        request=CacheQuestionSerializer,
        responses=VerdictSerializer,
    )
    def post(self, request: Request) -> Response:
        question = CacheQuestionSerializer(data=query_and_body(request))
        question.is_valid(raise_exception=True)
        asked = question.validated_data
        cache = services.find_cache(asked["cache_location"], path=asked.get("cache_path"))
        return Response(VerdictSerializer(services.check(cache, required_bytes=asked["required_space_mb"])).data)


class CacheRecommendView(APIView):
    """Where a model of this size should go, and why."""

    @extend_schema(
        parameters=[OpenApiParameter("estimated_size_mb", float, required=True)], responses=RecommendationSerializer
    )
    def get(self, request: Request) -> Response:
        question = RecommendQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        advice = services.recommend(required_bytes=question.validated_data["estimated_size_mb"])
        return Response(RecommendationSerializer(advice).data)


class CacheHistoryView(APIView):
    """The snapshots of a cache, oldest first, thinned to what a plot can show."""

    @extend_schema(parameters=[HistoryQuestionSerializer], responses=SnapshotSerializer(many=True))
    def get(self, request: Request) -> Response:
        question = HistoryQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        asked = question.validated_data
        cache = services.find_cache(asked["cache"], path=asked.get("cache_path"))
        points = history.points(cache, since=question.asked_since)
        return Response(SnapshotSerializer(points, many=True).data)


class CacheEventsView(APIView):
    """Levels that were crossed and drives that went or came back: the newest hundred, newest first."""

    @extend_schema(parameters=[EventsQuestionSerializer], responses=EventSerializer(many=True))
    def get(self, request: Request) -> Response:
        question = EventsQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        events = newest_events(since=question.validated_data.get("since"))
        return Response(EventSerializer(events, many=True).data)


class CacheAdoptView(APIView):
    """The owner's word for a drive that the monitor does not take by itself.

    `create` makes the folder, also where no drive is mounted; `replace` takes the drive that is there now instead of
    the one that was there before. Answers with the cache's stats, or 503 with what is still in the way.
    """

    @extend_schema(request=AdoptionSerializer, responses=CacheLineSerializer)
    def post(self, request: Request) -> Response:
        question = AdoptionSerializer(data=query_and_body(request))
        question.is_valid(raise_exception=True)
        asked = question.validated_data
        cache = services.keep(services.find_cache(asked["cache_location"], path=asked.get("cache_path")))
        snapshot = monitor.adopt_cache(cache, create=asked["create"], replace=asked["replace"])
        if snapshot.state != "ok":
            raise CacheUnavailable(snapshot.message)
        (line,) = [line for line in cache_lines() if line.cache == cache]
        return Response(CacheLineSerializer(line).data)


def query_and_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ParseError("The body has to be a JSON object.")
    return request.query_params.dict() | dict(request.data)
