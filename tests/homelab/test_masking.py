"""What people see or send on has no secret in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab.masking import mask

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:word@host:6379/0 is away", "redis://***@host:6379/0 is away"),
        ("GET https://ada:word@hub.example/api: 401", "GET https://***@hub.example/api: 401"),
        ("token hf_abcdefghijkl was refused", "token *** was refused"),
        ("key abcdefgh.0123456789abcdef0123456789abcdef", "key ***"),
        ("https://hub.example/x?access_token=abc&n=1", "https://hub.example/x?access_token=***&n=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("write to me@example.org about http://host/a@b", "write to me@example.org about http://host/a@b"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, masked: str) -> None:
    assert mask(text) == masked


@given(st.lists(SECRETS, min_size=1, max_size=4), st.text(max_size=40))
def test_known_secrets_are_hidden_wherever_they_stand(secrets: list[str], words: str) -> None:
    text = f"{words} {secrets[0]}{secrets[-1]} {words} " + " ".join(secrets)
    masked = mask(text, secrets=secrets)
    left = masked.replace("***", "\0")
    assert not [secret for secret in secrets if secret in left and secret not in words]


def test_what_is_shorter_than_four_signs_hides_no_words() -> None:
    assert mask("a word of the box", secrets=["a", "of"]) == "a word of the box"


def test_of_a_secret_that_begins_with_another_one_no_end_is_left() -> None:
    assert mask("wordy-and-long word", secrets=["word", "wordy-and-long"]) == "*** ***"


@pytest.mark.parametrize("secret", ["hf_oauth_abcdefgh12", "api_org_abcdefgh12", "abcdefgh." + "x" * 32])
@pytest.mark.parametrize("text", ["{}", "of_{}", "({})", "'{}'"])
def test_tokens_of_every_kind_are_known_by_their_look_wherever_they_stand(secret: str, text: str) -> None:
    assert secret not in mask(text.format(secret))
