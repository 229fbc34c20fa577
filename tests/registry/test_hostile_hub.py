"""A hub that means harm, or somebody between: nothing of what it says gets past a strict pattern, and nothing outside the
caches changes."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from registry import hub_line
from registry.errors import HubError
from registry.hub import HubSnapshot, read_hub
from registry.hub_line import LOOPBACK, NEIGHBOURS, NOWHERE, WORLD, refuse_detour, tell_reach
from registry.models import Job
from tests.canary import nothing_changes
from tests.hub import FaultyHub
from tests.registry.downloading import FOLDER, REPO, WEIGHTS_FILE, is_intact, order_download, publish, run

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "hf_a_canary_of_a_token"
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture(autouse=True)
def fresh_line() -> Iterator[None]:
    yield
    close_session()


@pytest.fixture
def files(hub_repos) -> dict[str, bytes]:
    return publish(hub_repos, weights=1000)


@pytest.fixture
def job(caches, hub, files) -> Job:
    return order_download()


@pytest.fixture(autouse=True)
def canaries(tmp_path: Path, hub_repos: Path) -> Iterator[None]:
    with nothing_changes(tmp_path, but=[tmp_path / "primary", tmp_path / "secondary", hub_repos]):
        yield


def ask(hub: FaultyHub, *, wait_seconds: float = 10) -> HubSnapshot:
    return read_hub(REPO, revision="main", endpoint=hub.endpoint, token=TOKEN, wait_seconds=wait_seconds)


def refusal_of(hub: FaultyHub, **how: Any) -> HubError:
    with pytest.raises(HubError) as refused:
        ask(hub, **how)
    assert refused.value.message.endswith((".", "?")) and len(refused.value.message) < 300
    return refused.value


# What its list says


@pytest.mark.parametrize(
    "commit",
    [
        "main",
        "../../../../etc",
        "/etc/passwd",
        "a" * 39,
        "A" * 40,
        "a" * 40 + "\n",
        "\0" * 40,
        "a" * 10_000,
        None,
        5,
        {},
    ],
)
def test_a_commit_that_is_none_is_refused(commit, hub, files) -> None:
    hub.faults.lies["sha"] = commit
    refused = refusal_of(hub)
    assert refused.code == "hub_hostile" and "commit" in refused.message


def test_a_hub_that_sends_our_token_back_is_not_quoted(hub, files) -> None:
    hub.faults.lies["sha"] = TOKEN
    refused = refusal_of(hub)
    assert refused.code == "hub_hostile" and TOKEN not in refused.message and "token" in refused.message


@pytest.mark.parametrize("size", [-1, 10**30, 10**13 + 1, 1.5, "5", None, True, [], 1e308])
def test_a_size_that_cannot_be_is_refused(size, hub, files) -> None:
    hub.faults.lies_of["config.json"] = {"size": size}
    assert refusal_of(hub).code == "hub_hostile"


@pytest.mark.parametrize("digest", ["../../../evil", "a" * 41, "A" * 40, "", None, 7, "a" * 39 + "/"])
def test_a_hash_that_is_none_is_refused(digest, hub, files) -> None:
    hub.faults.lies_of["config.json"] = {"blobId": digest}
    assert refusal_of(hub).code == "hub_hostile"


@pytest.mark.parametrize(
    "name",
    [
        "x" * 4096 + ".json",
        "Config.json",
        "sub/../../x.json",
        "..\\..\\x.json",
        "-rf.json",
        " first.json",
        "%2e%2e/%2e%2e/x.json",
        "~/x.json",
        "//x.json",
        "./x.json",
        "a//b.json",
        "x\r.json",
        "\ud800.json",
        "ｘ.json",
    ],
)
def test_a_name_that_means_harm_is_refused(name, hub, files) -> None:
    hub.faults.also_listed.append(name)
    refused = refusal_of(hub)
    assert refused.code in {"hub_hostile", "hub_error"}, refused.message


def test_a_name_of_a_device_is_but_a_file_in_the_snapshot(job, hub, hub_repos, caches, files) -> None:
    more = publish(hub_repos, weights=1000, **{"nul.json": b"1", "con.txt": b"2", "dev/sda.json": b"3"})
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files | more)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>Sign in to this network</html>",
        b"5",
        b"[]",
        b"[" * 10**5,
        b'{"id": 1e999, "siblings": 5}',
        b'{"siblings": [1]}',
        b'{"siblings": [{}]}',
        b'{"siblings": [{"rfilename": "model.safetensors", "lfs": 7}]}',
        b'{"siblings": [{"rfilename": "model.safetensors", "size": ' + b"9" * 5000 + b"}]}",
        b"\xff\xfe" * 100,
    ],
    ids=["empty", "html", "number", "list", "deep", "no list", "no file", "no name", "no lfs", "digits", "no text"],
)
def test_an_answer_that_makes_no_sense_is_a_sentence(answer, hub, files) -> None:
    hub.faults.answer = answer
    assert refusal_of(hub).code in {"hub_error", "hub_hostile", "no_safetensors"}


def test_a_job_ends_with_the_reason_before_a_byte_is_written(job, hub, caches) -> None:
    hub.faults.lies["sha"] = "../../../../tmp"
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_hostile") and "commit" in job.error_message
    assert not (Path(caches.primary.path) / FOLDER).exists() and not hub.downloads_of("config.json")


# What has no end


def test_a_million_names_are_hung_up_on(hub, files) -> None:
    listed = b'{"rfilename":"x.json"},' * 10**6
    hub.faults.answer = b'{"id":"org/model.v1","sha":"' + b"a" * 40 + b'","siblings":[' + listed[:-1] + b"]}"
    refused = refusal_of(hub)
    assert refused.code == "hub_hostile" and "more than 16.0 MB" in refused.message


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_end_is_hung_up_on(status, hub, files) -> None:
    hub.faults.answer, hub.faults.answer_status, hub.faults.endless = b'{"id": "', status, b"x" * 65536
    assert refusal_of(hub).code == "hub_hostile"
    assert hub.sent_bytes["lists"] < 60 * 10**6


@pytest.mark.parametrize("status", [200, 403])
def test_an_answer_that_is_packed_is_not_unpacked(status, hub, files) -> None:
    hub.faults.answer, hub.faults.answer_status = gzip.compress(bytes(10**8)), status
    hub.faults.answer_headers = {"Content-Encoding": "gzip"}
    refused = refusal_of(hub)
    assert refused.code == "hub_hostile" and "gzip" in refused.message


def test_a_list_that_comes_byte_by_byte_is_waited_for_only_so_long(hub, files) -> None:
    hub.faults.answer, hub.faults.endless = b'{"id": "', b"x"
    started = time.monotonic()
    refused = refusal_of(hub, wait_seconds=0.5)
    assert refused.code == "hub_hostile" and "for more than 1 s" in refused.message
    assert time.monotonic() - started < 5


# Where it sends us


@pytest.mark.parametrize("where", ["", WEIGHTS_FILE])
@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        METADATA_SERVICE,
        "http://[fe80::1]/x",
        "ftp://127.0.0.1/x",
        "http://0x7f000001/x",
        "gopher://127.0.0.1/x",
    ],
)
def test_a_redirect_inward_is_not_followed(where, url, hub, files, caches) -> None:
    job = order_download()
    hub.faults.detours[where] = url
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_hostile"), job.error_message
    assert "HF_ENDPOINT" in job.error_message and "root:" not in job.error_message


def test_a_redirect_to_another_host_is_followed_without_the_token(hub, hub_repos, files, caches, settings) -> None:
    settings.HF_TOKEN = TOKEN
    with FaultyHub(hub_repos).serve() as other:
        job = order_download()
        commit = ask(hub).commit
        hub.faults.detours[WEIGHTS_FILE] = f"{other.endpoint}/{REPO}/resolve/{commit}/{WEIGHTS_FILE}"
        assert run(job).state == "done", job.error_message
        assert other.authorizations == {None} and other.downloads_of(WEIGHTS_FILE) == 1
    assert hub.authorizations == {f"Bearer {TOKEN}"} and is_intact(caches.primary.path, job, files)


def test_what_a_redirect_brings_is_held_against_the_list_too(hub, hub_repos, files, caches) -> None:
    with FaultyHub(hub_repos).serve() as other:
        other.faults.garble.add(WEIGHTS_FILE)
        job = order_download()
        hub.faults.detours[WEIGHTS_FILE] = f"{other.endpoint}/{REPO}/resolve/{ask(hub).commit}/{WEIGHTS_FILE}"
        run(job)
    assert job.error_code == "hash_mismatch"


def test_a_redirect_in_a_circle_ends(job, hub) -> None:
    hub.faults.detours[WEIGHTS_FILE] = f"/{REPO}/resolve/main/{WEIGHTS_FILE}"
    run(job)
    assert job.state in {"queued", "failed"} and job.error_code in {"hub_unreachable", "hub_error"}, job.error_code


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("huggingface.co", WORLD),
        ("8.8.8.8", WORLD),
        ("2606:4700::1111", WORLD),
        ("192.168.1.5", NEIGHBOURS),
        ("10.0.0.1", NEIGHBOURS),
        ("100.100.1.1", NEIGHBOURS),
        ("fd00::1", NEIGHBOURS),
        ("nas", NEIGHBOURS),
        ("mirror.lan.", NEIGHBOURS),
        ("127.8.9.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("LOCALHOST", LOOPBACK),
        ("x.localhost", LOOPBACK),
        ("169.254.169.254", NOWHERE),
        ("::ffff:169.254.169.254", NOWHERE),
        ("0.0.0.0", NOWHERE),
        ("127.1", NOWHERE),
        ("2130706433", NOWHERE),
        ("0x7f.1", NOWHERE),
        ("", NOWHERE),
    ],
)
def test_a_host_is_as_far_away_as_it_says(host, reach) -> None:
    assert tell_reach(host) == reach


@pytest.mark.parametrize(
    ("endpoint", "url", "is_fine"),
    [
        ("https://huggingface.co", "https://cdn-lfs.hf.co/x", True),
        ("https://huggingface.co", "http://huggingface.co/x", False),
        ("https://huggingface.co", "https://127.0.0.1/x", False),
        ("https://huggingface.co", "https://nas/x", False),
        ("http://nas:5000", "http://nas:5001/x", True),
        ("http://nas:5000", "http://localhost:8000/api/models", False),
        ("http://nas:5000", "https://cdn-lfs.hf.co/x", True),
        ("http://127.0.0.1:5000", "http://127.0.0.2/x", True),
        ("http://169.254.1.1", "http://169.254.1.1/x", True),
        ("http://127.0.0.1:5000", "file:///etc/passwd", False),
    ],
)
def test_a_redirect_may_lead_outward_alone(endpoint, url, is_fine) -> None:
    if is_fine:
        refuse_detour(url, endpoint=endpoint)
    else:
        with pytest.raises(HubError, match=r"sends us on to"):
            refuse_detour(url, endpoint=endpoint)


# What its headers say


@pytest.mark.parametrize("etag", ['"../../../../../tmp/evil"', "/etc/passwd", '"a\\b"', "W/" + "x" * 4000])
def test_an_etag_is_no_name(etag, job, hub, caches, files) -> None:
    hub.faults.etag = etag
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files)
    names = {path.name for path in (Path(caches.primary.path) / FOLDER / "blobs").iterdir()}
    assert all(len(name) in {40, 64} for name in names)


def test_the_line_is_made_anew_for_another_hub(hub, files) -> None:
    ask(hub)
    hub_line.use_strict_line("https://huggingface.co", has_files=False)
    assert json.dumps(ask(hub).commit)
