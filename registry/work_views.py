"""`/api/models/<name>/{move,verify,repair}`: doors to long work on a model's files."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import checkups, moves
from registry.download_serializers import DownloadPlanSerializer, DownloadQuestionSerializer
from registry.job_serializers import JobSerializer
from registry.services import get_model
from registry.views import body_of
from registry.work_serializers import MovePlanSerializer, MoveQuestionSerializer


class MoveView(APIView):
    """Moves a model to another cache. It stays usable: from the old place until the new one is whole and verified."""

    @extend_schema(
        request=MoveQuestionSerializer,
        parameters=[OpenApiParameter("dry_run", bool, description="Only say what would be done.")],
        responses={202: JobSerializer, 200: MovePlanSerializer},
    )
    def post(self, request: Request, model_name: str) -> Response:
        asked = MoveQuestionSerializer(data=body_of(request) | request.query_params.dict())
        asked.is_valid(raise_exception=True)
        model = get_model(model_name)
        if asked.validated_data["dry_run"]:
            return Response(MovePlanSerializer(moves.plan_move(model, **asked.place)).data)
        return Response(JobSerializer(moves.request_move(model, **asked.place)).data, status=202)


class VerifyView(APIView):
    """Reads all files of a model again, and compares them with what they have to be."""

    @extend_schema(request=None, responses={202: JobSerializer})
    def post(self, request: Request, model_name: str) -> Response:
        return Response(JobSerializer(checkups.request_verify(get_model(model_name))).data, status=202)


class RepairView(APIView):
    """Fetches what is bad or missing of a model's files, and that alone."""

    @extend_schema(
        request=DownloadQuestionSerializer,
        parameters=[OpenApiParameter("dry_run", bool, description="Only say what would be done.")],
        responses={202: JobSerializer, 200: DownloadPlanSerializer},
    )
    def post(self, request: Request, model_name: str) -> Response:
        asked = DownloadQuestionSerializer(data=body_of(request) | request.query_params.dict())
        asked.is_valid(raise_exception=True)
        model = get_model(model_name)
        if asked.validated_data["dry_run"]:
            return Response(DownloadPlanSerializer(checkups.plan_repair(model)).data)
        return Response(JobSerializer(checkups.request_repair(model)).data, status=202)
