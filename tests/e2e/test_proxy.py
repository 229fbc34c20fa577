"""Behind nginx, as Debian has it: with TLS and the headers that README asks for, and bare, as people write it first."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.e2e.lan import BOX, PHONE, STRANGER, Host, make_certificate, make_lan, running_nginx
from tests.e2e.server import Server, free_port, start_server, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(not Path("/usr/sbin/nginx").exists(), reason="Debian's nginx-light is not installed"),
]

# README.md, "From other devices", has these lines.
GOOD = """
    proxy_pass http://127.0.0.1:{port};
    proxy_bind 127.0.0.2;
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
"""
SERVERS = """
server {{ listen 443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; location / {{ {good} }} }}
server {{ listen 80; location / {{ {good} }} }}
server {{ listen 81; location / {{ proxy_pass http://localhost:{port}; }} }}
server {{ listen 82; location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_bind 127.0.0.2; }} }}
"""


@dataclass
class Site:
    box: Host
    phone: Host
    server: Server
    certificate: Path

    @property
    def key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.server.data_dir / 'first-api-key').read_text().strip()}"}

    def ask(
        self, path: str, *, method: str = "GET", root: str = f"https://{BOX}", source: str = PHONE, **headers: str
    ) -> requests.Response:
        options = {"headers": {"Host": "box.lan"} | headers, "verify": str(self.certificate), "json": {}}
        return self.phone.ask(method, root + path, source=source, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("proxied"), free_port()
    certificate, key = make_certificate(folder)
    good = GOOD.format(port=port)
    servers = SERVERS.format(certificate=certificate, key=key, good=good, port=port)
    settings = {"TRUSTED_PROXIES": "127.0.0.2", "ALLOWED_HOSTS": "box.lan", "HTTPS": "on"}
    with make_lan() as (box, phone):
        server = box.do(lambda: start_server(folder / "server", port=port, **settings))
        try:
            with running_nginx(box, folder / "nginx", servers=servers):
                box.do(server.wait_until_up)
                wait_for(lambda: (folder / "nginx" / "nginx.pid").exists())
                yield Site(box, phone, server, certificate)
        finally:
            server.stop()


def code_of(answer: requests.Response) -> str:
    return answer.json()["error"]["code"]


def test_through_the_proxy_a_key_is_needed_and_is_enough(site: Site) -> None:
    assert site.ask("/health").status_code == 200
    refused = site.ask("/api/cache/stats")
    assert (refused.status_code, code_of(refused)) == (401, "protected_mode")
    assert PHONE in refused.json()["error"]["message"]
    assert site.ask("/api/cache/stats", **site.key).status_code == 200
    assert site.ask("/api/cache/refresh", method="POST", **site.key).status_code == 200


@pytest.mark.parametrize(
    "header", [{"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "::1"}, {"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 x"}]
)
def test_nobody_becomes_this_machine_by_a_header_of_their_own(site: Site, header: dict[str, str]) -> None:
    refused = site.ask("/api/cache/stats", **header)
    assert (refused.status_code, code_of(refused)) == (401, "protected_mode")
    assert PHONE in refused.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_nobody_becomes_this_machine_by_its_name(site: Site, host: str) -> None:
    assert site.ask("/api/cache/stats", Host=host).status_code in {400, 401}


def test_the_bare_proxy_that_everybody_writes_first_lets_nobody_in(site: Site) -> None:
    for root, code in ((f"http://{BOX}:81", "forwarded_request"), (f"http://{BOX}:82", "https_required")):
        for key in ({}, site.key):
            answer = site.ask("/api/cache/stats", root=root, **key)
            assert (answer.status_code, code_of(answer)) == (403, code)


def test_over_http_no_key_is_taken_and_a_person_is_led_to_https(site: Site) -> None:
    plain = f"http://{BOX}"
    assert code_of(site.ask("/v1/models", root=plain, **site.key)) == "https_required"
    led = site.ask("/settings", root=plain, Accept="text/html")
    assert (led.status_code, led.headers["Location"]) == (302, "https://box.lan/settings")


def test_this_machine_itself_stays_the_owner_without_https(site: Site) -> None:
    local = f"http://127.0.0.1:{site.server.port}"
    answer = site.box.ask("GET", f"{local}/api/cache/stats")
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers


def sign_in_and_look(site: Site) -> tuple[list[int], str]:
    """What a browser gets for the form, two pages, and a change without the form's token; and its new cookies."""
    root, name = f"https://{BOX}", "https://box.lan"
    with requests.Session() as browser:
        browser.trust_env = False
        browser.verify = str(site.certificate)
        browser.headers["Host"] = "box.lan"
        page = browser.get(f"{root}/login", timeout=30)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token is not None
        form = {"key": site.key["Authorization"].partition(" ")[2], "csrfmiddlewaretoken": token[1]}
        headers = {"Referer": f"{name}/login", "Origin": name}
        signed = browser.post(f"{root}/login", data=form, headers=headers, timeout=30, allow_redirects=False)
        pages = [browser.get(f"{root}{path}", timeout=30).status_code for path in ("/settings", "/api/cache/stats")]
        refused = browser.post(f"{root}/api/cache/refresh", headers={"Origin": name}, timeout=30)
        return [signed.status_code, *pages, refused.status_code], signed.headers["Set-Cookie"]


def test_a_person_signs_in_over_https_with_cookies_that_stay_there(site: Site) -> None:
    statuses, cookies = site.phone.do(lambda: sign_in_and_look(site))
    assert statuses == [302, 200, 200, 403]
    assert cookies.count("Secure") == cookies.count("SameSite=Strict") == 2


def test_through_the_proxy_the_boxs_address_is_no_name_of_ours(site: Site) -> None:
    assert site.ask("/login", Host=BOX).status_code == 400


def test_wrong_keys_are_slowed_for_their_sender_and_not_for_the_proxy(site: Site) -> None:
    wrong = [site.ask("/v1/models", source=STRANGER, Authorization="Bearer wrong").status_code for _ in range(11)]
    assert wrong == [401] * 10 + [429]
    assert site.ask("/v1/models", **site.key).status_code == 200
