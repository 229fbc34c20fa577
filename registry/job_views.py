"""`/api/jobs…`: doors to jobs and to the stream of their changes."""

from collections.abc import Iterable

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import jobs
from registry.job_serializers import JobQuestionSerializer, JobSerializer
from registry.job_stream import stream_jobs
from registry.models import Job
from registry.services import find_job

_MOST_JOBS = 100


class JobListView(APIView):
    """The newest hundred jobs."""

    @extend_schema(parameters=[JobQuestionSerializer], responses=JobSerializer(many=True))
    def get(self, request: Request) -> Response:
        found = JobQuestionSerializer(data=request.query_params.dict()).jobs()
        return Response(JobSerializer(found[:_MOST_JOBS], many=True).data)


def _get_job(pk: int) -> Job:
    return find_job(pk, listed_by="GET /api/jobs")


class JobView(APIView):
    """One job: its state, progress, rate and error."""

    @extend_schema(responses=JobSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(JobSerializer(_get_job(pk)).data)


class JobCancelView(APIView):
    """Ends a job. What was half done is cleaned up."""

    @extend_schema(request=None, responses={202: JobSerializer})
    def post(self, request: Request, pk: int) -> Response:
        return Response(JobSerializer(jobs.cancel_job(_get_job(pk))).data, status=202)


class JobRetryView(APIView):
    """Queues a job again that failed or was cancelled; what is there already is kept."""

    @extend_schema(request=None, responses={202: JobSerializer})
    def post(self, request: Request, pk: int) -> Response:
        return Response(JobSerializer(jobs.retry_job(_get_job(pk))).data, status=202)


class AnyAccept(BaseContentNegotiation):
    """Browsers ask for text/event-stream, and errors are JSON nevertheless."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class JobEventsView(APIView):
    """Server-sent events named `job`: each open job at first, then each job that changes, as JSON. A comment line
    comes at least every 10 s."""

    content_negotiation_class = AnyAccept
    renderer_classes = [JSONRenderer]

    @extend_schema(responses={(200, "text/event-stream"): OpenApiTypes.STR})
    def get(self, request: Request) -> StreamingHttpResponse:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # no proxy may keep events back
        return StreamingHttpResponse(stream_jobs(), content_type="text/event-stream", headers=headers)
