"""What a hostile client puts into names, repos, paths, revisions and sizes, by REST and by the admin's form: each is
refused with a code, nobody asks the hub, and no file changes, in the caches or around them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.messages import get_messages

from cachemgr.models import Cache, Reservation
from registry.models import Job, ModelRegistry

pytestmark = pytest.mark.django_db
REST = "/api/models"
FORM = "/admin/registry/modelregistry/add/"
WISH = {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 5}
SURROGATE = "\ud800"


def fingerprint(folder: Path) -> dict[str, str]:
    """Every name below it, with what it is: a link's target, a file's hash, a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


@pytest.fixture
def canaries(caches, hub, tmp_path: Path, settings) -> Iterator[Path]:
    """A tree in, beside and above the caches: nothing of it may change, and nobody may ask the hub."""
    settings.CACHE_ALLOWED_ROOTS = [tmp_path / "drives"]
    for name in ("secret.txt", "drives/cache/x", "drives-evil/x", "primary/canary", "secondary/canary",
                 "drives/file", "hub/org/m/config.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"a canary: {name}")
    (tmp_path / "drives" / "link").symlink_to("/etc")
    (tmp_path / "drives" / "locked").mkdir(mode=0o500)
    before = fingerprint(tmp_path)
    yield tmp_path
    assert fingerprint(tmp_path) == before
    assert not hub.requests


def assert_nothing_came_of_it() -> None:
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists() and not Job.objects.exists()
    assert Cache.objects.count() == 2


def refuse_by_rest(api, wish: dict[str, Any], *, field: str) -> str:
    """The code of the refusal."""
    answer = api.post(REST, json.dumps(wish), content_type="application/json")
    assert answer.status_code == 400, answer.content
    error = answer.json()["error"]
    assert list(error["details"]["fields"]) == [field] and len(answer.content) < 2000
    assert_nothing_came_of_it()
    return error["code"]


def refuse_by_form(browser, wish: dict[str, Any], *, field: str) -> None:
    """The page again, with a sentence beside the field."""
    sent = {name: "" if value is None else str(value) for name, value in wish.items()}
    answer = browser.post(FORM, {"wanted_revision": "main", **sent})
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert_nothing_came_of_it()


# D9 and more: repos

REPOS = pytest.mark.parametrize(
    "hf_path",
    [
        "../../x", "/etc", "./x", "a/b/c", "https://h/x", "http://127.0.0.1/x", "file:///etc", "a\\b", "a/..", "..", ".",
        "../x", "a/../b", "a--b", "a/b--c", "--", "x" * 300, f"{'o' * 97}/m", f"o/{'m' * 97}", "ab\0", "a/b\0", "a\u202eb",
        "a/\u202ecod.exe", "\uff21\uff22/c", "а/b", "a/ｂ", SURROGATE, f"a/{SURROGATE}", "%2e%2e/x", "%2e%2e%2fx", "..%2fx",
        "a%00b", "x/y.git", "a/", "/a", "a//b", "-a/b", "a/-b", "a/b-", ".a/b", "a/.b", "a/b.", "~", "~/x", "~root/x",
        "a b", "a/b c", "a\nb", "a/b\n", "a\rb", "a\tb", "a/b?x=1", "a/b#x", "a@b/c", "a/b:c", "a/b@main", "*", "a/*",
        "$(id)", "`id`", "a;id", "a|b", "a&b", "'or 1=1--", "<script>", "{{7*7}}", "${jndi:x}", "%s%n", "a\u200bb",
        "a\u00a0b", "\ufeffa/b", "e\u0301/x", "NUL\0", "\\\\host\\share", "C:\\x", "models--org--m", "spaces/org/m",
    ],
)  # fmt: skip


@REPOS
def test_what_is_no_repo_is_refused_by_rest(api, canaries, hf_path: str) -> None:
    code = refuse_by_rest(api, WISH | {"hf_path": hf_path}, field="hf_path")
    assert code in {"invalid_repo_id", "max_length", "null_characters_not_allowed", "surrogate_characters_not_allowed"}


@REPOS
def test_what_is_no_repo_is_refused_by_the_form(browser, canaries, hf_path: str) -> None:
    if hf_path != hf_path.strip() or SURROGATE in hf_path:
        pytest.skip("A form cannot carry it: spaces around a field are cut off, and half a pair is no UTF-8.")
    refuse_by_form(browser, WISH | {"hf_path": hf_path}, field="hf_path")


@REPOS
def test_what_is_no_repo_is_not_estimated(api, canaries, hf_path: str) -> None:
    answer = api.get("/api/models/estimate", {"hf_path": hf_path.encode(errors="surrogatepass")})
    assert answer.status_code == 400 and answer.json()["error"]["code"], answer.content


@pytest.mark.parametrize("hf_path", [None, True, 7, 1.5, [], ["org/m"], {}, {"a": 1}, ""])
def test_a_repo_is_a_text(api, canaries, hf_path: Any) -> None:
    assert refuse_by_rest(api, WISH | {"hf_path": hf_path}, field="hf_path") in {"invalid", "null", "blank"}


# Names

NAMES = pytest.mark.parametrize(
    "name",
    [
        "estimate", "../x", "a/b", ".", "..", "-a", "_a", ".a", ":a", "a b", "a\0", "a\n", "a" * 97, "ä", "ａ", "a%2fb",
        "a?b", "a#b", "<b>", "a'", 'a"', "a;b", "a\\b", "\u202ea", "a\u200b", "", " ", "$(id)", "{{7}}", "a,b", "a@b",
    ],
)  # fmt: skip


@NAMES
def test_what_is_no_name_is_refused(api, browser, canaries, name: str) -> None:
    code = refuse_by_rest(api, WISH | {"model_name": name}, field="model_name")
    assert code in {"invalid_name", "blank", "null_characters_not_allowed"}
    if name == name.strip():
        refuse_by_form(browser, WISH | {"model_name": name}, field="model_name")


@NAMES
def test_what_is_no_name_is_no_models_address(api, canaries, name: str) -> None:
    """Whatever stands in the address is looked up, and never becomes a path."""
    for action in ("", "/load", "/unload", "/download", "/move", "/verify", "/repair", "/pin", "/stats"):
        answer = api.generic(
            "POST" if action else "GET", f"/api/models/{quote(name, safe='')}{action}", "{}", "application/json"
        )
        assert 400 <= answer.status_code < 500 or answer.json()["error"]["code"] == "no_engines_here", answer.content
        assert answer["Content-Type"] == "application/json"


# D8 and more: paths


def hostile_paths(canaries: Path) -> list[tuple[str, set[str]]]:
    """Each with the codes that may answer it."""
    drives = canaries / "drives"
    outside, odd = {"outside_allowed_roots"}, {"not_plain"}
    return [
        *((path, outside) for path in ("/etc", "/proc/self", "/sys", "/dev/shm/x", "/root/.ssh", "/var/lib", "/boot")),
        (str(canaries), outside), (str(drives), outside), (f"{canaries}/drives-evil", outside), (f"{drives}-evil/x", outside),
        (f"//{drives}/x"[1:], outside | odd),
        ("/", odd), ("/mnt/../etc", odd), (f"{drives}/../secret.txt", odd), (f"{drives}/./x", odd), (f"{drives}//x", odd),
        (f"{drives}/x/..", odd), (f"{drives}/cache/../../primary", odd),
        ("relative", {"not_absolute"}), ("../x", {"not_absolute"}), ("~", {"not_absolute"}), ("~/x", {"not_absolute"}),
        ("$HOME/x", {"not_absolute"}), ("file:///etc", {"not_absolute"}), ("C:\\x", {"not_absolute"}), ("\\\\nas\\x", {"not_absolute"}),
        (f"{drives}/{'x' * 5000}", {"too_long", "max_length"}),
        (f"{drives}/a\0b", {"null_characters_not_allowed", "control_character"}), (f"{drives}/a\nb", {"control_character"}),
        (f"{drives}/a\x1b[2J", {"control_character"}), (f"{drives}/\u202egpj", {"control_character"}),
        (f"{drives}/a\u200bb", {"control_character"}), (f"{drives}/{SURROGATE}", {"surrogate_characters_not_allowed"}),
    ]  # fmt: skip


def test_what_may_not_be_a_cache_is_refused_by_rest_and_by_the_form(api, browser, canaries) -> None:
    for path, codes in hostile_paths(canaries):
        wish = WISH | {"cache_location": "custom", "cache_path": path}
        assert refuse_by_rest(api, wish, field="cache_path") in codes, path
        for url, body in (
            (("/api/cache/check"), {"required_space_mb": 1}),
            ("/api/cache/adopt", {"create": True, "replace": True}),
        ):
            answer = api.post(
                url,
                json.dumps({"cache_location": "custom", "cache_path": path} | body),
                content_type="application/json",
            )
            assert answer.status_code == 400 and answer.json()["error"]["code"] in codes, (url, path, answer.content)
        if SURROGATE not in path:
            refuse_by_form(browser, wish, field="cache_path")
    assert_nothing_came_of_it()


@pytest.mark.parametrize("name", ["file", "link", "link/x"])
def test_what_is_no_folder_of_its_own_becomes_no_cache(api, canaries, name: str) -> None:
    """Whether it is a link or a file, only the drive can tell: the place is known as unusable, and nothing is made."""
    place = {"cache_location": "custom", "cache_path": f"{canaries}/drives/{name}"}
    answer = api.post(
        "/api/cache/adopt", json.dumps(place | {"create": True, "replace": True}), content_type="application/json"
    )
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "cache_unavailable", answer.content
    answer = api.post("/api/cache/check", json.dumps(place | {"required_space_mb": 1}), content_type="application/json")
    assert answer.json()["sufficient"] is False and answer.json()["limiting_factor"] == "unavailable"


def test_a_cache_inside_or_around_another_is_refused(api, browser, caches, tmp_path: Path) -> None:
    for path in (f"{caches.primary.path}/inside", f"{caches.secondary.path}/models--a--b/x"):
        wish = WISH | {"cache_location": "custom", "cache_path": path}
        assert refuse_by_rest(api, wish, field="cache_path") == "overlaps"
        refuse_by_form(browser, wish, field="cache_path")


@pytest.mark.parametrize("place", ["DATA_DIR", "BASE_DIR"])
def test_our_own_folders_are_no_caches(api, caches, settings, place: str) -> None:
    folder = getattr(settings, place)
    settings.CACHE_ALLOWED_ROOTS = [folder.parent]
    for path in (folder, folder / "x"):
        wish = WISH | {"cache_location": "custom", "cache_path": str(path)}
        assert refuse_by_rest(api, wish, field="cache_path") == "overlaps"


# Revisions

REVISIONS = pytest.mark.parametrize(
    "revision",
    ["../main", "a..b", "/main", "-x", ".x", "a b", "main\n", "a\0", "x" * 100, "ä", "refs/../../x", "%2e%2e", "main?x=1",
     "main#x", "a\\b", "$(id)", "a:b", "@{0}", "~1", "a^", "a*", "\u202e"],
)  # fmt: skip


@REVISIONS
def test_what_is_no_revision_is_refused(api, browser, canaries, revision: str) -> None:
    code = refuse_by_rest(api, WISH | {"revision": revision}, field="revision")
    assert code in {"invalid_revision", "null_characters_not_allowed"}
    answer = api.get("/api/models/estimate", {"hf_path": "org/m", "revision": revision})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code
    if revision == revision.strip():
        refuse_by_form(browser, WISH | {"wanted_revision": revision}, field="wanted_revision")


# D12: sizes


@pytest.mark.parametrize(
    "size", ["nan", "NaN", "inf", "-inf", "Infinity", "-1", "0", "-0", "1e400", "1e5", "true", "1_0", "1" * 401, "0x10", "٣",
             "5,0", "1000000001", "1 0", "0.0000001", "--1", "+5", "5MB", "1/2"],
)  # fmt: skip
def test_what_is_no_size_is_refused_by_the_form(browser, canaries, size: str) -> None:
    refuse_by_form(browser, WISH | {"estimated_size_mb": size}, field="estimated_size_mb")


def test_a_size_as_the_api_takes_it_is_taken_by_the_form(browser, caches) -> None:
    assert browser.post(FORM, WISH | {"wanted_revision": "main", "estimated_size_mb": "12.5"}).status_code == 302
    assert ModelRegistry.objects.get().model_size_mb == 12.5


# Changes of a model that is there

CHANGES = pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 10**400), ("priority", "1e400"), ("priority", 1.5), ("priority", True), ("context_limit", -1),
        ("context_limit", 0), ("context_limit", 2**63), ("parallel_requests", 0), ("keep_alive", "nan"), ("keep_alive", "1" * 17),
        ("dtype", "../x"), ("device", "cuda:0; id"), ("quantization", {}), ("pinned", "perhaps"),
        ("cache_location", "tertiary"), ("cache_location", None), ("preload", 7),
    ],
)  # fmt: skip


@CHANGES
def test_a_bad_change_changes_nothing(api, caches, field: str, value: Any) -> None:
    assert api.post(REST, WISH, format="json").status_code == 201
    before = ModelRegistry.objects.values().get()
    answer = api.patch(f"{REST}/m", json.dumps({field: value}), content_type="application/json")
    assert answer.status_code == 400 and answer.json()["error"]["code"], answer.content
    assert list(answer.json()["error"]["details"]["fields"]) == [field]
    assert ModelRegistry.objects.values().get() == before


@pytest.mark.parametrize("path", ["/etc", "relative", "/mnt/../etc", ""])
def test_the_page_of_a_model_takes_no_bad_place_either(api, browser, caches, path: str) -> None:
    assert api.post(REST, WISH, format="json").status_code == 201
    before = ModelRegistry.objects.values().get()
    page = f"/admin/registry/modelregistry/{before['id']}/change/"
    form = browser.get(page).context["adminform"].form
    fields = {name: value for name, value in form.initial.items() if value is not None and value is not False}
    answer = browser.post(page, fields | {"cache_location": "custom", "cache_path": path})
    (sentence,) = [str(each) for each in get_messages(answer.wsgi_request)]
    assert any(words in sentence for words in ("cache_path", "allowed folder")), sentence
    assert ModelRegistry.objects.values().get() == before and Cache.objects.count() == 2
