"""Register New Model looks ahead: what the Hub says, each cache with the model, and what helps where it does not fit."""

import json
from pathlib import Path

import pytest
from django.test import Client

from cachemgr.models import Cache, Reservation
from cachemgr.monitor import measure_caches
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo, write_hub_repo

pytestmark = pytest.mark.django_db
FACTS = "/admin/registry/modelregistry/add/facts/"
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}


@pytest.fixture
def repo(hub, hub_repos, caches) -> str:
    config = json.dumps(CONFIG | {"torch_dtype": "bfloat16"}).encode()
    write_hub_repo(hub_repos, "org/m", files={"config.json": config, "model.safetensors": bytes(3_000_000)})
    measure_caches()
    return "org/m"


def ask(browser: Client, **form: object) -> str:
    answer = browser.get(FACTS, {"cache_location": "primary", "wanted_revision": "main", **form})
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def limit(location: str, size_bytes: int) -> None:
    Cache.objects.filter(location=location).update(limit_bytes=size_bytes)


def test_it_shows_size_files_parameters_context_licence_and_access(browser, repo, hub) -> None:
    hub.faults.lies = {"cardData": {"license": "apache-2.0"}, "safetensors": {"parameters": {}, "total": 8_030_261_248}}
    page = ask(browser, hf_path=repo)
    for label, words in [
        ("Size", "3.0 MB"),
        ("Files", "2"),
        ("Parameters", "8.0 B"),
        ("Context", "4,096 tokens"),
        ("Licence", "apache-2.0"),
        ("Access", "open"),
    ]:
        assert f"<dt>{label}</dt><dd>{words}</dd>" in page


def test_parameters_that_the_hub_does_not_count_are_told_by_the_bytes_of_the_weights(browser, repo, hub) -> None:
    assert "<dt>Parameters</dt><dd>about 1.5 M</dd>" in ask(browser, hf_path=repo)
    hub.faults.lies = {"safetensors": {"parameters": {}, "total": -1}}
    hub.faults.lies_of = {"config.json": {"size": 10**9}}
    page = ask(browser, hf_path=repo, wanted_revision=hub.repos.find(repo).commit)
    assert "Parameters" not in page and "Context" not in page


def test_it_recommends_a_cache_says_why_and_proposes_a_name(browser, repo) -> None:
    page = ask(browser, hf_path=repo)
    assert 'data-recommended="primary" data-name="m"' in page
    assert "The primary cache is recommended." in page and "3.0 MB fit the primary cache" in page
    ModelRegistry.objects.create(model_name="m", hf_path="org/m")
    page = ask(browser, hf_path=repo)
    assert 'data-name="org-m"' in page and "Registered already as m." in page


def test_each_cache_has_its_bar_with_the_model(browser, repo) -> None:
    limit("primary", 4_000_000)
    page = ask(browser, hf_path=repo)
    assert 'id="hl-after-primary"' in page and 'aria-label="primary cache with this model"' in page
    assert "full with it" in page and 'aria-label="secondary cache with this model"' in page


def test_what_does_not_fit_is_refused_with_buttons_that_help(browser, repo) -> None:
    limit("primary", 1_000_000)
    page = ask(browser, hf_path=repo)
    assert "3.0 MB do not fit: the primary cache" in page
    assert 'data-choose="secondary"' in page and "They fit the secondary cache." in page
    assert "Raise PRIMARY_CACHE_LIMIT_GB" in page and 'data-recommended="secondary"' in page


def test_a_move_that_makes_room_is_planned_in_place_and_begun(browser, repo, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/old", files=loadable_files(weights=2_000_000))
    measure_caches()
    limit("primary", 4_000_000)
    page = ask(browser, hf_path=repo)
    old = ModelRegistry.objects.get(model_name="old")
    url = f"/admin/registry/modelregistry/act/move/?model={old.pk}&to=secondary"
    assert "Move old to the secondary cache: that frees 2.0 MB." in page and url.replace("&", "&amp;") in page
    plan = browser.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "Move to the secondary cache?" in plan and "<html" not in plan and "hx-post" in plan
    assert not Job.objects.exists()
    done = browser.post(url, {"sure": "yes"}, headers={"HX-Request": "true"})
    assert done.headers["HX-Trigger"] == "hl-done" and f"old goes to {caches.secondary.path}" in done.content.decode()
    assert Job.objects.get().kind == "move"
    assert "Room is being made by a job" in ask(browser, hf_path=repo)


def test_above_the_threshold_it_warns(browser, repo) -> None:
    limit("primary", 3_100_000)
    page = ask(browser, hf_path=repo)
    assert "hl-warning" in page and "3.0 MB fit, but the primary cache" in page and "above 90%" in page


def test_what_lies_on_our_drives_is_said_and_recommended(browser, repo, hub, caches) -> None:
    make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files())
    measure_caches()
    page = ask(browser, hf_path=repo)
    assert "lie in the secondary cache already: all of it." in page
    assert 'data-recommended="secondary"' in page and "nothing has to be downloaded" in page


@pytest.mark.parametrize(
    ("fault", "sentence", "advice"),
    [
        ("gated", "org/m is gated: accept its terms on the Hub", "Registering works"),
        ("missing", "The Hub has no repo org/none", "Is it written as on the Hub?"),
        ("away", "does not answer", "Everything else works: type its size below"),
        ("rate", "The Hub answered 429", "Everything else works"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(browser, repo, hub, settings, fault, sentence, advice) -> None:
    hub.faults.gate_repos = fault == "gated"
    if fault == "rate":
        hub.faults.answer, hub.faults.answer_status = b"{}", 429
    if fault == "away":
        settings.HF_ENDPOINT = "http://127.0.0.1:9"
    page = ask(browser, hf_path="org/none" if fault == "missing" else repo)
    assert sentence in page and advice in page
    assert "Nobody can tell its size yet" in page
    assert 'data-recommended=""' in page and "with this model" not in page and "fits nowhere" not in page


def test_a_size_typed_by_hand_works_where_the_hub_does_not(browser, repo, settings) -> None:
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    page = ask(browser, hf_path=repo, estimated_size_mb="500")
    assert "500 MB fit the primary cache" in page and "size yet" not in page
    assert "1.5 GB do not fit" in ask(browser, hf_path=repo, estimated_size_mb="1500")


def test_a_typed_size_that_is_far_from_the_hubs_is_said(browser, repo) -> None:
    page = ask(browser, hf_path=repo, estimated_size_mb="500")
    assert "You typed 500 MB, but the Hub says 3.0 MB." in page and "500 MB fit the primary cache" in page


def test_a_gated_repo_that_can_be_listed_says_what_its_download_needs(browser, repo, hub) -> None:
    hub.faults.lies = {"gated": "manual"}
    page = ask(browser, hf_path=repo)
    assert "<dd>gated</dd>" in page and "needs a HF_TOKEN" in page


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"hf_path": "../etc"}, "is no repo on the Hub"),
        ({"hf_path": "org/m", "estimated_size_mb": "many"}, "number"),
        ({"hf_path": "org/m", "estimated_size_mb": "-5"}, "it has to be above 0"),
        ({"hf_path": "org/m", "wanted_revision": "../x"}, "A revision is a branch"),
        ({"hf_path": "<script>alert(1)</script>"}, "is no repo on the Hub"),
    ],
)
def test_what_cannot_be_is_said_in_place_and_nobody_is_asked(browser, repo, hub, wrong, sentence) -> None:
    page = ask(browser, **wrong)
    assert sentence in page and "hl-outlook" not in page and "<script>" not in page
    assert not hub.requests


def test_a_custom_path_is_looked_at_too(browser, repo, tmp_path) -> None:
    (tmp_path / "usb").mkdir()
    page = ask(browser, hf_path=repo, cache_location="custom", cache_path=str(tmp_path / "usb"))
    assert 'aria-label="custom cache with this model"' in page
    page = ask(browser, hf_path=repo, cache_location="custom", cache_path="/etc")
    assert "hl-refusal" in page and "allowed folder" in page
    assert "hl-refusal" not in ask(browser, hf_path=repo, cache_location="custom", cache_path="")


def test_an_empty_form_and_looking_write_nothing_and_the_hub_is_asked_once(browser, repo, hub) -> None:
    assert "Type a repo" in ask(browser)
    for size in ("", "5", "6"):
        ask(browser, hf_path=repo, estimated_size_mb=size)
    assert hub.requests[f"GET /api/models/{repo}/revision/main"] == 1
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists() and not Job.objects.exists()


def test_who_may_not_register_is_told_so(client, django_user_model, repo) -> None:
    client.force_login(django_user_model.objects.create_user("guest", is_staff=True))
    assert client.get(FACTS, {"hf_path": repo}).status_code == 403


def test_the_form_works_without_any_script(browser, repo) -> None:
    page = browser.get("/admin/registry/modelregistry/add/").content.decode()
    assert page.index('name="hf_path"') < page.index('id="hl-repo-facts"') < page.index('name="cache_location"')
    wish = {"model_name": "m", "hf_path": repo, "cache_location": "primary", "wanted_revision": "main"}
    assert browser.post("/admin/registry/modelregistry/add/", wish).status_code == 302
    assert ModelRegistry.objects.get().size_bytes > 3_000_000
