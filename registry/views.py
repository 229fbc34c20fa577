"""`/api/models…` and `/api/jobs…`: doors to the services."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from homelab.errors import InvalidValue
from registry import services
from registry.errors import UnknownJob
from registry.models import Job, ModelRegistry
from registry.placing import estimate
from registry.serializers import (
    EstimateQuestionSerializer,
    EstimateSerializer,
    JobSerializer,
    ModelChangeSerializer,
    ModelSerializer,
    RegisteredModelSerializer,
    WishSerializer,
    models_body,
)


def _body(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ParseError("The body has to be a JSON object.")
    return dict(request.data)


class ModelListView(generics.GenericAPIView[ModelRegistry]):
    """The registered models, and the place to register one."""

    queryset = ModelRegistry.objects.all()
    serializer_class = WishSerializer

    @extend_schema(responses=ModelSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(models_body(self.get_queryset()))

    @extend_schema(request=WishSerializer, responses={201: RegisteredModelSerializer})
    def post(self, request: Request) -> Response:
        asked = WishSerializer(data=_body(request))
        asked.is_valid(raise_exception=True)
        done = services.register(asked.wish())
        job = services.request_download(done.model) if asked.validated_data["download"] else None
        done.model.warnings, done.model.job = done.notices, job  # type: ignore[attr-defined]
        return Response(RegisteredModelSerializer(done.model).data, status=201)


class ModelView(APIView):
    """One model."""

    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, model_name: str) -> Response:
        return Response(ModelSerializer(services.get_model(model_name)).data)

    @extend_schema(request=ModelChangeSerializer, responses=ModelSerializer)
    def patch(self, request: Request, model_name: str) -> Response:
        asked = ModelChangeSerializer(data=_body(request))
        asked.is_valid(raise_exception=True)
        model = services.get_model(model_name)
        services.change(model, asked.validated_data)
        return Response(ModelSerializer(model).data)

    @extend_schema(
        parameters=[OpenApiParameter("files", str, enum=["keep"], description="What becomes of its files.")],
        responses={204: None},
    )
    def delete(self, request: Request, model_name: str) -> Response:
        model = services.get_model(model_name)
        files = request.query_params.get("files")
        if files != "keep" and not (files is None and services.has_no_files(model)):
            message = f"{model} has files on a drive. Say files=keep to forget the model and leave them where they are."
            raise InvalidValue(message, field="files", code="files_choice_needed")
        services.forget(model)
        return Response(status=204)


class DownloadView(APIView):
    """Queues the download of a model into its own cache."""

    @extend_schema(request=None, responses={202: JobSerializer})
    def post(self, request: Request, model_name: str) -> Response:
        job = services.request_download(services.get_model(model_name))
        return Response(JobSerializer(job).data, status=202)


class PinView(APIView):
    """Pins a model: it is not unloaded or moved by itself."""

    @extend_schema(request=None, responses=ModelSerializer)
    def post(self, request: Request, model_name: str) -> Response:
        model = services.get_model(model_name)
        services.change(model, {"pinned": True})
        return Response(ModelSerializer(model).data)


class EstimateView(APIView):
    """How large a repo is, what of it lies on which drive, and where the rest would fit, before it is registered."""

    @extend_schema(
        parameters=[
            OpenApiParameter("hf_path", str, required=True),
            OpenApiParameter("revision", str, default="main", description="A branch, tag or commit."),
        ],
        responses=EstimateSerializer,
    )
    def get(self, request: Request) -> Response:
        question = EstimateQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        services.check_hf_path(question.validated_data["hf_path"])
        return Response(EstimateSerializer(estimate(**question.validated_data)).data)


class JobListView(generics.GenericAPIView[Job]):
    """The newest hundred jobs."""

    queryset = Job.objects.select_related("model")
    serializer_class = JobSerializer

    @extend_schema(responses=JobSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(JobSerializer(self.get_queryset()[:100], many=True).data)


def _get_job(pk: int) -> Job:
    job = Job.objects.select_related("model").filter(pk=pk).first()
    if job is None:
        raise UnknownJob(f"There is no job {pk}. GET /api/jobs lists them.")
    return job


class JobView(APIView):
    """One job: its state, progress, rate and error."""

    @extend_schema(responses=JobSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(JobSerializer(_get_job(pk)).data)


class JobCancelView(APIView):
    """Ends a job. What was half done is cleaned up."""

    @extend_schema(request=None, responses={202: JobSerializer})
    def post(self, request: Request, pk: int) -> Response:
        return Response(JobSerializer(services.cancel_job(_get_job(pk))).data, status=202)
