"""The documents say what is true: settings, commands, links, URLs, decisions and the OpenAPI document."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands
from django.urls import Resolver404, resolve
from drf_spectacular.drainage import GENERATOR_STATS

from inference.openai.door import PARSERS

PROJECT = Path(__file__).resolve().parent.parent
APPS = ("homelab", "access", "cachemgr", "registry", "inference", "web")
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLE = (PROJECT / ".env.example").read_text(encoding="utf-8")
PAGES = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
DECISIONS = sorted((PROJECT / "docs" / "decisions").glob("*.md"))
USERS_LINE = "PRIMARY_CACHE_LIMIT_GB=80  # if you have 100GB available"

SETTING_LINE = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", flags=re.MULTILINE)
SETTING_NAME = re.compile(r"(?<![A-Za-z_])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![A-Za-z_])")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CURL_URL = re.compile(r"http://localhost:8000(/[^\s'\"?]*)?")

# Names in capitals that are no settings of the server.
OTHER_NAMES = {"HOMELAB_ENV_FILE"}

DUMP = """
import json
from homelab import settings
kept = {name: value for name, value in vars(settings).items() if name.isupper() and name != "CONFIGURATION"}
print(json.dumps({"names": sorted(settings.env.readings), "values": {name: repr(kept[name]) for name in kept}}))
"""


def read_settings(folder: Path, text: str) -> dict:
    """The settings as a new process reads them from a `.env` with this text, and the names that it asked for."""
    env_file = folder / "test.env"
    env_file.write_text(text, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = kept | {"HOMELAB_ENV_FILE": str(env_file), "DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-c", DUMP]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def code_blocks(page: str, *, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def heading_anchors(page: str) -> set[str]:
    """As the common viewers of Markdown make them."""
    titles = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# Settings


def test_the_example_names_exactly_the_settings_that_are_read(tmp_path):
    documented = [name for name, _ in SETTING_LINE.findall(EXAMPLE)]
    assert sorted(documented) == read_settings(tmp_path, "")["names"]


def test_each_setting_of_the_example_has_one_comment_line_of_its_own():
    blocks = [block.splitlines() for block in re.split(r"\n(?:# ---.*\n|\n)+", EXAMPLE) if SETTING_LINE.search(block)]
    for lines in blocks:
        settings, comments = lines[1::2], lines[0::2]
        assert all(SETTING_LINE.match(line) for line in settings), lines
        assert all(line.startswith("# ") and not SETTING_LINE.match(line) for line in comments), lines
        assert len(settings) == len(comments)


def test_a_copy_of_the_example_starts_with_the_defaults(tmp_path):
    assert read_settings(tmp_path, EXAMPLE) == read_settings(tmp_path, "")


def test_the_defaults_that_the_example_shows_are_the_real_ones(tmp_path):
    switched_on = SETTING_LINE.sub(r"\1=\2", EXAMPLE)
    assert read_settings(tmp_path, switched_on) == read_settings(tmp_path, "")


def test_the_line_of_the_users_guide_with_a_comment_means_80_gb(tmp_path):
    values = read_settings(tmp_path, USERS_LINE)["values"]
    assert values["PRIMARY_CACHE_LIMIT_BYTES"] == str(80 * 10**9)


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_setting_that_is_named_exists(page):
    known = {name for name, _ in SETTING_LINE.findall(EXAMPLE)} | OTHER_NAMES
    assert set(SETTING_NAME.findall(page)) <= known


# Commands, scripts and URLs


def our_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app in APPS)


def our_scripts() -> list[str]:
    return sorted(path.name for path in (PROJECT / "script").iterdir())


@pytest.mark.parametrize("name", our_commands())
def test_every_command_of_ours_is_explained(name):
    assert f"manage.py {name}" in README + CONTRIBUTING


@pytest.mark.parametrize("name", our_scripts())
def test_every_script_is_explained_and_can_be_run(name):
    assert f"script/{name}" in README + CONTRIBUTING
    assert os.access(PROJECT / "script" / name, os.X_OK)


def test_every_command_and_script_that_is_named_exists():
    text = README + CONTRIBUTING
    assert set(re.findall(r"manage\.py ([a-z_]+)", text)) <= set(get_commands())
    assert set(re.findall(r"script/([a-z]+)", text)) <= set(our_scripts())


def curl_paths() -> list[str]:
    lines = [line for block in code_blocks(README, language="bash") for line in block.splitlines() if "curl" in line]
    return sorted({CURL_URL.search(line)[1] or "/" for line in lines})


def test_the_walk_has_curl_lines():
    assert len(curl_paths()) >= 8


@pytest.mark.parametrize("path", curl_paths())
def test_every_url_that_the_readme_calls_is_there(path):
    assert path in PARSERS or resolve(path).func.__name__ != "unknown"


def test_a_url_that_is_not_there_would_be_noticed():
    with pytest.raises(Resolver404):
        resolve("/api/cache/statz")


def test_the_walk_needs_no_words_of_the_readers_own():
    """Its blocks are run one after the other by an end-to-end test."""
    walk = README.partition("\n## Five minutes\n")[2].partition("\n## ")[0]
    blocks = code_blocks(walk, language="bash")
    assert len(blocks) >= 6
    assert not [block for block in blocks if re.search(r"<[a-z]|\.\.\.|YOUR|/path/to", block)]


# Links and decisions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_and_picture_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), f"{link} in {page.name}"
        if anchor and path.suffix == ".md":
            assert anchor in heading_anchors(path.read_text(encoding="utf-8")), f"{link} in {page.name}"


def test_the_sections_that_other_files_name_are_there():
    """requirements.txt sends its reader to one of them."""
    assert "## Choosing a torch" in README
    assert "## Unreleased" in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_decisions_are_numbered_without_a_gap():
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_every_decision_is_one_page_with_the_four_headings(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Status", "Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 70


# The OpenAPI document


@pytest.fixture(scope="module")
def made_schema(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("schema") / "openapi.yaml"
    call_command("spectacular", file=str(path), validate=True)
    return path.read_text(encoding="utf-8")


def test_the_openapi_document_is_what_the_views_say(made_schema):
    written = (PROJECT / "docs" / "openapi.yaml").read_text(encoding="utf-8")
    assert written == made_schema, "Run script/schema and commit docs/openapi.yaml."


def test_the_openapi_document_is_made_without_a_warning(tmp_path, capsys):
    GENERATOR_STATS.reset()  # it says each warning once in a process
    call_command("spectacular", file=str(tmp_path / "openapi.yaml"), validate=True)
    assert capsys.readouterr().err == ""


def test_the_openapi_document_has_every_path_of_the_api(made_schema):
    paths = set(re.findall(r"^  (/api/[^:]+):$", made_schema, flags=re.MULTILINE))
    assert {"/api/models", "/api/models/{model_name}/load", "/api/cache/stats", "/api/jobs/{id}/cancel"} <= paths
