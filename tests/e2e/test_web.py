"""The whole walk in a real browser, at a desk by day and on a phone by night, as the first evening with the server goes:
nothing there yet, a model that does not fit, one that nearly does not, one that does; downloaded, asked, moved in the
middle of its answer, measured, removed and back again. axe-core looks at each page on the way."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import SMALL_DRIVES, Server, running_server, wait_for
from tests.hub import FaultyHub
from tests.web.accessibility import faults
from tests.web.chromium import DARK, DESK, PHONE, fits, needs_chromium, quiet_page, running_chromium

pytestmark = needs_chromium
PICTURES = os.environ.get("PICTURES")  # a folder: the pictures of the README are made by this very run
MODELS = "/admin/registry/modelregistry/"
EVERY_PAGE = ("/", MODELS, f"{MODELS}add/", "/chat", "/jobs", "/settings", "/settings/clean", "/admin/", "/login")
THE_REST = (
    "/admin/registry/job/",
    "/admin/cachemgr/cache/",
    "/admin/cachemgr/cacheevent/",
    "/admin/cachemgr/trashedrepo/",
    "/admin/inference/usagerecord/",
    "/admin/access/apikey/",
    "/admin/access/apikey/add/",
    "/admin/admin/logentry/",
)
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    folder = tmp_path_factory.mktemp("hub")
    make_tiny_llama(folder / "demo" / "tiny-llama")
    with FaultyHub(folder).serve() as hub:
        hub.faults.rate_bytes_per_second = 10_000_000
        yield hub


@pytest.fixture
def server(hub: FaultyHub, tmp_path: Path) -> Iterator[Server]:
    """An empty one, whose drives have been looked at."""
    with running_server(tmp_path, HF_ENDPOINT=hub.endpoint, **SMALL_DRIVES) as running:
        wait_for(running.has_measured)
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@dataclass
class Walk:
    page: Page
    server: Server
    name: str
    """Of the screen that it is walked on."""

    def look(self, picture: str = "") -> None:
        """At the page as it is now: nothing serious for axe, nothing wider than the screen."""
        found = faults(self.page)
        assert not found, f"{self.page.url}: {found}"
        assert fits(self.page), f"{self.page.url} is wider than the screen"
        if PICTURES and picture:
            self.page.evaluate(PLAIN_PATHS)
            self.page.screenshot(path=f"{PICTURES}/{picture}-{self.name}.png")

    def status(self) -> Any:
        return self.server.get("/api/models/tiny")[1]


PLAIN_PATHS = r"""() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    text.data = text.data.replace(/\/tmp\/\S*\/fast/, "/mnt/ssd/models").replace(/\/tmp\/\S*\/slow/, "/mnt/hdd/models");
    text.data = text.data.replace(/\/tmp\/\S*\/data/, "./data").replace(/http:\/\/127.0.0.1:\d+/, "https://huggingface.co");
  }
}"""

SCREENS = {"desk": DESK, "phone-dark": PHONE | {"color_scheme": "dark"}}


@pytest.mark.parametrize("screen", SCREENS)
def test_the_whole_walk(screen: str, browser: Browser, server: Server) -> None:
    with quiet_page(browser, port=server.port, **SCREENS[screen]) as page:
        walk = Walk(page, server, screen)
        see_an_empty_house(walk)
        be_refused(walk)
        be_warned(walk)
        register_and_download(walk)
        chat_and_move(walk)
        refresh(walk)
        remove_and_undo(walk)


def see_an_empty_house(walk: Walk) -> None:
    walk.page.goto("/")
    walk.look()
    walk.page.goto(MODELS)
    expect(walk.page.get_by_role("heading", name="Register the first one")).to_be_visible()
    walk.look()
    walk.page.get_by_role("link", name="Register your first model").click()
    expect(walk.page.get_by_role("heading", name="Register New Model")).to_be_visible()


def fill_in(walk: Walk, *, repo: str, name: str, megabytes: str = "", location: str = "") -> None:
    walk.page.goto(f"{MODELS}add/")
    walk.page.get_by_label("Hub repo").fill(repo)
    walk.page.get_by_label("Model name").fill(name)
    if megabytes:
        walk.page.get_by_label("Estimated size (MB)").fill(megabytes)
    if location:
        walk.page.locator(".hl-choice", has_text=location).click()


def save(walk: Walk) -> None:
    walk.page.get_by_role("button", name="Save", exact=True).click()


def be_refused(walk: Walk) -> None:
    fill_in(walk, repo="demo/other", name="too-large", megabytes="500", location="Primary")
    save(walk)
    expect(walk.page.get_by_text(re.compile(r"500 MB do not fit: the primary cache .* has room for"))).to_be_visible()
    expect(walk.page.get_by_text("They fit the secondary cache.").first).to_be_visible()
    expect(walk.page.get_by_label("Model name")).to_have_value("too-large")
    walk.look()
    assert walk.server.get("/api/models")[1] == []


def be_warned(walk: Walk) -> None:
    fill_in(walk, repo="demo/another", name="nearly-full", megabytes="950", location="Secondary")
    save(walk)
    expect(walk.page.get_by_text(re.compile(r"950 MB fit, but the secondary cache .* above 90%"))).to_be_visible()
    walk.look()
    assert walk.page.request.delete("/api/models/nearly-full").ok


def register_and_download(walk: Walk) -> None:
    fill_in(walk, repo="demo/tiny-llama", name="tiny")
    expect(walk.page.get_by_text("22.4 MB").first).to_be_visible()  # the Hub was asked
    walk.look("register")
    save(walk)
    expect(walk.page.get_by_text("was added successfully")).to_be_visible()
    walk.page.get_by_role("button", name="Download", exact=True).click()
    expect(walk.page.get_by_text("The download of tiny is queued.")).to_be_visible()
    walk.page.goto("/jobs")
    expect(walk.page.locator(".job-facts", has_text="of 22.4 MB")).to_be_visible()
    walk.look()
    expect(walk.page.locator(".hl-state", has_text="Done")).to_be_visible(timeout=30_000)
    assert walk.status()["status"] == "ready"


def ask(walk: Walk, text: str) -> None:
    walk.page.get_by_label("Your message").fill(text)
    walk.page.get_by_label("Your message").press("Enter")


def chat_and_move(walk: Walk) -> None:
    """The move is asked for in the middle of an answer, which goes on to its end from where it was begun."""
    page = walk.page
    page.goto("/chat")
    page.evaluate("localStorage.setItem('homelab.chat.settings', JSON.stringify({max_tokens: '300', seed: '1'}))")
    page.goto("/chat")
    ask(walk, "Tell me of the sea.")
    expect(page.locator(".chat-text")).not_to_be_empty(timeout=60_000)
    move_in_another_tab(walk)
    expect(page.locator(".chat-stats")).to_have_text(re.compile(r"^300 tokens · [\d.]+ tokens/s"), timeout=90_000)
    walk.look("chat")
    wait_for(lambda: walk.status()["cache_location"] == "secondary" and walk.status()["status"] == "ready", seconds=60)


def move_in_another_tab(walk: Walk) -> None:
    with walk.page.context.new_page() as tab:
        tab.goto(MODELS)
        tab.get_by_role("link", name="tiny", exact=True).click()
        tab.get_by_role("link", name="Move…", exact=True).click()
        expect(tab.get_by_text("22.4 MB").first).to_be_visible()
        Walk(tab, walk.server, walk.name).look()
        tab.get_by_role("button", name=re.compile("^(drive_file_move)?Move")).click()
        tab.wait_for_url(re.compile("/change/"))


def give_it_a_past(database: Path) -> None:
    """For the picture alone: a day of measurements in which the slow drive filled, as a server has that runs for long."""
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(cachemgr_cachesnapshot)")]
        changed = {"id": "NULL", "slot": "slot - ?1", "taken_at": "datetime(taken_at, ?2)", "used_bytes": "?3"}
        values = ", ".join(changed.get(column, column) for column in columns)
        newest = "id = (SELECT latest_id FROM cachemgr_cache WHERE location = 'secondary')"
        for age in range(2, 288):
            used = 22_400_000 * (288 - age) // 288 // 2 + (11_200_000 if age < 90 else 4_000_000 if age < 200 else 0)
            query = f"INSERT INTO cachemgr_cachesnapshot SELECT {values} FROM cachemgr_cachesnapshot WHERE {newest}"
            connection.execute(query, (age, f"-{5 * age} minutes", used))


def refresh(walk: Walk) -> None:
    if PICTURES:
        give_it_a_past(walk.server.data_dir / "db.sqlite3")
    walk.page.goto("/settings")
    expect(walk.page.get_by_role("heading", name="Secondary (Slower Drive)")).to_be_visible()
    walk.page.get_by_role("button", name="Refresh Cache Stats").click()
    expect(walk.page.get_by_text("measured just now").first).to_be_visible()
    expect(walk.page.get_by_role("region", name="Secondary (Slower Drive)")).to_contain_text("tiny")
    walk.look("settings")
    walk.page.goto("/")
    walk.look("home")


def remove_and_undo(walk: Walk) -> None:
    page = walk.page
    page.goto(MODELS)
    page.get_by_role("link", name="tiny", exact=True).click()
    expect(page.get_by_role("link", name="Remove…")).to_be_visible()
    walk.look("model")
    page.get_by_role("link", name="Remove…").click()
    walk.look()
    page.get_by_role("button", name=re.compile("files to the trash")).click()
    wait_for(lambda: walk.server.get("/api/models/tiny")[0] == 404)
    page.goto("/jobs")
    walk.look()
    page.get_by_role("button", name=re.compile("Undo|Bring it back|Restore")).first.click()
    wait_for(lambda: walk.server.get("/api/models/tiny")[0] == 200 and walk.status()["status"] == "ready")


def test_no_page_has_a_serious_fault_or_is_too_wide(browser: Browser, server: Server) -> None:
    for screen, device in {"desk-dark": DARK, "phone": PHONE}.items():
        with quiet_page(browser, port=server.port, **device) as page:
            for path in (*EVERY_PAGE, *THE_REST):
                page.goto(path)
                Walk(page, server, screen).look()
