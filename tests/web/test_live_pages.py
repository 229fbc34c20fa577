"""Home and Settings in a real browser, against a real server: they follow by themselves, and nothing needs a reload."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import SMALL_DRIVES, Server, running_server, wait_for
from tests.factories import make_cached_repo
from tests.web.chromium import needs_chromium, running_chromium

pytestmark = needs_chromium
LIMIT_MS = 15_000  # a page asks every three or five seconds
STAYS = "window.isTheSamePage = true"
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("live")
    make_tiny_llama(folder / "tiny")
    files = {path.name: path.read_bytes() for path in (folder / "tiny").iterdir()}
    make_cached_repo(folder / "fast", "demo/tiny", files=files)
    with running_server(folder, CACHE_MONITOR_INTERVAL_SECONDS="3600", KEEP_ALIVE="-1", **SMALL_DRIVES) as running:
        wait_for(lambda: running.has_measured() and running.get("/api/models")[1])
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture
def context(chromium: Browser, server: Server) -> Iterator[BrowserContext]:
    with chromium.new_context(base_url=f"http://localhost:{server.port}") as context:
        context.set_default_timeout(LIMIT_MS)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Its console stays silent."""
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


def open_page(page: Page, path: str) -> None:
    page.goto(path)
    page.evaluate(STAYS)


def assert_was_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.isTheSamePage") is True


def measure(page: Page) -> None:
    assert page.request.post("/api/cache/refresh").ok


def load(page: Page) -> None:
    assert page.request.post("/api/models/tiny/load", timeout=120_000).ok


def lay_down(server: Server, name: str, *, size_bytes: int) -> None:
    (server.data_dir.parent / "slow" / name).write_bytes(bytes(size_bytes))


def test_refresh_says_that_it_measures_and_then_shows_the_new_figures_in_place(page: Page, server: Server) -> None:
    open_page(page, "/settings")
    lay_down(server, "notes", size_bytes=7_000_000)
    card = page.get_by_role("region", name="Secondary (Slower Drive)")
    expect(card.get_by_text("notes (file)")).to_have_count(0)
    page.get_by_role("button", name="Refresh Cache Stats").click()
    said = page.get_by_role("status").first
    expect(said).to_have_text(re.compile(r"Measuring the drives…|The caches were measured just now\."))
    expect(said).to_have_text("The caches were measured just now.")
    expect(card.get_by_text("notes (file)")).to_have_count(1)
    assert_was_not_reloaded(page)


def test_from_the_keyboard_one_goes_on_where_a_button_was(page: Page) -> None:
    open_page(page, "/settings")
    page.get_by_role("button", name="Refresh Cache Stats").press("Enter")
    expect(page.locator("#said")).to_have_text("The caches were measured just now.")
    expect(page.get_by_role("button", name="Refresh Cache Stats")).to_be_focused()
    load(page)
    open_page(page, "/")
    page.get_by_role("button", name="Unload tiny").press("Enter")
    expect(page.locator("#said")).to_have_text("tiny has left memory.")
    expect(page.locator("#said")).to_be_focused()


def test_a_new_measurement_comes_to_the_open_page_and_what_was_open_stays_open(page: Page, server: Server) -> None:
    lay_down(server, "first", size_bytes=1_000_000)
    measure(page)
    open_page(page, "/settings")
    card = page.get_by_role("region", name="Secondary (Slower Drive)")
    card.get_by_text("here are no models").click()
    expect(card.get_by_text("first (file)")).to_be_visible()
    page.get_by_role("link", name="1 year").focus()
    lay_down(server, "second", size_bytes=123_000)
    measure(page)
    expect(card.get_by_text("second (file)")).to_be_visible(timeout=LIMIT_MS)
    expect(page.get_by_role("link", name="1 year")).to_be_focused()
    assert_was_not_reloaded(page)


def test_the_time_of_the_pictures_changes_in_place_and_stays_with_new_figures(page: Page, server: Server) -> None:
    open_page(page, "/settings")
    page.get_by_role("link", name="7 days").click()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("img", name="Use over the last 7 days.").first).to_be_visible()
    lay_down(server, "third", size_bytes=3_210_000)
    measure(page)
    expect(page.get_by_text("third (file)")).to_have_count(1, timeout=LIMIT_MS)
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    assert_was_not_reloaded(page)


def test_figures_that_come_late_do_not_take_a_choice_back(page: Page) -> None:
    """A choice waits for a question that is on its way, so that its own answer is the last."""
    open_page(page, "/settings")
    held: list[Route] = []
    page.route(re.compile("/settings/live.*seen="), lambda route: held.append(route))
    with page.expect_request(re.compile("/settings/live.*seen="), timeout=LIMIT_MS):
        pass
    page.get_by_role("link", name="7 days").click()
    for route in held:
        route.continue_()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")


def test_a_line_of_the_list_and_its_piece_of_the_bar_light_up_together(page: Page) -> None:
    open_page(page, "/settings")
    line = page.get_by_role("list", name="Models in it, the largest first").get_by_role("link", name="tiny")
    line.focus()
    lit = page.locator(".hl-stack-bar .hl-lit")
    expect(lit).to_have_count(1)
    expect(lit).to_have_attribute("title", re.compile(r"^tiny: "))
    page.locator("h2").first.hover()
    expect(lit).to_have_count(0)


def test_the_report_goes_to_the_clipboard(context: BrowserContext, page: Page) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_page(page, "/settings")
    page.get_by_role("button", name="Copy diagnostics").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert "## Caches" in page.evaluate("navigator.clipboard.readText()")
    expect(page.get_by_label("The report, to copy by hand")).to_be_hidden()


def test_over_http_from_another_machine_the_report_is_copied_too(context: BrowserContext, page: Page) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.add_init_script(NO_CLIPBOARD)
    open_page(page, "/settings")
    page.get_by_role("button", name="Copy diagnostics").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    expect(page.get_by_label("The report, to copy by hand")).to_be_hidden()


def test_where_the_browser_does_not_copy_the_text_is_shown_and_chosen(page: Page) -> None:
    page.add_init_script(f"{NO_CLIPBOARD}; document.execCommand = () => false")
    open_page(page, "/settings")
    page.get_by_role("button", name="Copy diagnostics").click()
    report = page.get_by_label("The report, to copy by hand")
    expect(report).to_be_visible()
    expect(report).to_be_focused()
    assert "## Caches" in page.evaluate("document.getSelection().toString() || document.activeElement.value")


def test_a_server_that_is_away_is_said_in_words_and_forgotten_when_it_is_back(context: BrowserContext) -> None:
    page = context.new_page()  # its console tells of the requests that failed, as it should
    page.goto("/settings")
    context.set_offline(True)
    expect(page.get_by_text("The server does not answer.")).to_be_visible(timeout=LIMIT_MS)
    context.set_offline(False)
    expect(page.get_by_text("The server does not answer.")).to_be_hidden(timeout=LIMIT_MS)


def test_a_model_comes_into_memory_on_the_open_page_and_leaves_by_its_button(page: Page) -> None:
    open_page(page, "/")
    memory = page.get_by_role("region", name="In memory")
    expect(memory).to_contain_text("No model is in memory.")
    load(page)
    expect(memory).to_contain_text(re.compile(r"tiny.*of RAM, idle, stays"), timeout=LIMIT_MS)
    memory.get_by_role("button", name="Unload tiny").click()
    expect(page.get_by_text("tiny has left memory.")).to_be_visible()
    expect(memory).to_contain_text("No model is in memory.")
    assert_was_not_reloaded(page)


def test_what_happens_to_a_drive_comes_to_the_open_home_page(page: Page, server: Server) -> None:
    open_page(page, "/")
    attention = page.get_by_role("region", name="All is well")
    expect(attention).to_be_visible()
    slow = server.data_dir.parent / "slow"
    slow.rename(slow.with_name("elsewhere"))
    try:
        measure(page)
        expect(page.get_by_role("region", name="1 thing to look at")).to_contain_text("not ", timeout=LIMIT_MS)
        page.get_by_role("link", name="Look at the drive").click()
        expect(page).to_have_url(re.compile(r"/settings#cache-\d+$"))
    finally:
        slow.with_name("elsewhere").rename(slow)
        measure(page)


def test_without_script_the_buttons_still_work(chromium: Browser, server: Server) -> None:
    with chromium.new_context(base_url=f"http://localhost:{server.port}", java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/settings")
        page.get_by_role("button", name="Refresh Cache Stats").click()
        assert page.content().count("The caches were measured just now.") == 1
        page.get_by_role("link", name="7 days").click()
        assert 'aria-current="true">7 days' in page.content()
        load(page)
        page.goto("/")
        page.get_by_role("button", name="Unload tiny").click()
        assert "tiny has left memory." in page.content()


def test_home_on_a_phone_has_no_sideways_scrolling(chromium: Browser, server: Server) -> None:
    phone = {"width": 390, "height": 844}
    with chromium.new_context(base_url=f"http://localhost:{server.port}", viewport=phone) as context:
        page = context.new_page()
        for path in ("/", "/settings"):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
