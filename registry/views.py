"""`/api/models…` and `/api/jobs…`: doors to the services."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework import generics
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cachemgr.serializers import TrashedRepoSerializer
from registry import changes, removal, services
from registry.download_serializers import DownloadPlanSerializer, DownloadQuestionSerializer
from registry.downloads import plan_download
from registry.job_serializers import JobSerializer
from registry.models import ModelRegistry
from registry.placing import estimate
from registry.serializers import (
    EstimateQuestionSerializer,
    EstimateSerializer,
    ModelChangeSerializer,
    ModelSerializer,
    PresentModelSerializer,
    RemovalQuestionSerializer,
    RemovalSerializer,
    WishSerializer,
    models_body,
)
from registry.work_serializers import ChangedModelSerializer, RegisteredModelSerializer

_REMOVED = PolymorphicProxySerializer(
    component_name="Removed", serializers=[RemovalSerializer, TrashedRepoSerializer], resource_type_field_name=None
)


def body_of(request: Request) -> dict[str, Any]:
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
        asked = WishSerializer(data=body_of(request))
        asked.is_valid(raise_exception=True)
        done = services.register(asked.wish())
        job = services.request_download(done.model) if asked.validated_data["download"] else None
        done.model.warnings, done.model.job = done.notices, job  # type: ignore[attr-defined]
        return Response(RegisteredModelSerializer(done.model).data, status=201)


class ModelView(APIView):
    """One model."""

    @extend_schema(responses=PresentModelSerializer)
    def get(self, request: Request, model_name: str) -> Response:
        model = services.get_model(model_name)
        return Response(PresentModelSerializer(model, context={"request": request}).data)

    @extend_schema(request=ModelChangeSerializer, responses=ChangedModelSerializer)
    def patch(self, request: Request, model_name: str) -> Response:
        asked = ModelChangeSerializer(data=body_of(request))
        asked.is_valid(raise_exception=True)
        model = services.get_model(model_name)
        model.job = changes.change(model, asked.validated_data)  # type: ignore[attr-defined]
        model.refresh_from_db()
        return Response(ChangedModelSerializer(model).data)

    @extend_schema(
        parameters=[RemovalQuestionSerializer],
        responses={200: _REMOVED, 204: None},
    )
    def delete(self, request: Request, model_name: str) -> Response:
        """Forgets it. Its files go to the trash of their cache, from where they can come back, or stay where they are.

        204, or 200 with the plan (`dry_run`) and with the entry in the trash.
        """
        question = RemovalQuestionSerializer(data=request.query_params.dict())
        question.is_valid(raise_exception=True)
        model, asked = services.get_model(model_name), question.validated_data
        if asked["dry_run"]:
            return Response(RemovalSerializer(removal.plan_removal(model)).data)
        if asked.get("files") is None and not services.has_no_files(model):
            raise removal.choice_needed(model)
        if asked.get("files") != "trash":
            services.forget(model)
            return Response(status=204)
        entry = removal.remove(model, keeps_row=asked["row"] == "keep")
        return Response(TrashedRepoSerializer(entry).data) if entry else Response(status=204)


class DownloadView(APIView):
    """Queues the download of a model into its own cache."""

    @extend_schema(
        request=DownloadQuestionSerializer,
        parameters=[OpenApiParameter("dry_run", bool, description="Only say what would be done.")],
        responses={202: JobSerializer, 200: DownloadPlanSerializer},
    )
    def post(self, request: Request, model_name: str) -> Response:
        asked = DownloadQuestionSerializer(data=body_of(request) | request.query_params.dict())
        asked.is_valid(raise_exception=True)
        model = services.get_model(model_name)
        if asked.validated_data["dry_run"]:
            return Response(DownloadPlanSerializer(plan_download(model)).data)
        return Response(JobSerializer(services.request_download(model)).data, status=202)


class PinView(APIView):
    """Pins a model: it is not unloaded or moved by itself."""

    @extend_schema(request=None, responses=ModelSerializer)
    def post(self, request: Request, model_name: str) -> Response:
        model = services.get_model(model_name)
        changes.change(model, {"pinned": True})
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
