"""The list of models: the same answer as for one of them, however many there are."""

from datetime import UTC, datetime
from typing import Any

import pytest

from registry.models import ModelRegistry
from registry.serializers import ModelSerializer, models_body

pytestmark = pytest.mark.django_db
MOMENT = datetime(2026, 1, 31, 18, 0, 0, tzinfo=UTC)


def make(name: str, **values: Any) -> ModelRegistry:
    return ModelRegistry.objects.create(model_name=name, hf_path=f"org/{name}", **values)


@pytest.fixture
def models(caches) -> list[ModelRegistry]:
    return [
        make("plain"),
        make("sized", model_size_mb=14000.0, estimated_size_mb=13999.96, status="ready", revision="a" * 40),
        make("used", last_used_at=MOMENT, use_count=3, pinned=True, metadata={"max_position_embeddings": 512}),
        make("precise", last_used_at=MOMENT.replace(microsecond=120), metadata={"max_position_embeddings": "512"}),
        make("custom", cache_location="custom", cache_path="/mnt/x", status="failed", error="It broke."),
        make("by-hand", cache_location="secondary", cache_path="/left/there/by/hand"),
        make("read", read_at=MOMENT, verified_at=MOMENT.replace(microsecond=120), unproven=["a.txt"]),
    ]


def test_the_list_has_what_each_model_has(models: list[ModelRegistry]) -> None:
    assert models_body(models) == [dict(each) for each in ModelSerializer(models, many=True).data]


def test_the_list_takes_the_same_few_queries_for_any_number(api, models, django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(1):
        listed = api.get("/api/models").json()
    assert [each["model_name"] for each in listed] == sorted(model.model_name for model in models)
    alone = [api.get(f"/api/models/{each['model_name']}").json() for each in listed]
    assert alone == [each | {"engine": None} for each in listed]
