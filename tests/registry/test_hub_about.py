"""What the Hub says about a model beside its files: taken where it has the right form, and left out where not."""

import json

import pytest

from registry.estimates import ask_config, ask_hub
from registry.hub_about import HubAbout
from tests.factories import loadable_files, write_hub_repo

REPO = "org/m"


@pytest.fixture
def repo(hub, hub_repos) -> str:
    write_hub_repo(hub_repos, REPO, files=loadable_files())
    return REPO


def about(hub, **lies: object) -> HubAbout:
    hub.faults.lies = lies
    return ask_hub(REPO, revision="main").about


def test_parameters_licence_and_gate_are_told(repo, hub) -> None:
    counted = {"parameters": {"BF16": 8}, "total": 8}
    assert about(hub, safetensors=counted, cardData={"license": "mit"}, gated="auto") == HubAbout(
        8, "mit", is_gated=True
    )
    assert about(hub) == HubAbout()


@pytest.mark.parametrize(
    ("lies", "licence"),
    [
        ({"cardData": {"license": "other", "license_name": "llama3.1"}}, "llama3.1"),
        ({"tags": ["transformers", "license:apache-2.0"]}, "apache-2.0"),
        ({"cardData": {"license": ["mit"]}, "tags": ["license:mit"]}, "mit"),
        ({"cardData": {"license": "<script>alert(1)</script>"}}, ""),
        ({"cardData": {"license": "x" * 100}}, ""),
        ({"cardData": "no card", "tags": "license:mit"}, ""),
    ],
)
def test_the_licence_is_the_cards_else_the_tags(repo, hub, lies, licence) -> None:
    assert about(hub, **lies).licence == licence


@pytest.mark.parametrize("total", [0, -1, 10**15, "8", 8.5, None, True, [8]])
def test_a_number_of_parameters_that_cannot_be_is_left_out(repo, hub, total) -> None:
    assert about(hub, safetensors={"parameters": {}, "total": total}).parameters is None


def test_the_config_is_that_of_the_commit(repo, hub) -> None:
    assert ask_config(ask_hub(REPO, revision="main"))["max_position_embeddings"] == 512


@pytest.mark.parametrize("content", [b"no json", b"[1, 2]", b"\xff\xfe", b""])
def test_a_config_that_is_none_is_no_trouble(hub, hub_repos, content) -> None:
    write_hub_repo(hub_repos, REPO, files=loadable_files() | {"config.json": content})
    assert ask_config(ask_hub(REPO, revision="main")) == {}


def test_a_config_that_is_not_sent_or_too_large_is_no_trouble(repo, hub) -> None:
    snapshot = ask_hub(REPO, revision="main")
    hub.faults.refuse = {"config.json": [403]}
    assert ask_config(snapshot) == {}
    hub.faults.refuse, hub.faults.declare = {}, {"config.json": 10**9}
    assert ask_config(ask_hub(REPO, revision="main")) == {}
    assert hub.downloads_of("config.json") == 1


def test_no_config_is_asked_of_a_repo_without_one(hub, hub_repos) -> None:
    files = {"model.safetensors": json.dumps({}).encode()}
    write_hub_repo(hub_repos, REPO, files=files)
    assert ask_config(ask_hub(REPO, revision="main")) == {} and not hub.downloads_of("config.json")
