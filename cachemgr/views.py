"""`/api/cache/…`: doors to the services."""

from datetime import timedelta
from math import ceil
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cachemgr import monitor, services, space
from cachemgr.models import CacheSnapshot
from cachemgr.serializers import (
    CacheQuestionSerializer,
    CacheStatsSerializer,
    HistoryQuestionSerializer,
    RecommendationSerializer,
    RecommendQuestionSerializer,
    SnapshotSerializer,
    VerdictSerializer,
    stats_body,
)
from cachemgr.space import Verdict
from cachemgr.stats import cache_lines
from cachemgr.units import format_bytes

_PLOT_POINTS = 500


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
        required_bytes = question.validated_data["estimated_size_mb"]
        verdicts = services.check_configured(required_bytes=required_bytes)
        best = space.recommend(verdicts)
        answer = {
            "recommended_cache": best.figures.location if best else None,
            "reason": _reason(best, verdicts),
            "verdicts": verdicts,
        }
        return Response(RecommendationSerializer(answer).data)


class CacheHistoryView(APIView):
    """The snapshots of a cache, thinned to what a plot can show."""

    @extend_schema(parameters=[HistoryQuestionSerializer], responses=SnapshotSerializer(many=True))
    def get(self, request: Request) -> Response:
        question = HistoryQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        since = question.validated_data.get("since") or timezone.now() - timedelta(days=1)
        cache = services.find_cache(question.validated_data["cache"])
        snapshots = list(CacheSnapshot.objects.filter(cache=cache, taken_at__gte=since).order_by("taken_at"))
        step = max(1, ceil(len(snapshots) / _PLOT_POINTS))
        return Response(SnapshotSerializer(snapshots[::step], many=True).data)


def query_and_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ParseError("The body has to be a JSON object.")
    return request.query_params.dict() | dict(request.data)


def _reason(best: Verdict | None, verdicts: list[Verdict]) -> str:
    if best is None:
        return "It fits nowhere now. " + " ".join(verdict.message for verdict in verdicts)
    if best.warning:
        return best.message
    if best.figures.location == "primary":
        return f"It fits the fast drive, with {format_bytes(best.available_bytes - best.required_bytes)} to spare."
    return f"The primary cache has no calm place for it. {best.message}"
