"""What browsers load: from the sources, or compressed and under lasting names once script/setup has collected it."""

import gzip
import os
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings

from homelab.compression import CompressedPages
from homelab.static_files import CollectedFiles, is_collected, storages

SOURCES = settings.BASE_DIR / "static"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    with override_settings(STATIC_ROOT=folder, STATICFILES_DIRS=[SOURCES]):
        call_command("collect", interactive=False, verbosity=0)
    return folder


def test_collected_files_have_lasting_names_and_are_compressed(collected: Path) -> None:
    [style] = [
        path for path in collected.glob("homelab/homelab.*.css") if re.search(r"\.[0-9a-f]{12}\.css$", path.name)
    ]
    packed = Path(f"{style}.gz")
    assert gzip.decompress(packed.read_bytes()) == style.read_bytes() == (SOURCES / "homelab/homelab.css").read_bytes()


def test_modules_import_each_other_by_their_lasting_names(collected: Path) -> None:
    [script] = [path for path in collected.glob("homelab/times.*.js") if re.search(r"\.[0-9a-f]{12}\.js$", path.name)]
    [imported] = re.findall(r'from "\./(words\.[0-9a-f]{12}\.js)"', script.read_text())
    assert (script.parent / imported).is_file()


def test_a_file_that_changed_since_is_served_from_its_source(tmp_path: Path) -> None:
    root, sources = tmp_path / "root", tmp_path / "sources"
    root.mkdir()
    sources.mkdir()
    style = sources / "page.css"
    style.touch()
    assert not is_collected(root, sources=sources)
    (root / CollectedFiles.manifest_name).touch()
    assert is_collected(root, sources=sources)
    os.utime(style, (2e9, 2e9))
    assert not is_collected(root, sources=sources)


@pytest.mark.parametrize("is_done", [True, False])
def test_each_way_has_its_storage(*, is_done: bool) -> None:
    backend = storages(is_collected=is_done)["staticfiles"]["BACKEND"]
    assert backend.rpartition(".")[2] == ("CollectedFiles" if is_done else "StaticFilesStorage")


def test_a_page_is_compressed_for_those_who_take_it(client: Client) -> None:
    answer = client.get("/login", headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip"
    assert b"<html" in gzip.decompress(answer.content)
    assert not client.get("/login").has_header("Content-Encoding")


def test_events_and_json_are_not() -> None:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_ENCODING"] = "gzip"
    for answer in (
        StreamingHttpResponse([b"<p>" * 1000], content_type="text/html"),
        HttpResponse("[" + "1," * 1000 + "1]", content_type="application/json"),
    ):
        assert not CompressedPages(lambda _, answer=answer: answer)(request).has_header("Content-Encoding")
