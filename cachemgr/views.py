"""`/api/cache/…`: doors to the services."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cachemgr import cleaning, history, monitor, services, trash
from cachemgr.errors import CacheUnavailable
from cachemgr.models import TrashedRepo
from cachemgr.questions import (
    AdoptionSerializer,
    CacheQuestionSerializer,
    CleanQuestionSerializer,
    EventsQuestionSerializer,
    HistoryQuestionSerializer,
    RecommendQuestionSerializer,
    TrashQuestionSerializer,
)
from cachemgr.serializers import (
    CacheLineSerializer,
    CacheStatsSerializer,
    CleanSerializer,
    EventSerializer,
    RecommendationSerializer,
    SnapshotSerializer,
    TrashedRepoSerializer,
    TrashSerializer,
    VerdictSerializer,
    stats_body,
    trash_body,
)
from cachemgr.stats import cache_lines, newest_events


class CacheStatsView(APIView):
    """Use, limits and disk space of each cache, as last measured. Never waits for a drive."""

    @extend_schema(responses=CacheStatsSerializer)
    def get(self, request: Request) -> Response:
        return Response(stats_body(cache_lines(), threshold=settings.CACHE_WARNING_THRESHOLD))


class CacheRefreshView(APIView):
    """Measures every cache now and answers with the stats."""

    is_question = True

    @extend_schema(request=None, responses=CacheStatsSerializer)
    def post(self, request: Request) -> Response:
        monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
        return Response(stats_body(cache_lines(), threshold=settings.CACHE_WARNING_THRESHOLD))


class CacheCheckView(APIView):
    """Would so many megabytes fit into a cache? By query or by JSON."""

    is_question = True

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


class TrashView(APIView):
    """Removed repos that can still come back."""

    @extend_schema(responses=TrashSerializer)
    def get(self, request: Request) -> Response:
        entries = list(trash.entries())
        return Response(trash_body(entries, freed_bytes=sum(entry.freed_bytes for entry in entries)))

    @extend_schema(parameters=[TrashQuestionSerializer], responses={200: TrashSerializer})
    def delete(self, request: Request) -> Response:
        """Empties it, for good. Answers what was in it, and what that freed."""
        return _empty_trash(request, list(trash.entries()))


class TrashedRepoView(APIView):
    """One removed repo."""

    @extend_schema(responses=TrashedRepoSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(TrashedRepoSerializer(trash.find_entry(pk)).data)

    @extend_schema(parameters=[TrashQuestionSerializer], responses={200: TrashSerializer})
    def delete(self, request: Request, pk: int) -> Response:
        """Removes it for good."""
        return _empty_trash(request, [trash.find_entry(pk)])


def _empty_trash(request: Request, entries: Sequence[TrashedRepo]) -> Response:
    is_dry_run = _is_dry_run(request)
    loads = trash.weigh_entries(entries)
    body = trash_body([load.entry for load in loads], freed_bytes=sum(load.weight.freed_bytes for load in loads))
    if not is_dry_run:
        trash.empty(loads)
    return Response(body)


def _is_dry_run(request: Request) -> bool:
    question = TrashQuestionSerializer(data=request.query_params.dict())
    question.is_valid(raise_exception=True)
    return bool(question.validated_data["dry_run"])


class RestoreView(APIView):
    """Puts a removed repo back in its place, and its model into the registry."""

    @extend_schema(
        request=None, parameters=[TrashQuestionSerializer], responses={204: None, 200: TrashedRepoSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Puts it back in its place, and its model into the registry: 204, or 200 and what would come (`dry_run`)."""
        entry = trash.find_entry(pk)
        if _is_dry_run(request):
            trash.check_restore(entry)
            return Response(TrashedRepoSerializer(entry).data)
        trash.restore(entry)
        return Response(status=204)


class CleanView(APIView):
    """What lies in the caches that nobody needs, class by class, with its bytes."""

    @extend_schema(responses=CleanSerializer)
    def get(self, request: Request) -> Response:
        """Asks every drive and changes nothing."""
        return Response(CleanSerializer(cleaning.plan_clean()).data)

    @extend_schema(request=CleanQuestionSerializer, responses=CleanSerializer)
    def post(self, request: Request) -> Response:
        """Removes these classes for good, and answers what is gone."""
        question = CleanQuestionSerializer(data=query_and_body(request))
        question.is_valid(raise_exception=True)
        plan = cleaning.plan_clean(question.validated_data["classes"])
        return Response(CleanSerializer(plan if question.validated_data["dry_run"] else plan.execute()).data)


def query_and_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ParseError("The body has to be a JSON object.")
    return request.query_params.dict() | dict(request.data)
