"""Which custom paths may be a cache, and the code of each reason to refuse."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.errors import InvalidCachePath
from cachemgr.paths import validate_custom_path

ROOTS = [Path("/srv/cache"), Path("/home/me")]
APART = [Path("/home/me/hub"), Path("/home/me/app/data"), Path("/srv/cache/one")]


def accept(text: str) -> Path:
    return validate_custom_path(text, allowed_roots=ROOTS, kept_apart=APART)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"), ("   ", "empty"),
        ("/srv/cache/" + "x" * 5000, "too_long"),
        ("/srv/cache/a\0b", "control_character"), ("/srv/cache/a\nb", "control_character"),
        ("/srv/cache/\u202egpj", "control_character"), ("/srv/cache/\ud800", "control_character"),
        ("/srv/cache/a\u200bb", "control_character"),
        ("relative", "not_absolute"), ("../x", "not_absolute"), ("~", "not_absolute"), ("~/x", "not_absolute"),
        ("C:\\models", "not_absolute"), (" /srv/cache/x", "not_absolute"),
        ("/", "not_plain"), ("/srv/cache/../etc", "not_plain"), ("/mnt/../etc", "not_plain"),
        ("/srv/cache/./x", "not_plain"), ("/srv//cache/x", "not_plain"), ("/srv/cache/x/..", "not_plain"),
        ("/etc", "outside_allowed_roots"), ("/proc/self", "outside_allowed_roots"), ("/sys", "outside_allowed_roots"),
        ("/dev/shm/x", "outside_allowed_roots"), ("//srv/cache/x", "outside_allowed_roots"),
        ("/srv/cache", "outside_allowed_roots"), ("/srv/cache-evil/x", "outside_allowed_roots"),
        ("/home", "outside_allowed_roots"),
        ("/home/me/hub/inside", "overlaps"), ("/home/me/app", "overlaps"), ("/home/me/app/data", "overlaps"),
        ("/home/me/app/data/x", "overlaps"), ("/srv/cache/one/models--a", "overlaps"), ("/srv/cache/one", "overlaps"),
    ],
)  # fmt: skip
def test_a_path_that_may_not_be_a_cache_is_refused_with_its_code(text: str, code: str) -> None:
    with pytest.raises(InvalidCachePath) as refused:
        accept(text)
    assert (refused.value.code, refused.value.status, refused.value.field) == (code, 400, "cache_path")
    assert refused.value.details["fields"]["cache_path"][0]["code"] == code
    assert len(refused.value.message) < 3000


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv/cache/two", "/srv/cache/two"), ("/srv/cache/two/", "/srv/cache/two"),
        ("/home/me/hub2", "/home/me/hub2"), ("/srv/cache/Modèles à moi", "/srv/cache/Modèles à moi"),
        ("/home/me/app/data2", "/home/me/app/data2"), ("/srv/cache/..x", "/srv/cache/..x"),
    ],
)  # fmt: skip
def test_a_plain_path_below_a_root_is_accepted(text: str, path: str) -> None:
    assert accept(text) == Path(path)


@pytest.mark.root
def test_another_caches_folder_under_a_second_name_overlaps(mount: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "other" / "deep").mkdir(parents=True)
    bound = mount(tmp_path / "bound", bind=tmp_path / "other")
    kept_apart = [tmp_path / "other" / "deep"]
    with pytest.raises(InvalidCachePath) as refused:
        validate_custom_path(str(bound / "deep" / "mine"), allowed_roots=[tmp_path], kept_apart=kept_apart)
    assert refused.value.code == "overlaps" and "inside or around" in refused.value.message
    beside = bound / "beside"
    assert validate_custom_path(str(beside), allowed_roots=[tmp_path], kept_apart=kept_apart) == beside


def test_what_the_kernel_keeps_is_no_drive() -> None:
    for path in ("/proc/self/x", "/sys/fs/x"):
        with pytest.raises(InvalidCachePath) as refused:
            validate_custom_path(path, allowed_roots=[Path("/proc"), Path("/sys")], kept_apart=[])
        assert refused.value.code == "not_a_drive"


@given(st.text("/.a~\\ \0", max_size=20).map("/srv/cache/".__add__) | st.text(max_size=30))
def test_whatever_is_accepted_lies_below_a_root_and_apart_from_the_rest(text: str) -> None:
    try:
        path = accept(text)
    except InvalidCachePath:
        return
    assert any(path.resolve().is_relative_to(root) for root in ROOTS) and ".." not in path.parts
    assert not any(path.is_relative_to(other) or other.is_relative_to(path) for other in APART)
