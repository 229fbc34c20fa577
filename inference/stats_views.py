"""`/api/models/<name>/stats`: a door to the records."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.stats import stats_of
from inference.stats_serializers import UsageStatsSerializer
from registry.services import get_model


class StatsView(APIView):
    """How much a model is used, how fast it answers and loads, and what went wrong."""

    @extend_schema(responses=UsageStatsSerializer)
    def get(self, request: Request, model_name: str) -> Response:
        return Response(UsageStatsSerializer(stats_of(get_model(model_name))).data)
