"""The report for a bug: what is in it, and that no secret can be."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.monitor import measure_caches
from inference.models import UsageRecord
from registry.models import Job, ModelRegistry
from web.diagnostics import write_report

PRESENCE = {
    "model": "tiny",
    "status": "loaded",
    "memory_bytes": 5 * 10**8,
    "device": "cpu",
    "dtype": "float32",
    "backend": "batching",
}
CANARIES = {
    "HF_TOKEN": "hf_CanaryOfTheHub0123",
    "SECRET_KEY": "canary-of-the-secret-key",
    "DATABASE_URL": "postgres://canary-user:canary%2Fof%2Fpostgres@localhost:1/x",
    "REDIS_URL": "redis://:canary-of-redis@localhost:1/0",
    "HF_ENDPOINT": "https://ada:canary-of-the-mirror@hub.example",
    "CACHE_EVENT_WEBHOOK_URL": "https://hooks.example/canary/of/the/hook?canary=1",
}


@pytest.mark.django_db
class TestReport:
    def test_it_says_what_one_asks_first_about_a_bug(self, caches) -> None:
        measure_caches()
        model = ModelRegistry.objects.create(
            model_name="x", hf_path="a/x", status="failed", error="Its weights\nare bad."
        )
        now = timezone.now()
        values = {"state": "failed", "error_code": "hash_mismatch", "error_message": "One file is another."}
        Job.objects.create(kind="download", model=model, finished_at=now, **values)
        UsageRecord.objects.create(
            kind="request", model=model, model_name="x", started_at=now, duration_seconds=1, status="error",
            error_code="engine_died",
        )  # fmt: skip
        caches.primary.events.create(kind="state", before="ok", after="missing", message="The drive went away.")
        report = write_report(presences=[PRESENCE])
        for words in (
            f"python {sys.version.split()[0]}", "django 5.2", "torch 2", "transformers ", f"database {connection.vendor}", "kernel ",
            "TRASH_DAYS = 7 (default)", "HF_TOKEN = not set (default)", f"primary {caches.primary.path}: ok",
            "limit 1.0 GB", "primary: 1 failed", "x (a/x, primary): failed. Its weights are bad.",
            "download: 1 failed", "download of x failed: hash_mismatch One file is another.",
            "request of x: engine_died", "The drive went away.", "tiny: loaded, 500 MB, cpu float32 batching",
        ):  # fmt: skip
            assert words in report, words

    def test_it_takes_the_same_few_queries_for_any_number_of_rows(self, caches, django_assert_num_queries) -> None:
        with CaptureQueriesContext(connection) as queries:
            write_report(presences=[])
        for number in range(30):
            model = ModelRegistry.objects.create(model_name=f"m{number}", hf_path=f"a/{number}", status="failed")
            Job.objects.create(kind="move", model=model, state="failed", finished_at=timezone.now())
            caches.primary.events.create(kind="state", before="ok", after="missing", message="gone")
        with django_assert_num_queries(len(queries)):
            assert write_report(presences=[]).count("move of m") == 10

    def test_secrets_that_stand_in_errors_are_hidden(self, caches, settings) -> None:
        settings.SECRET_VALUES = ("a secret of ours", "ours")
        old = timezone.now() - timedelta(days=1)
        error = "GET https://ada:word@hub/x?token=abc said a secret of ours, hf_abcdefghijk"
        model = ModelRegistry.objects.create(model_name="x", hf_path="a/x", status="failed", error=error)
        Job.objects.create(kind="move", model=model, state="failed", error_message=error, finished_at=old)
        report = write_report(presences=None)
        assert report.count("GET https://***@hub/x?token=*** said ***, ***") == 2
        assert "unknown here: the web process" in report

    def test_a_line_that_is_cut_shows_no_half_of_a_secret(self, caches, settings) -> None:
        settings.SECRET_VALUES = ("canary-" * 8,)
        error = f"{'x' * 340} {settings.SECRET_VALUES[0]}"  # the cut goes through it
        ModelRegistry.objects.create(model_name="m", hf_path="a/x", status="failed", error=error)
        report = write_report(presences=None)
        assert "canary" not in report and f"{'x' * 340} ***" in report

    def test_the_home_folder_names_nobody(self, caches, settings) -> None:
        settings.ENV_FILE = Path.home() / "box" / ".env"
        assert "## Configuration (~/box/.env)" in write_report(presences=[])

    def test_the_page_the_address_and_the_command_give_it(self, browser, caches) -> None:
        answer = browser.get("/settings/diagnostics")
        assert answer["Content-Type"] == "text/plain; charset=utf-8" and "## Caches" in answer.content.decode()
        assert settings.SECRET_KEY not in answer.content.decode()
        output = StringIO()
        call_command("diagnostics", stdout=output)
        assert "## Caches" in output.getvalue()
        call_command("diagnostics", "--json", stdout=(output := StringIO()))
        assert "## Caches" in json.loads(output.getvalue())["report"]


SCRIPT = """
import django
from django.conf import settings
django.setup()
from web import diagnostics
from web.configuration import list_configuration
from homelab.masking import mask
lines = [line for part in (diagnostics._head(), diagnostics._configuration()) for line in part]
print(mask("\\n".join(lines), secrets=settings.SECRET_VALUES))
print(mask(" ".join(settings.SECRET_VALUES), secrets=settings.SECRET_VALUES))
print(mask(f"{settings.DATABASES} {settings.REDIS_URL} {settings.HF_ENDPOINT} {settings.SECRET_KEY}",
      secrets=settings.SECRET_VALUES))
"""


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "environment"])
def test_no_canary_of_any_setting_is_shown_wherever_it_was_set(tmp_path: Path, is_file: bool) -> None:
    """A process of its own reads them: the database of these settings is not there, and the rest is told."""
    text = "".join(f"{name}={value}\n" for name, value in CANARIES.items()) if is_file else ""
    (tmp_path / ".env").write_text(text)
    given = {"HOMELAB_ENV_FILE": str(tmp_path / ".env"), "DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    environment = given | {"DJANGO_SETTINGS_MODULE": "homelab.settings"} | ({} if is_file else CANARIES)
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    shown = done.stdout.replace(str(tmp_path), "").replace("canary-user", "").lower()
    assert "redis_url = redis://***@localhost:1/0" in shown and "hooks.example/***" in shown
    assert "canary" not in shown


def test_a_secret_key_that_was_made_at_the_first_start_is_known_as_one() -> None:
    assert settings.SECRET_KEY in settings.SECRET_VALUES
