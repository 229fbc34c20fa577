"""The master's side of moves and verifications: with rows of caches, and children that do the work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cachemgr import moving
from cachemgr.errands import Errand, run_errand
from cachemgr.errors import ErrandFailed
from cachemgr.marker import write_marker
from cachemgr.models import Cache
from tests.cachemgr.hands.trips import FOLDER, everything, fill, flip, litter, names, stored_bytes, weights

pytestmark = pytest.mark.django_db


@pytest.fixture
def caches(tmp_path: Path, mount: Callable[..., Path]) -> tuple[Cache, Cache]:
    """A model on the first; the second is another filesystem."""
    (tmp_path / "fast").mkdir()
    paths = tmp_path / "fast", mount(tmp_path / "big")
    fill(paths[0])
    for path in paths:
        write_marker(str(path), uuid=path.name)
    fast, big = (Cache.objects.create(location="custom", path=str(path), uuid=path.name) for path in paths)
    return fast, big


def finish(errand: Errand) -> dict:
    with run_errand(errand) as lines:
        return next(line["done"] for line in lines if "done" in line)


def test_a_plan_says_what_moves_and_the_steps_do_it(caches: tuple[Cache, Cache]) -> None:
    fast, big = caches
    before, size_bytes = everything(Path(fast.path, FOLDER)), stored_bytes(Path(fast.path, FOLDER))
    plan = moving.plan_move(fast, big, folder=FOLDER, job="17")
    assert (plan.method, plan.layout, plan.file_count, plan.target_exists) == ("copy", "links", 9, "")
    assert (plan.size_bytes, plan.bytes_to_write, plan.present_bytes) == (size_bytes, size_bytes, 0)
    finish(moving.stage(plan))
    again = moving.plan_move(fast, big, folder=FOLDER, job="17")
    assert again == replace(plan, bytes_to_write=0, present_bytes=size_bytes)
    finish(moving.publish(plan))
    assert finish(moving.leave(fast, big, folder=FOLDER, job="17"))["kept"] == []
    assert everything(Path(big.path, FOLDER)) == before
    assert names(Path(fast.path)) == [".homelab", ".homelab-cache.json"] and litter(Path(fast.path)) == []


@pytest.mark.parametrize("is_published", [False, True])
def test_a_job_that_is_given_up_leaves_the_target_as_it_was(caches: tuple[Cache, Cache], is_published: bool) -> None:
    fast, big = caches
    plan = moving.plan_move(fast, big, folder=FOLDER, job="17")
    finish(moving.stage(plan))
    if is_published:
        finish(moving.publish(plan))
    for _ in range(2):
        moving.abandon(big, job="17", source=fast)
    assert names(Path(big.path)) == [".homelab", ".homelab-cache.json"] and litter(Path(big.path)) == []


def test_a_cache_that_is_another_one_is_an_error_that_may_pass(caches: tuple[Cache, Cache]) -> None:
    fast, big = caches
    big.uuid = "other"
    with pytest.raises(ErrandFailed) as failed:
        moving.plan_move(fast, big, folder=FOLDER)
    assert (failed.value.code, failed.value.is_permanent) == ("cache_unavailable", False)
    with pytest.raises(ErrandFailed):
        moving.abandon(big, job="17")


def test_a_verification_is_an_errand_too(caches: tuple[Cache, Cache]) -> None:
    fast, _ = caches
    commit = "b" * 40
    assert finish(moving.verify(fast, folder=FOLDER, commit=commit))["bad"] == []
    flip(weights(Path(fast.path, FOLDER)))
    found = finish(moving.verify(fast, folder=FOLDER, commit=commit, after="", budget_bytes=None))
    assert [each["name"] for each in found["bad"]] == ["model.safetensors"]
    promised = {"config.json": ("e" * 64, 3)}
    found = finish(moving.verify(fast, folder=FOLDER, commit=commit, digests=promised))
    assert [each["name"] for each in found["bad"]] == ["config.json", "model.safetensors"]
