"""Eight processes that register at the same moment, with room for one. On PostgreSQL too: see test_on_postgresql.py."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from cachemgr.errors import InsufficientSpace
from cachemgr.models import Reservation
from cachemgr.monitor import measure_caches
from registry.models import ModelRegistry
from registry.services import Wish, propose

pytestmark = pytest.mark.django_db(transaction=True)
RACERS = 8
SIZE_MB = 600  # in a cache of 1 GB


class Race:
    """Racers start together, and each round ends when all have answered."""

    def __init__(self, run: Callable[[int, int], str]) -> None:
        fork = multiprocessing.get_context("fork")
        self.run = run
        self.start, self.end = fork.Barrier(RACERS + 1), fork.Barrier(RACERS + 1)
        self.answers = fork.SimpleQueue()
        self.racers = [fork.Process(target=self.race, args=(number,)) for number in range(RACERS)]

    def race(self, number: int) -> None:
        connections.close_all()  # those of the parent are not ours
        attempt = 0
        while self.start.wait(timeout=60) is not None:
            try:
                self.answers.put(self.run(number, attempt))
            except Exception as error:  # noqa: BLE001  (the test tells which errors are right)
                self.answers.put(f"{type(error).__name__}: {error}")
            attempt += 1
            self.end.wait(timeout=60)

    def round(self) -> list[str]:
        """What the racers answered, in order of the alphabet."""
        self.start.wait(timeout=60)
        answers = sorted(self.answers.get() for _ in self.racers)
        self.end.wait(timeout=60)
        return answers


@contextmanager
def racing(run: Callable[[int, int], str]) -> Iterator[Race]:
    connections.close_all()
    race = Race(run)
    for racer in race.racers:
        racer.start()
    try:
        yield race
    finally:
        for racer in race.racers:
            racer.kill()
            racer.join()


def clear() -> None:
    ModelRegistry.objects.all().delete()
    Reservation.objects.all().delete()


def test_of_eight_that_book_one_place_exactly_one_wins_in_each_of_fifty_rounds(caches) -> None:
    measure_caches()
    proposal = propose(Wish("m", "org/m", "primary", estimated_bytes=SIZE_MB * 10**6))

    def book(number: int, attempt: int) -> str:
        mine = replace(proposal, wish=replace(proposal.wish, model_name=f"m{number}", hf_path=f"org/m{number}"))
        try:
            mine.execute()
        except InsufficientSpace:
            return "refused"
        return "booked"

    with racing(book) as race:
        for _ in range(50):
            assert race.round() == ["booked", *["refused"] * 7]
            assert Reservation.objects.count() == ModelRegistry.objects.count() == 1
            clear()


def test_of_eight_requests_at_once_exactly_one_is_answered_with_201(caches) -> None:
    measure_caches()

    def post(number: int, attempt: int) -> str:
        from rest_framework.test import APIClient

        from homelab.owner import owner_account

        client = APIClient()
        client.force_authenticate(owner_account())
        body: dict[str, Any] = {"model_name": f"m{number}", "hf_path": f"org/m{number}"}
        body |= {"cache_location": "primary", "estimated_size_mb": SIZE_MB}
        return str(client.post("/api/models", body, format="json").status_code)

    with racing(post) as race:
        for _ in range(3):
            assert race.round() == ["201", *["507"] * 7]
            assert Reservation.objects.count() == ModelRegistry.objects.count() == 1
            clear()


def test_of_eight_that_want_one_name_exactly_one_gets_it(caches) -> None:
    measure_caches()
    proposal = propose(Wish("m", "org/m", "primary", estimated_bytes=10**6))

    def take(number: int, attempt: int) -> str:
        proposal.execute()
        return "taken"

    with racing(take) as race:
        for _ in range(5):
            *refused, last = race.round()
            assert last == "taken" and len(refused) == 7 and all(each.startswith("NameTaken: ") for each in refused)
            assert Reservation.objects.count() == 1
            clear()


def test_a_scan_and_bookings_at_once_lose_no_byte(caches) -> None:
    """Four measure while four book and release: nobody meets a locked database, a deadlock or a row that is gone."""
    from cachemgr.monitor import measure_cache
    from cachemgr.services import release

    measure_caches()
    proposal = propose(Wish("m", "org/m", "primary", estimated_bytes=100 * 10**6))

    def work(number: int, attempt: int) -> str:
        if number % 2:
            return measure_cache(caches.primary).state
        name = f"m{number}-{attempt}"
        done = replace(proposal, wish=replace(proposal.wish, model_name=name, hf_path=f"org/{name}")).execute()
        release(done.model.owner_key)
        return "ok"

    with racing(work) as race:
        for _ in range(5):
            assert race.round() == ["ok"] * RACERS
    assert not Reservation.objects.exists()
