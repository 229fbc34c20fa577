"""A second host on the LAN: every route and method without a key, and the same with one."""

import re
from collections.abc import Iterator

import pytest
import requests

from inference.openai.door import PARSERS
from tests.e2e.lan import BOX, STRANGER, Host, make_lan
from tests.e2e.server import Server, start_server, wait_for
from tests.routes import all_routes

pytestmark = [pytest.mark.e2e, pytest.mark.root]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OPEN = {("GET", "/health"), ("HEAD", "/health"), ("GET", "/login"), ("HEAD", "/login"), ("POST", "/login")}
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def lan() -> Iterator[tuple[Host, Host]]:
    with make_lan() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def box(lan: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, as somebody starts it who wants to reach it from the LAN."""
    host, folder = lan[0], tmp_path_factory.mktemp("box")
    server = host.do(lambda: start_server(folder, HOST="0.0.0.0", ALLOWED_HOSTS="box.lan"))
    try:
        host.do(server.wait_until_up)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def phone(lan: tuple[Host, Host], box: Server) -> Host:
    return lan[1]


@pytest.fixture(scope="module")
def url(box: Server) -> str:
    return f"http://{BOX}:{box.port}"


@pytest.fixture(scope="module")
def key(box: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {(box.data_dir / 'first-api-key').read_text().strip()}"}


PATHS = sorted(
    {
        *(path for path, _ in all_routes()),
        *PARSERS,
        "/static/unfold/js/app.js",
        "/static/homelab",
        "/nowhere",
        "//api/models",
    }
)


def test_the_list_of_routes_has_them_all() -> None:
    known = {"/api/models", "/api/models/1/load", "/v1/chat/completions", "/admin/login/", "/admin/access/apikey/", "/"}
    assert known <= set(PATHS)
    assert len(PATHS) > 100


@pytest.mark.parametrize("method", METHODS)
def test_without_a_key_nothing_answers_but_health_and_the_login_page(phone: Host, url: str, method: str) -> None:
    def knock() -> dict[str, int]:
        """Those that did not answer as they should."""
        found = {}
        with requests.Session() as session:
            session.trust_env = False
            for path in PATHS:
                answer = session.request(method, url + path, json={}, timeout=30, allow_redirects=False)
                is_refused = answer.status_code == 401 and (
                    method == "HEAD" or answer.json()["error"]["code"] == "protected_mode"
                )
                if is_refused == ((method, path) in OPEN) or answer.status_code >= 500:
                    found[path] = answer.status_code
        return found

    assert phone.do(knock) == {}


def test_without_a_key_a_person_is_led_to_the_login_page_and_sees_nothing_else(phone: Host, url: str) -> None:
    answers = {path: phone.ask("GET", url + path, headers=HTML) for path in PATHS if ("GET", path) not in OPEN}
    for path, answer in answers.items():
        if path.startswith(("/api", "/v1", "/models")):
            assert answer.status_code == 401, path
        else:
            assert (answer.status_code, answer.headers["Location"].startswith("/login?next=")) == (302, True), path


def test_the_login_page_and_its_files_are_there(phone: Host, url: str) -> None:
    page = phone.ask("GET", f"{url}/login", headers=HTML)
    files = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
    assert page.status_code == 200 and len(files) == 2
    assert [phone.ask("GET", url + file).status_code for file in files] == [200, 200]


def test_the_refusal_names_the_ways_in_and_the_documented_lines_get_it(phone: Host, url: str) -> None:
    lines = [("GET", "/api/cache/stats"), ("POST", "/api/cache/check?cache_location=primary&required_space_mb=1")]
    for method, path in [*lines, ("POST", "/api/models"), ("POST", "/v1/chat/completions")]:
        error = phone.ask(method, url + path, data="{}").json()["error"]
        assert error["code"] == "protected_mode"
        assert "Authorization: Bearer KEY" in error["message"] and "/login" in error["message"]


@pytest.mark.parametrize("method", METHODS)
def test_with_an_admin_key_every_route_of_the_api_answers(
    phone: Host, url: str, key: dict[str, str], method: str
) -> None:
    for path in PATHS:
        if path.startswith(("/api/", "/v1/", "/models")):
            answer = phone.ask(method, url + path, headers=key, json={})
            assert answer.status_code not in {401, 403} and answer.status_code < 500, path


def test_a_key_opens_no_page(phone: Host, url: str, key: dict[str, str]) -> None:
    for path in ("/", "/settings", "/admin/", "/admin/access/apikey/"):
        answer = phone.ask("GET", url + path, headers=key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")


def test_a_key_in_the_url_is_refused(phone: Host, url: str, key: dict[str, str]) -> None:
    text = key["Authorization"].partition(" ")[2]
    for query in (f"api_key={text}", f"key={text}", f"access_token={text}", text):
        answer = phone.ask("GET", f"{url}/v1/models?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "URL" in answer.json()["error"]["message"]


def test_the_name_has_to_be_ours_with_a_key_too(phone: Host, url: str, key: dict[str, str]) -> None:
    answers = {
        host: phone.ask("GET", f"{url}/v1/models", headers=key | {"Host": host}).status_code
        for host in ("box.lan", "BOX.lan:8000", BOX, "evil.example", "localhost", "127.0.0.1", "0.0.0.0")
    }
    fine = {"box.lan", "BOX.lan:8000", BOX}
    assert answers == {host: 200 if host in fine else 400 for host in answers}


def test_other_sites_pages_and_unknown_proxies_are_refused_with_a_key_too(
    phone: Host, url: str, key: dict[str, str]
) -> None:
    for header, code in [
        ({"Origin": "https://evil.example"}, "cross_origin"),
        ({"Sec-Fetch-Site": "same-site"}, "cross_origin"),
        ({"X-Forwarded-For": "127.0.0.1"}, "forwarded_request"),
    ]:
        answer = phone.ask("POST", f"{url}/api/cache/refresh", headers=key | header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_the_box_itself_needs_nothing_under_its_local_names_and_a_key_under_the_others(
    lan: tuple[Host, Host], box: Server, url: str, key: dict[str, str]
) -> None:
    assert lan[0].ask("GET", f"http://127.0.0.1:{box.port}/api/cache/stats").status_code == 200
    assert lan[0].ask("GET", f"{url}/api/cache/stats").status_code == 401
    assert lan[0].ask("GET", f"{url}/api/cache/stats", headers=key).status_code == 200


def test_the_start_says_what_is_open_to_whom(box: Server) -> None:
    wait_for(lambda: "Ready" in box.output())
    assert (
        f"Who reaches 0.0.0.0, port {box.port}, from elsewhere gets /health and /login; all else wants" in box.output()
    )
    assert "Names: box.lan." in box.output()
    assert "HTTPS is off" in box.output()


def test_wrong_keys_are_refused_then_slowed_and_others_are_not(phone: Host, url: str, key: dict[str, str]) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    answers = [phone.ask("GET", f"{url}/v1/models", headers=wrong, source=STRANGER) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert answers[0].json()["error"]["code"] == "invalid_api_key"
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert 0 < int(answers[10].headers["Retry-After"]) <= 60
    assert phone.ask("GET", f"{url}/v1/models", headers=key, source=STRANGER).status_code == 429
    assert phone.ask("GET", f"{url}/v1/models", headers=key).status_code == 200
