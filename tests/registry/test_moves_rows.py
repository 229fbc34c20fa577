"""What a move does to the rows of its folder, and to what is left when it did not come to its end."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from cachemgr import locks
from cachemgr.errors import ErrandFailed
from cachemgr.models import Cache, CachedRepo
from cachemgr.monitor import measure_cache, measure_caches
from homelab.owner import owner_account
from registry import checkups, jobs, moves, removal
from registry.errors import JobOpen, NotNow
from registry.job_serializers import JobSerializer
from registry.job_words import facts_of
from registry.models import Job, ModelRegistry
from tests.registry.downloading import run
from tests.registry.test_moves import FOLDER, REPO, far, files_of, model  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)


def source_of(caches) -> Path:
    return Path(caches.primary.path)


def failed_twin() -> ModelRegistry:
    values = {"status": "failed", "error": "The Hub said no.", "revision": "e" * 40}
    return ModelRegistry.objects.create(model_name="twin", hf_path=REPO, cache_location="primary", **values)


def state_of(row: ModelRegistry) -> tuple[str, str, str]:
    row.refresh_from_db()
    return row.cache_location, row.status, row.error


class At(jobs.Reporter):
    """Does something when the work comes to a stage, once."""

    def __init__(self, job: Job, stage: str, act) -> None:
        super().__init__(job)
        self.stage, self.act = stage, act

    def __call__(self, *, stage: str, **progress) -> None:
        super().__call__(stage=stage, **progress)
        if stage == self.stage and self.act is not None:
            act, self.act = self.act, None
            act()


def move_and_at(job: Job, stage: str, act) -> None:
    assert job.claim()
    moves.move(job, report=At(job, stage, act))


def move_and_while_waiting(job: Job, folder: Path, act) -> None:
    """Between the commit and the removal of the old files: somebody reads them."""
    with locks.shared(folder) as reader:

        def act_and_let_go() -> None:
            act()
            reader.release()

        move_and_at(job, "waiting for requests", act_and_let_go)


def fail() -> None:
    raise ErrandFailed("The drive reported an error.", code="io_error", is_permanent=True)


def end_two_hours_ago(job: Job, state: str) -> None:
    job.close(state)
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(hours=2))


def staging_of(cache: Path) -> list[Path]:
    return list(cache.glob(".homelab/staging/*"))


def test_a_row_that_had_failed_goes_along_as_it_is(model, caches, far) -> None:  # noqa: F811
    twin = failed_twin()
    job = moves.request_move(model, cache_location="secondary")
    assert state_of(twin) == ("primary", "failed", "The Hub said no.")
    assert run(job).state == "done"
    assert state_of(twin) == ("secondary", "failed", "The Hub said no.")
    assert state_of(model) == ("secondary", "ready", "")


def test_a_row_that_had_failed_is_as_it_was_after_a_cancel(model, caches, far) -> None:  # noqa: F811
    twin = failed_twin()
    jobs.cancel_job(moves.request_move(model, cache_location="secondary"))
    assert state_of(twin) == ("primary", "failed", "The Hub said no.")
    assert state_of(model) == ("primary", "ready", "")


def test_old_files_that_are_a_models_again_stay(model, caches, far) -> None:  # noqa: F811
    before = files_of(source_of(caches))
    job = moves.request_move(model, cache_location="secondary")
    back = {"cache_location": "primary", "cache_path": None}
    move_and_while_waiting(job, source_of(caches) / FOLDER, lambda: ModelRegistry.objects.update(**back))
    assert files_of(source_of(caches)) == before == files_of(far)
    assert not staging_of(far) and job.state == "done" and f"they are those of {model}" in job.error_message
    measure_caches()
    assert state_of(model) == ("primary", "ready", "")


def test_what_stays_at_the_source_is_named(model, caches, far, caplog) -> None:  # noqa: F811
    job = moves.request_move(model, cache_location="secondary")
    new = source_of(caches) / FOLDER / "mine.txt"
    move_and_while_waiting(job, source_of(caches) / FOLDER, lambda: new.write_text("new"))
    job.close(Job.State.DONE)
    assert job.stage == "1 file stays at the source" and job.options["kept"] == ["mine.txt"]
    assert new.exists() and "mine.txt" in caplog.text
    assert JobSerializer(job).data["kept"] == ["mine.txt"]
    assert facts_of(job) == "done; 1 file stays at the source: mine.txt"


def test_a_row_that_is_given_another_place_on_the_way_ends_its_move_and_loses_nothing(model, caches, far, tmp_path):  # noqa: F811
    before = files_of(source_of(caches))
    job = moves.request_move(model, cache_location="secondary")
    elsewhere = {"cache_location": "custom", "cache_path": str(tmp_path / "usb")}
    with pytest.raises(NotNow, match="another place"):
        move_and_at(job, "copying", lambda: ModelRegistry.objects.update(**elsewhere))
    moves.clean_up(job)
    assert files_of(source_of(caches)) == before and not (far / FOLDER).exists() and not staging_of(far)
    assert not job.committed
    job.close(Job.State.FAILED)
    Job.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    (tmp_path / "usb").mkdir()
    measure_caches()
    measure_caches()
    assert state_of(model) == ("primary", "ready", "")


def test_a_move_is_not_begun_by_a_plan_that_is_out_of_date(model, caches, far) -> None:  # noqa: F811
    plan = moves.plan_move(model, cache_location="secondary")
    ModelRegistry.objects.update(status="missing")
    with pytest.raises(NotNow, match="changed"):
        moves._write_down(model, plan)
    assert state_of(model)[1] == "missing" and not Job.objects.exists()


def test_a_committed_move_that_failed_is_finished_later(model, caches, far) -> None:  # noqa: F811
    job = moves.request_move(model, cache_location="secondary")
    with pytest.raises(ErrandFailed):
        move_and_while_waiting(job, source_of(caches) / FOLDER, fail)
    job.close(Job.State.FAILED)
    measure_caches()
    job.refresh_from_db()
    assert job.state == "failed" and files_of(source_of(caches))  # not at once again
    end_two_hours_ago(job, Job.State.FAILED)
    measure_caches()
    job.refresh_from_db()
    assert (job.state, job.committed) == ("queued", True)
    assert run(job).state == "done"
    assert not (source_of(caches) / FOLDER).exists() and files_of(far) and not staging_of(far)


def fail_to_leave(job: Job, caches) -> None:
    """It is committed, and its old files are still there two hours later."""
    with pytest.raises(ErrandFailed):
        move_and_while_waiting(job, source_of(caches) / FOLDER, fail)
    end_two_hours_ago(job, Job.State.FAILED)


def test_where_the_model_moved_on_since_the_old_files_stay_and_their_owner_hears_of_it_once(
    model,  # noqa: F811
    caches,
    far,  # noqa: F811
    tmp_path,
    caplog,
) -> None:
    """They are no model of their own: that one has its files elsewhere."""
    before, job = files_of(source_of(caches)), moves.request_move(model, cache_location="secondary")
    fail_to_leave(job, caches)
    (tmp_path / "usb").mkdir()
    model.refresh_from_db()
    assert run(moves.request_move(model, cache_location="custom", cache_path=str(tmp_path / "usb"))).state == "done"
    measure_caches()
    assert jobs.run_job(job.pk) == "done"
    job.refresh_from_db()
    assert f"The old files in {source_of(caches) / FOLDER} stay" in job.error_message
    assert "remove them by hand" in caplog.text and "remove them by hand" in facts_of(job)
    assert files_of(source_of(caches)) == before and not staging_of(far)
    Job.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    measure_caches()
    assert not Job.objects.open().exists()
    assert ModelRegistry.objects.get().cache_location == "custom"


def test_where_the_model_was_removed_since_the_old_files_are_found_again(model, caches, far) -> None:  # noqa: F811
    job = moves.request_move(model, cache_location="secondary")
    fail_to_leave(job, caches)
    model.refresh_from_db()
    removal.remove(model)
    measure_caches()
    found = ModelRegistry.objects.get()
    assert (found.hf_path, found.cache_location, found.status) == (REPO, "primary", "ready")
    assert not Job.objects.open().exists()


def test_where_the_old_files_are_gone_by_then_there_is_nothing_to_say(model, caches, far, tmp_path) -> None:  # noqa: F811
    job = moves.request_move(model, cache_location="secondary")
    fail_to_leave(job, caches)
    (tmp_path / "usb").mkdir()
    model.refresh_from_db()
    run(moves.request_move(model, cache_location="custom", cache_path=str(tmp_path / "usb")))
    shutil.rmtree(source_of(caches) / FOLDER)
    measure_caches()
    assert jobs.run_job(job.pk) == "done"
    job.refresh_from_db()
    assert (job.error_message, job.kept) == ("", []) and not staging_of(far)


def test_the_copy_of_a_cancelled_move_goes_when_its_drive_is_back(model, caches, far) -> None:  # noqa: F811
    job = moves.request_move(model, cache_location="secondary")
    with pytest.raises(ErrandFailed):
        move_and_at(job, "copying", fail)
    assert staging_of(far)
    away = (far / ".homelab-cache.json").rename(far / "away")
    jobs._end(job, Job.State.CANCELLED)
    assert job.state == "cancelled" and "still there" in job.error_message and state_of(model)[1] == "ready"
    away.rename(far / ".homelab-cache.json")
    Job.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    measure_cache(caches.primary)
    measure_caches()
    job.refresh_from_db()
    assert (job.state, job.cancel_requested) == ("queued", True)
    assert run(job).state == "cancelled" and not staging_of(far) and job.error_message == ""
    Job.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    measure_caches()
    job.refresh_from_db()
    assert job.state == "cancelled" and state_of(model) == ("primary", "ready", "")


def test_a_whole_copy_at_the_target_needs_no_room_in_the_plan_either(model, caches, far) -> None:  # noqa: F811
    source = source_of(caches) / FOLDER
    (far / FOLDER).mkdir()
    shutil.copytree(source, far / FOLDER, symlinks=True, dirs_exist_ok=True)
    measure_caches()
    limit = measure_cache(Cache.objects.get(location="secondary")).used_bytes + 1000
    Cache.objects.filter(location="secondary").update(limit_bytes=limit)
    plan = moves.plan_move(model, cache_location="secondary")
    assert plan.plan.target_exists == "same" and not plan.verdict.is_refusal
    assert plan.free_after_bytes == plan.verdict.figures.disk_free_bytes
    assert run(moves.request_move(model, cache_location="secondary")).state == "done"


def test_a_move_that_is_refused_makes_no_cache_of_a_new_folder(model, caches, tmp_path) -> None:  # noqa: F811
    new = tmp_path / "usb"
    new.mkdir()
    job = checkups.request_verify(model)
    with pytest.raises(JobOpen):
        moves.request_move(model, cache_location="custom", cache_path=str(new))
    assert not Cache.objects.filter(path=str(new)).exists() and not list(new.iterdir())
    run(job)
    new.rmdir()  # a folder that is to be made
    assert run(moves.request_move(model, cache_location="custom", cache_path=str(new))).state == "done"
    assert files_of(new)


def test_a_plan_for_a_new_folder_says_so_where_no_scan_knows_the_files(model, caches, tmp_path) -> None:  # noqa: F811
    CachedRepo.objects.all().delete()
    (tmp_path / "usb").mkdir()
    with pytest.raises(NotNow, match="No scan has found"):
        moves.plan_move(model, cache_location="custom", cache_path=str(tmp_path / "usb"))


def test_the_admin_says_what_a_move_means(model, caches, far) -> None:  # noqa: F811
    client = Client()
    client.force_login(owner_account())

    def said_after(action: str) -> str:
        data = {"action": action, "_selected_action": [model.pk], "sure": "yes"}
        answer = client.post("/admin/registry/modelregistry/", data, follow=True)
        return " ".join(str(message) for message in answer.context["messages"])

    assert f"belongs in {caches.primary.path} now: no file had to move" in said_after("move_to_primary")
    assert f"goes to {far}. It stays usable" in said_after("move_to_secondary")
