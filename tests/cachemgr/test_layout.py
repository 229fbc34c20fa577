"""Names in a Hub cache, there and back."""

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from cachemgr.layout import REPO_TYPES, is_repo_id, parse_repo_folder, repo_folder

ALPHABET = "abzAZ09._-"
REPO_IDS = st.from_regex(r"([A-Za-z0-9_.-]{1,12}/)?[A-Za-z0-9_.-]{1,12}", fullmatch=True).filter(is_repo_id)


def the_hub_takes(text: str) -> bool:
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


@given(repo_id=REPO_IDS, repo_type=st.sampled_from(REPO_TYPES))
def test_a_repo_id_comes_back_from_its_folder(repo_id: str, repo_type: str) -> None:
    folder = repo_folder(repo_id, repo_type=repo_type)
    assert folder == repo_folder_name(repo_id=repo_id, repo_type=repo_type)
    assert parse_repo_folder(folder) == (repo_type, repo_id)


@given(st.text(ALPHABET + "/", min_size=1, max_size=12))
@example("org/name_")
@example("_org/_name")
@example("a.git")
@example("Qwen/Qwen2.5-0.5B")
def test_a_repo_id_is_what_the_hub_takes_for_one(text: str) -> None:
    assert is_repo_id(text) == the_hub_takes(text)


@given(st.text(max_size=40))
def test_any_folder_name_is_a_repo_or_none_and_never_an_error(name: str) -> None:
    found = parse_repo_folder(name)
    assert found is None or repo_folder(found[1], repo_type=found[0]) == name


@pytest.mark.parametrize(
    "hostile",
    [
        "", "../../x", "/etc", "./x", "a/b/c", "https://h/x", "file:///etc", "a\\b", "a/..", "..", ".", "a--b",
        "x" * 300, "x" * 97, "ab\0", "a\u202eb", "\uff21\uff22/c", "\ud800", "%2e%2e/x", "x/y.git", "a/", "/a",
        "a b", "a/b\n", "-a/b", "a/b-", ".a/b", "a/b.", "~", "~/x", "a:b", "٣/x",
    ],
)  # fmt: skip
def test_a_hostile_repo_id_is_refused(hostile: str) -> None:
    assert not is_repo_id(hostile)


@pytest.mark.parametrize(
    "folder",
    [
        "models", "models--", "--a", "model--a", "kernels--a--b", "models--a--b--c", "models--..", "models--a--..",
        "blobs", ".locks", ".homelab", "models--a/b", "models--a-", "Models--a",
    ],
)  # fmt: skip
def test_a_foreign_folder_is_no_repo(folder: str) -> None:
    assert parse_repo_folder(folder) is None
