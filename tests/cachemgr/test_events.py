"""What the owner hears of: each crossing once, and nothing of what only sways."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.events import CALM, LADDER, reached_level, settled_level, settled_state
from cachemgr.models import Cache, CacheEvent
from cachemgr.monitor import measure_cache
from cachemgr.space import Rules
from cachemgr.tasks import send_events
from cachemgr.webhook import claim, is_due
from tests.cachemgr.broker import running_broker

RULES = Rules(warning_threshold=0.9, disk_reserve_bytes=0)

# Levels


@pytest.mark.parametrize(
    ("usage", "level"),
    [(0, "green"), (0.749, "green"), (0.75, "yellow"), (0.9, "yellow"), (0.901, "red"), (0.97, "critical")]
    + [(1.0, "critical"), (1.001, "over_limit")],
)
def test_a_level_begins_at_its_line(usage: float, level: str) -> None:
    assert reached_level(usage, rules=RULES) == level
    assert settled_level(usage, announced="", rules=RULES) == level


@pytest.mark.parametrize(
    ("usage", "announced", "settled"),
    [
        (0.91, "yellow", "red"),
        (0.90, "red", "red"),
        (0.885, "red", "red"),
        (0.88, "red", "yellow"),
        (0.75, "red", "yellow"),
        (0.74, "red", "yellow"),
        (0.729, "red", "green"),
        (0.10, "over_limit", "green"),
        (0.99, "over_limit", "over_limit"),
        (0.98, "over_limit", "critical"),
        (0.96, "critical", "critical"),
        (0.99, "green", "critical"),
    ],
)
def test_up_counts_at_once_and_down_two_points_below_the_line(usage: float, announced: str, settled: str) -> None:
    assert settled_level(usage, announced=announced, rules=RULES) == settled


@given(
    st.lists(st.floats(0, 1.5), min_size=1, max_size=50),
    st.floats(0.01, 1),
    st.sampled_from(["", *LADDER]),
)
def test_the_level_is_never_below_the_use_and_never_more_than_the_calm_above(usages, threshold, announced) -> None:
    rules = Rules(threshold, 0)
    for usage in usages:
        announced = settled_level(usage, announced=announced, rules=rules)
        rank = LADDER.index(announced)
        assert LADDER.index(reached_level(usage, rules=rules)) <= rank
        assert rank <= LADDER.index(reached_level(usage + CALM, rules=rules))


@given(st.floats(0, 1.5), st.lists(st.floats(-CALM / 2.1, CALM / 2.1), max_size=30), st.floats(0.01, 1))
def test_what_sways_by_less_than_the_calm_crosses_at_most_one_way(usage, sways, threshold) -> None:
    rules = Rules(threshold, 0)
    level, changes = settled_level(usage, announced="", rules=rules), []
    for sway in sways:
        before, level = level, settled_level(usage + sway, announced=level, rules=rules)
        changes += [LADDER.index(level) - LADDER.index(before)] if level != before else []
    assert all(change > 0 for change in changes)


def test_a_drive_that_does_not_answer_a_short_question_is_no_news_yet() -> None:
    assert settled_state("unresponsive", announced="ok", waited_seconds=5) == "ok"
    assert settled_state("unresponsive", announced="ok", waited_seconds=120) == "unresponsive"
    assert settled_state("missing", announced="ok", waited_seconds=5) == "missing"


# From measurements


@pytest.fixture
def primary(caches) -> Path:
    Cache.objects.filter(pk=caches.primary.pk).update(limit_bytes=100_000)
    return Path(caches.primary.path)


def fill(folder: Path, share: float) -> None:
    """So that the cache uses about this share of its 100 kB."""
    used = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file() and each.name != "filler")
    (folder / "filler").write_bytes(b"x" * round(share * 100_000 - used))


def told() -> list[tuple[str, str]]:
    return list(CacheEvent.objects.order_by("pk").values_list("before", "after"))


def test_each_crossing_is_one_event(caches, primary: Path) -> None:
    measure_cache(caches.primary)
    for share in (0.5, 0.8, 0.95, 0.96, 0.89, 0.905, 0.89, 0.87, 0.98, 1.2, 0.1):
        fill(primary, share)
        measure_cache(caches.primary)
    steps = ["green", "yellow", "red", "yellow", "critical", "over_limit", "green"]
    assert told() == list(pairwise(steps))
    red = CacheEvent.objects.get(after="red")
    assert red.kind == "level" and red.sent_at is None
    assert red.message == f"The primary cache ({primary}) went from yellow to red: 95.0 kB of 100 kB are used (95%)."
    assert "went from critical to over its limit" in CacheEvent.objects.get(after="over_limit").message


@pytest.mark.parametrize(("share", "expected"), [(0.5, []), (0.8, []), (0.95, [("", "red")])])
def test_the_first_measurement_tells_of_red_once(caches, primary: Path, share: float, expected: list) -> None:
    fill(primary, share)
    for _ in range(3):
        measure_cache(caches.primary)
    assert told() == expected


def test_a_cache_without_a_limit_goes_by_its_disk(caches, tmp_path: Path, settings) -> None:
    settings.CACHE_WARNING_THRESHOLD = 0.01
    (tmp_path / "own").mkdir()
    custom = Cache.objects.create(location="custom", path=str(tmp_path / "own"))
    snapshot = measure_cache(custom)
    assert snapshot.disk_used_bytes > 0.01 * snapshot.disk_total_bytes > snapshot.used_bytes
    (event,) = CacheEvent.objects.all()
    assert LADDER.index(event.after) >= LADDER.index("red") and "of its disk are used" in event.message


def test_a_drive_that_goes_and_comes_is_told_and_logged_once_each(
    caches, primary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure_cache(caches.primary)
    away = primary.rename(primary.with_name("unplugged"))
    for _ in range(2):
        measure_cache(caches.primary)
    away.rename(primary)
    for _ in range(2):
        measure_cache(caches.primary)
    assert told() == [("ok", "missing"), ("missing", "ok")]
    said = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "cachemgr.events"]
    gone, back = said
    assert gone[0] == "WARNING" and gone[1].startswith(f"The primary cache ({primary}) is now missing. {primary} does")
    assert back == ("INFO", f"The primary cache ({primary}) is back; it was missing.")


def test_a_drive_that_was_never_there_is_no_event_but_its_coming_is(caches, primary: Path, settings, tmp_path) -> None:
    shutil.rmtree(primary)
    Cache.objects.filter(pk=caches.primary.pk).update(path=str(tmp_path / "deep/er/path"))
    assert measure_cache(caches.primary).state == "missing" and told() == []
    (tmp_path / "deep/er/path").mkdir(parents=True)
    measure_cache(caches.primary)
    assert told() == [("missing", "ok")]


# The webhook


@dataclass
class Receiver:
    """A real HTTP server. `answers` are the status codes of the next requests; 200 after the last."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.answers.pop(0) if found.answers else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/hook?token=secret"
        settings.CACHE_EVENT_WEBHOOK_URL = found.url
        yield found
        server.shutdown()
        thread.join()


def make_event(cache: Cache, **values) -> CacheEvent:
    return CacheEvent.objects.create(
        cache=cache, kind="level", **{"before": "yellow", "after": "red", "message": "It is red.", **values}
    )


def test_an_event_is_posted_once_as_json(caches, receiver: Receiver) -> None:
    event = make_event(caches.primary)
    assert (send_events(), send_events()) == (1, 0)
    (body,) = receiver.bodies
    assert body == {
        "id": event.pk,
        "kind": "level",
        "cache_location": "primary",
        "cache_path": caches.primary.path,
        "before": "yellow",
        "after": "red",
        "message": "It is red.",
        "happened_at": event.happened_at.isoformat(),
        "text": "It is red.",
        "content": "It is red.",
    }
    event.refresh_from_db()
    assert event.sent_at is not None and event.attempts == 1


def test_what_was_not_taken_is_tried_again_later_in_order_and_its_secret_is_not_logged(
    caches, receiver: Receiver, caplog
) -> None:
    receiver.answers = [503, 302]
    first, second = make_event(caches.primary), make_event(caches.secondary)
    assert (send_events(), send_events(), send_events()) == (0, 0, 0), "the second was not tried at first"
    assert [body["id"] for body in receiver.bodies] == [first.pk, second.pk]
    CacheEvent.objects.update(happened_at=timezone.now() - timedelta(minutes=5))
    assert (send_events(), send_events()) == (2, 0)
    assert [body["id"] for body in receiver.bodies][2:] == [first.pk, second.pk]
    assert "HTTP 503" in caplog.text and "HTTP 302" in caplog.text and "secret" not in caplog.text


def test_a_receiver_that_is_not_there_costs_one_attempt(caches, settings, caplog) -> None:
    settings.CACHE_EVENT_WEBHOOK_URL = "http://127.0.0.1:9/secret"
    events = [make_event(caches.primary) for _ in range(3)]
    assert send_events() == 0
    assert sorted(CacheEvent.objects.values_list("attempts", flat=True)) == [0, 0, 1] and len(events) == 3
    assert "127.0.0.1 did not take event" in caplog.text and "secret" not in caplog.text


def test_an_event_that_two_workers_see_is_sent_by_one(caches) -> None:
    event = make_event(caches.primary)
    one, other = CacheEvent.objects.get(), CacheEvent.objects.get()
    assert (claim(one), claim(other)) == (True, False)
    event.refresh_from_db()
    assert event.attempts == 1


def test_many_that_wait_for_their_next_try_keep_no_new_one_back(caches, receiver: Receiver) -> None:
    for _ in range(120):
        make_event(caches.primary, attempts=12)
    newest = make_event(caches.primary)
    assert send_events() == 1 and receiver.bodies[0]["id"] == newest.pk


def test_without_a_webhook_nothing_is_sent_or_counted(caches, settings) -> None:
    settings.CACHE_EVENT_WEBHOOK_URL = ""
    make_event(caches.primary)
    assert send_events() == 0 and CacheEvent.objects.get().attempts == 0


def test_the_pauses_double_up_to_a_day_and_end_after_a_week(caches, receiver: Receiver) -> None:
    event = CacheEvent(happened_at=timezone.now())
    minutes = []
    for event.attempts in range(1, 14):
        pause = next(each for each in range(20000) if is_due(event, now=event.happened_at + timedelta(minutes=each)))
        minutes.append(pause)
    pauses = [later - sooner for sooner, later in pairwise([0, *minutes])]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440]
    make_event(caches.primary, happened_at=timezone.now() - timedelta(days=8))
    make_event(caches.primary, happened_at=timezone.now() + timedelta(hours=1), attempts=0)
    assert send_events() == 1


@pytest.mark.django_db(transaction=True)
def test_an_event_wakes_the_worker_that_sends_it(caches, primary: Path, receiver: Receiver) -> None:
    with running_broker(django_settings.BROKER_SOCKET) as broker:
        measure_cache(caches.primary)
        assert broker.tasks() == []
        fill(primary, 0.95)
        measure_cache(caches.primary)
        assert broker.tasks() == ["cachemgr.tasks.send_events"]
    assert send_events() == 1 and receiver.bodies[0]["after"] == "red"
