"""Whatever the order of registrations, downloads and removals: nothing is ever promised that there is no room for.

The services, the database and the measurements are the real ones; two caches share a real, small drive, which takes
few files.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cachemgr.errors import InsufficientSpace
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot, Reservation
from cachemgr.monitor import measure_cache, measure_caches
from cachemgr.services import sync_configured_caches
from cachemgr.space import USUAL_FILES, inodes_needed
from registry import jobs, services
from registry.models import Job, ModelQuerySet, ModelRegistry
from tests.cachemgr.conftest import mount  # noqa: F401  (a fixture)
from tests.factories import loadable_files, make_cached_repo

pytestmark = [pytest.mark.django_db, pytest.mark.root]
MB = 10**6
RESERVE_BYTES = 4 * MB
INODES = 900  # four models that nobody counted the files of
PLACES = st.sampled_from(["primary", "secondary"])


class Bookings(RuleBasedStateMachine):
    """`landed` is what each model's download wrote so far, by the model's name."""

    drive: Path

    def __init__(self) -> None:
        super().__init__()
        for each in (Job, ModelRegistry, Reservation, CachedRepo, CacheSnapshot):
            each.objects.all().delete()
        for folder in self.drive.iterdir():
            shutil.rmtree(folder)
        for name in ("primary", "secondary", "foreign"):
            (self.drive / name).mkdir()
        Cache.objects.update(uuid="", limit_bytes=40 * MB)
        measure_caches()
        self.count = 0
        self.landed: dict[str, int] = {}

    # What users and downloads do

    @rule(place=PLACES, size_mb=st.integers(1, 40))
    def register(self, place: str, size_mb: int) -> None:
        self.count += 1
        name = f"m{self.count}"
        try:
            services.register(services.Wish(name, f"org/{name}", place, estimated_bytes=size_mb * MB))
        except InsufficientSpace as error:
            assert error.details["shortfall_bytes"] > 0
        else:
            self.landed[name] = 0
            self.check_cache(place)
            self.check_drive()

    @precondition(lambda self: self.landed)
    @rule(data=st.data(), share=st.floats(0.1, 1), is_measured=st.booleans())
    def download(self, data: st.DataObject, share: float, is_measured: bool) -> None:
        """More bytes of a model, in a file that is not finished. Without room on the drive, its promise was void."""
        model = self.draw_model(data)
        size_bytes = min(model.size_bytes or 0, self.landed[model.model_name] + round(share * (model.size_bytes or 0)))
        blobs = self.folder(model) / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        with open(blobs / "weights.incomplete", "ab") as file:
            file.write(b"\1" * (size_bytes - self.landed[model.model_name]))
        self.landed[model.model_name] = size_bytes
        if is_measured:
            measure_cache(services.cache_of(model))

    @precondition(lambda self: any(self.landed.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        model = self.draw_model(data)
        landed = self.landed.pop(model.model_name)
        shutil.rmtree(self.folder(model), ignore_errors=True)
        make_cached_repo(Path(services.cache_path_of(model)), model.hf_path, files=loadable_files(weights=landed))
        measure_cache(services.cache_of(model))
        model.refresh_from_db()
        assert model.status == "ready" and not Reservation.objects.filter(owner=model.owner_key).exists()

    @precondition(lambda self: self.landed)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What was half done goes; the model is still wanted, and its promise grows back with the next scan."""
        model = self.draw_model(data)
        jobs.cancel_job(services.request_download(model))
        shutil.rmtree(self.folder(model), ignore_errors=True)
        self.landed[model.model_name] = 0
        measure_cache(services.cache_of(model))
        assert Reservation.objects.get(owner=model.owner_key).remaining_bytes == model.size_bytes

    @precondition(lambda self: self.landed)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        model = self.draw_model(data)
        shutil.rmtree(self.folder(model), ignore_errors=True)
        del self.landed[model.model_name]
        owner = model.owner_key
        services.forget(model)
        assert not Reservation.objects.filter(owner=owner).exists()

    @precondition(lambda self: self.landed)
    @rule(data=st.data(), place=PLACES)
    def relocate(self, data: st.DataObject, place: str) -> None:
        model = self.draw_model(data)
        if self.landed[model.model_name]:
            return
        try:
            services.relocate(model, cache_location=place, cache_path=None)
        except InsufficientSpace:
            return
        self.check_cache(place)
        self.check_drive()

    # What happens beside

    @rule(size_mb=st.integers(1, 20))
    def foreign_bytes_come(self, size_mb: int) -> None:
        """Into what nobody was promised: others who fill promised space make every promise void."""
        room = self.unpromised_bytes() - RESERVE_BYTES
        if size_mb * MB <= room and self.unpromised_inodes() > 0:
            self.count += 1
            (self.drive / "foreign" / str(self.count)).write_bytes(b"\1" * size_mb * MB)

    @rule()
    def foreign_bytes_go(self) -> None:
        for path in (self.drive / "foreign").iterdir():
            path.unlink()

    @rule(place=PLACES, limit_mb=st.integers(5, 60))
    def limit_changes(self, place: str, limit_mb: int) -> None:
        Cache.objects.filter(location=place).update(limit_bytes=limit_mb * MB)

    @rule()
    def monitor_measures(self) -> None:
        measure_caches()

    # What must hold

    def check_cache(self, place: str) -> None:
        """At the moment of a booking: what really lies there, and what is still to come, is within the limit."""
        cache = Cache.objects.get(location=place)
        assert self.used_bytes(cache) + self.to_come_bytes(cache) <= cache.limit_bytes

    def check_drive(self) -> None:
        assert self.unpromised_bytes() >= RESERVE_BYTES

    @invariant()
    def promises_are_never_void(self) -> None:
        assert self.unpromised_bytes() >= 0 and self.unpromised_inodes() >= 0

    def unpromised_bytes(self) -> int:
        figures = os.statvfs(self.drive)
        return figures.f_bavail * figures.f_frsize - sum(self.to_come_bytes(cache) for cache in Cache.objects.all())

    def unpromised_inodes(self) -> int:
        """What is free when every model that is still to come has all its files."""
        to_come = [inodes_needed(USUAL_FILES) - self.taken_inodes(model) for model in self.waiting()]
        return os.statvfs(self.drive).f_favail - sum(to_come)

    def taken_inodes(self, model: ModelRegistry) -> int:
        folder = self.folder(model)
        return len([folder, *folder.rglob("*")]) if folder.exists() else 0

    def used_bytes(self, cache: Cache) -> int:
        files = [path for path in Path(cache.path).rglob("*") if path.is_file() and not path.is_symlink()]
        return sum(path.stat().st_size for path in files)

    def to_come_bytes(self, cache: Cache) -> int:
        waiting = self.waiting().in_cache(cache)
        return sum((model.size_bytes or 0) - self.landed.get(model.model_name, 0) for model in waiting)

    def waiting(self) -> ModelQuerySet:
        return ModelRegistry.objects.exclude(status="ready")

    def folder(self, model: ModelRegistry) -> Path:
        return Path(services.cache_path_of(model)) / repo_folder(model.hf_path)

    def draw_model(self, data: st.DataObject) -> ModelRegistry:
        return ModelRegistry.objects.get(model_name=data.draw(st.sampled_from(sorted(self.landed))))


def test_nothing_is_ever_overbooked(db, settings, tmp_path: Path, mount: Callable[..., Path]) -> None:  # noqa: F811
    drive = tmp_path / "drive"
    drive.mkdir()
    mount(drive, size="96m", inodes=INODES)
    settings.PRIMARY_CACHE_PATH, settings.SECONDARY_CACHE_PATH = drive / "primary", drive / "secondary"
    settings.DISK_RESERVE_BYTES = RESERVE_BYTES
    Cache.objects.all().delete()
    sync_configured_caches()
    machine = type("BookingsOnDrive", (Bookings,), {"drive": drive})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each step starts a child: shrinking takes minutes
        ),
    )
