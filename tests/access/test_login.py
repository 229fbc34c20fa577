"""The sign-in page: accounts, admin keys, and those who try too often."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from access.doorman import SESSION_KEY
from access.services import make_key
from homelab.owner import owner_account

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse"


@pytest.fixture
def ada() -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


def sign_in(client: Client, **form: str):
    return client.post("/login", form)


def test_an_account_signs_in_and_gets_to_the_page_that_was_asked_for(client: Client, ada: User) -> None:
    answer = sign_in(client, username="ada", password=PASSWORD, next="/settings?period=7d")
    assert (answer.status_code, answer["Location"]) == (302, "/settings?period=7d")
    assert client.session["_auth_user_id"] == str(ada.pk)
    assert SESSION_KEY not in client.session


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_nobody_is_led_to_another_site(client: Client, ada: User, target: str) -> None:
    assert sign_in(client, username="ada", password=PASSWORD, next=target)["Location"] == "/"


def test_an_admin_key_signs_in_as_the_owner_and_the_session_knows_which(client: Client) -> None:
    key, text = make_key(name="phone", scope="admin")
    assert sign_in(client, key=f" {text}\n")["Location"] == "/"
    assert client.session["_auth_user_id"] == str(owner_account().pk)
    assert client.session[SESSION_KEY] == key.prefix


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "Type your name and password"),
        ({"username": "ada"}, "Type your name and password"),
        ({"username": "ada", "password": "wrong"}, "Please enter a correct username"),
        ({"key": "wrong"}, "no valid admin key"),
        ({"key": "x" * 201}, "at most 200"),
        ({"username": "a\x00", "password": "b"}, "Null characters"),
    ],
)
def test_whoever_does_not_come_in_hears_why(client: Client, ada: User, form: dict[str, str], words: str) -> None:
    answer = sign_in(client, **form)
    assert (answer.status_code, words in answer.content.decode()) == (200, True)
    assert "_auth_user_id" not in client.session


def test_a_key_for_inference_is_no_way_in(client: Client) -> None:
    _, text = make_key(name="chat", scope="inference")
    assert "no valid admin key" in sign_in(client, key=text).content.decode()


def test_the_form_wants_its_token(ada: User) -> None:
    answer = Client(enforce_csrf_checks=True).post("/login", {"username": "ada", "password": PASSWORD})
    assert answer.status_code == 403


def test_the_session_cookie_is_for_us_alone(client: Client, ada: User, settings) -> None:
    cookie = sign_in(client, username="ada", password=PASSWORD).cookies["sessionid"]
    assert (cookie["samesite"], cookie["httponly"], cookie["secure"]) == ("Strict", True, "")
    settings.SESSION_COOKIE_SECURE = True
    client.logout()
    assert sign_in(client, username="ada", password=PASSWORD).cookies["sessionid"]["secure"]


def test_signing_out_takes_a_post_and_leads_back(client: Client) -> None:
    sign_in(client, key=make_key(name="phone", scope="admin")[1])
    assert client.get("/logout").status_code == 405
    assert client.post("/logout")["Location"] == "/login"
    assert "_auth_user_id" not in client.session


# Too many tries


@pytest.mark.parametrize("wrong", [{"username": "ada", "password": "wrong"}, {"key": "wrong"}])
@pytest.mark.parametrize("page", ["/login", "/admin/login/"])
def test_after_five_wrong_tries_right_ones_wait_too(client: Client, ada: User, wrong, page: str) -> None:
    wrong = wrong if page == "/login" else {"username": "ada", "password": "wrong"}
    answers = [client.post(page, wrong).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    locked = sign_in(client, username="ada", password=PASSWORD)
    assert (locked.status_code, locked["Retry-After"]) == (429, "300")
    assert locked.json()["error"]["code"] == "too_many_sign_ins"
    assert sign_in(client, key=make_key(name="a", scope="admin")[1]).status_code == 429
    assert client.post("/admin/login/", {"username": "ada", "password": PASSWORD}).status_code == 429
    assert not [name for name in locked.headers if name.lower().startswith("access-control")]


def test_others_are_not_locked_out_and_the_lock_opens_again(client: Client, ada: User) -> None:
    for _ in range(5):
        sign_in(client, username="ada", password="wrong")
    other = Client(REMOTE_ADDR="10.0.0.9")
    assert sign_in(other, username="ada", password=PASSWORD).status_code == 302
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=6))
    assert sign_in(client, username="ada", password=PASSWORD).status_code == 302


def test_one_ipv6_home_is_one_client(ada: User) -> None:
    for number in range(5):
        sign_in(Client(REMOTE_ADDR=f"2001:db8::{number}"), username="ada", password="wrong")
    assert sign_in(Client(REMOTE_ADDR="2001:db8::9"), username="ada", password=PASSWORD).status_code == 429


def test_tries_while_locked_do_not_fill_the_database_nor_keep_secrets(client: Client, ada: User) -> None:
    for number in range(20):
        sign_in(client, username=f"name{number}", password="my-secret")
        sign_in(client, key="my-secret")
    assert AccessAttempt.objects.count() <= 6
    kept = str(list(AccessAttempt.objects.values()))
    assert "my-secret" not in kept
