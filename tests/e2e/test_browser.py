"""Single pages in a real browser, against a real server. test_web.py walks through all of them."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cachemgr.layout import MARKER_FILE
from demo.tiny_model import make_tiny_llama
from tests.e2e.server import SMALL_DRIVES, Server, running_server, wait_for
from tests.factories import loadable_files, write_hub_repo
from tests.hub import FaultyHub
from tests.web.chromium import DARK, DESK, PHONE, fits, needs_chromium, quiet_page, running_chromium

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    make_tiny_llama(folder / "hub" / "demo" / "tiny-llama")
    shutil.copytree(folder / "hub" / "demo" / "tiny-llama", folder / "hub" / "demo" / "looked-at")
    write_hub_repo(folder / "hub", "demo/mover", files=loadable_files(weights=20_000_000))
    with FaultyHub(folder / "hub").serve() as hub:
        hub.faults.rate_bytes_per_second = 10_000_000
        with running_server(folder, HF_ENDPOINT=hub.endpoint, **SMALL_DRIVES) as running:
            wait_for(running.has_measured)
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


DEVICES = {"desk": DESK, "phone": PHONE, "dark": DARK}


@pytest.fixture(params=DEVICES)
def page(request, browser: Browser, server: Server) -> Iterator[Page]:
    with quiet_page(browser, port=server.port, **DEVICES[request.param]) as page:
        yield page


desk = pytest.mark.parametrize("page", ["desk"], indirect=True)


def register(
    page: Page, *, name: str, repo: str = "demo/tiny-llama", location: str = "Primary", size: str = ""
) -> None:
    page.goto("/admin/registry/modelregistry/")
    page.get_by_role("link", name="Register New Model").click()
    page.get_by_label("Model name").fill(name)
    page.get_by_label("Hub repo").fill(repo)
    page.locator(".hl-choice", has_text=location).click()
    if size:
        page.get_by_label("Estimated size (MB)").fill(size)


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_settings_shows_a_bar_for_each_cache_and_refreshes(page: Page) -> None:
    page.goto("/settings")
    expect(page.get_by_role("heading", name="Primary (Fast SSD)")).to_be_visible()
    expect(page.get_by_role("heading", name="Secondary (Slower Drive)")).to_be_visible()
    expect(page.get_by_role("meter")).to_have_count(2)
    page.get_by_role("button", name="Refresh Cache Stats").click()
    expect(page.get_by_text("The caches were measured just now.")).to_be_visible()
    expect(page.locator("time").first).to_have_text(re.compile(r"[0-9] s ago"))
    assert fits(page)


def test_settings_draws_the_use_over_the_chosen_time(page: Page) -> None:
    page.goto("/settings")
    page.get_by_role("button", name="Refresh Cache Stats").click()  # a server that just started has no past yet
    for words in ("7 days", "1 year", "24 hours"):
        page.get_by_role("link", name=words).click()
        expect(page.get_by_role("link", name=words)).to_have_attribute("aria-current", "true")
        expect(page.get_by_role("img", name=f"Use over the last {words}.").first).to_be_visible()
        assert fits(page)


@desk
def test_another_drive_is_explained_and_taken_with_two_clicks(page: Page, server: Server) -> None:
    page.goto("/settings")
    marker = server.data_dir.parent / "slow" / MARKER_FILE
    marker.unlink()
    page.get_by_role("button", name="Refresh Cache Stats").click()
    card = page.get_by_role("region", name="Secondary (Slower Drive)")
    expect(card).to_contain_text("Not mounted")
    expect(card).to_contain_text("cache_adopt secondary --replace")
    card.get_by_text("Use this drive instead").click()
    card.get_by_role("button", name="Use This Drive").click()
    expect(page.get_by_text("The secondary cache uses")).to_be_visible()
    expect(card).to_contain_text("Fine")
    assert marker.exists()
    expect(page.get_by_role("region", name="Events")).to_contain_text("is back; it was unmounted")


@desk
def test_the_custom_path_appears_for_custom_only(page: Page) -> None:
    register(page, name="x")
    expect(page.locator("#id_cache_path")).to_be_hidden()
    page.locator(".hl-choice", has_text="Custom Path").click()
    expect(page.locator("#id_cache_path")).to_be_visible()


@desk
def test_each_choice_shows_limit_use_and_free_space(page: Page) -> None:
    register(page, name="x")
    expect(page.locator(".hl-choice", has_text="Primary (Fast SSD)")).to_contain_text(
        re.compile(r"of 100 MB used, .* left to book, .* free on the disk")
    )
    expect(page.locator(".hl-choice", has_text="Secondary (Slower Drive)")).to_contain_text("of 1.0 GB used")


def test_a_repo_that_is_typed_shows_what_it_is_and_the_best_cache_is_chosen(page: Page) -> None:
    page.goto("/admin/registry/modelregistry/add/")
    page.get_by_label("Hub repo").fill("demo/looked-at")
    expect(page.locator(".hl-outlook")).to_contain_text("512 tokens")
    expect(page.get_by_label("Model name")).to_have_value("looked-at")
    expect(page.locator("#hl-after-primary")).to_contain_text(re.compile("recommended.*full with it", re.DOTALL))
    page.get_by_label("Estimated size (MB)").fill("500")
    expect(page.locator("#hl-after-primary")).to_contain_text("Does not fit")
    expect(page.get_by_role("radio", name="Secondary")).to_be_checked()
    page.locator(".hl-choice", has_text="Primary").click()
    expect(page.locator(".hl-refusal")).to_contain_text("500 MB do not fit")
    expect(page.get_by_role("radio", name="Primary")).to_be_checked()
    page.get_by_role("button", name="Choose it").click()
    expect(page.get_by_role("radio", name="Secondary")).to_be_checked()
    expect(page.locator(".hl-refusal")).to_have_count(0)
    assert fits(page)


@desk
def test_a_move_that_makes_room_is_planned_in_place_and_the_outlook_follows(page: Page, server: Server) -> None:
    body = {"model_name": "mover", "hf_path": "demo/mover", "cache_location": "primary", "download": True}
    assert page.request.post("/api/models", data=body).ok
    wait_for(lambda: server.get("/api/models/mover")[1]["status"] == "ready")
    register(page, name="large", repo="demo/other", size="95")
    page.get_by_role("button", name="Show the move").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Move to the secondary cache?")
    dialog.get_by_role("button", name=re.compile("^Move")).click()
    expect(dialog).to_contain_text("goes to")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#hl-after-primary")).to_contain_text("full with it", timeout=30_000)
    expect(page.get_by_label("Model name")).to_have_value("large")
    assert page.request.delete("/api/models/mover?files=trash").ok


ADD = "/admin/registry/modelregistry/add/"
FACTS = re.compile(r"/add/facts/")
PLAN = "/admin/registry/modelregistry/act/move/?model=999999&to=secondary"
WAY_OUT = (
    f'<button type="button" hx-get="{PLAN}" hx-target="#hl-dialog-body" hx-swap="innerHTML">Show the move</button>'
)
HIDES = "Object.defineProperty(document, 'hidden', { get: () => window.isHidden === true })"


def test_a_plan_for_a_model_that_is_gone_says_so_in_its_place(browser: Browser, server: Server) -> None:
    """Its console tells of the refusal, as it should."""
    with browser.new_context(base_url=f"http://localhost:{server.port}") as context:
        page = context.new_page()
        page.route(FACTS, lambda route: route.fulfill(content_type="text/html", body=WAY_OUT))
        page.goto(ADD)
        page.get_by_role("button", name="Show the move").click()
        expect(page.get_by_role("dialog")).to_contain_text("This cannot be done any more")


@desk
def test_a_page_that_nobody_sees_asks_neither_hub_nor_drive(page: Page) -> None:
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(content_type="text/html", body="<p data-again>Room is being made.</p>")

    page.clock.install()
    page.add_init_script(HIDES)
    page.route(FACTS, answer)
    page.goto(ADD)
    expect(page.get_by_text("Room is being made.")).to_be_visible()
    with page.expect_request(FACTS):
        page.clock.run_for(6_000)
    page.evaluate("window.isHidden = true")
    page.clock.run_for(6_000)
    count = len(asked)
    page.clock.run_for(60_000)
    assert len(asked) == count
    with page.expect_request(FACTS):
        page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")


@desk
def test_wrong_words_are_explained_beside_their_field(page: Page) -> None:
    register(page, name="-bad", repo="../etc")
    save(page)
    expect(page.get_by_text("Enter a valid value.").or_(page.get_by_text("A name begins with"))).to_be_visible()
    page.get_by_label("Model name").fill("good")
    save(page)
    expect(page.get_by_text("is no repo on the Hub", exact=False).first).to_be_visible()


@desk
def test_a_model_is_registered_downloaded_with_a_moving_bar_loaded_and_unloaded(page: Page, server: Server) -> None:
    register(page, name="walk")
    save(page)
    expect(page.get_by_text("was added successfully")).to_be_visible()
    page.get_by_role("button", name="Download", exact=True).click()
    expect(page.get_by_text("The download of walk is queued.")).to_be_visible()
    page.goto("/admin/registry/job/")
    expect(page.locator(".hl-job-text").first).to_contain_text(
        re.compile(r"downloading: .* MB of 22.4 MB"), timeout=15_000
    )
    expect(page.get_by_text("done").first).to_be_visible(timeout=30_000)
    page.goto("/admin/registry/modelregistry/")
    page.get_by_role("link", name="walk").click()
    expect(page.locator(".hl-chips")).to_contain_text("ready")
    model_page = page.url
    expect(page.locator(".hl-presence")).to_have_text("not loaded")
    page.get_by_role("button", name=re.compile(r"^Load\b")).click()
    expect(page.get_by_text(re.compile("walk is (being )?loaded"))).to_be_visible()
    expect(page.locator(".hl-presence")).to_have_text(re.compile("(queued|reading|warming|MB, cpu, idle)"))
    page.goto(model_page)
    expect(page.locator(".hl-presence")).to_have_text(re.compile(r"^[0-9.]+ MB, cpu, idle$"), timeout=30_000)
    page.get_by_role("button", name="Unload").click()
    expect(page.get_by_text("walk is not in memory any more.")).to_be_visible()
    expect(page.locator(".hl-presence")).to_have_text("not loaded")
    show_promised_space(page)


def show_promised_space(page: Page) -> None:
    """What is registered and not downloaded yet is on the bar too."""
    body = {"model_name": "promised", "hf_path": "demo/promised", "estimated_size_mb": 40, "cache_location": "primary"}
    answer = page.request.post("/api/models", data=body)
    assert answer.ok, answer.text()
    page.goto("/settings")
    expect(page.get_by_role("region", name="Primary (Fast SSD)")).to_contain_text("Reserved40.0 MB")
    assert page.request.delete("/api/models/promised").ok


@desk
def test_the_browsable_api_answers_what_the_guide_asks(page: Page) -> None:
    page.goto("/api/cache/stats")
    expect(page.get_by_role("heading", name="Cache Stats")).to_be_visible()
    page.goto("/api/cache/recommend?estimated_size_mb=50")
    expect(page.get_by_text('"recommended_cache": "primary"')).to_be_visible()
    page.goto("/api/models")
    page.locator("textarea[name=_content]").fill('{"model_name": "by-form", "hf_path": "a/b", "estimated_size_mb": 1}')
    page.get_by_role("button", name="POST").click()
    expect(page.get_by_text("HTTP 201 Created")).to_be_visible()
    assert page.request.delete("/api/models/by-form").ok


def test_the_browsable_api_answers_a_question_about_space(browser: Browser, server: Server) -> None:
    """A page of its own: opened by hand the endpoint says 405, which a console takes for an error, and offers a form."""
    with browser.new_context(base_url=f"http://localhost:{server.port}") as context:
        page = context.new_page()
        page.goto("/api/cache/check")
        page.locator("textarea[name=_content]").fill('{"cache_location": "primary", "required_space_mb": 5}')
        page.get_by_role("button", name="POST").click()
        expect(page.get_by_text("HTTP 200 OK")).to_be_visible()
        expect(page.get_by_text('"sufficient": true')).to_be_visible()


@desk
def test_the_api_documents_need_no_other_machine(page: Page) -> None:
    page.goto("/api/docs")
    expect(page.get_by_text("/api/cache/stats").first).to_be_visible()


@desk
def test_a_key_is_made_in_the_admin_and_shown_this_once(page: Page) -> None:
    page.goto("/admin/access/apikey/add/")
    page.get_by_label("Name").fill("the laptop")
    page.get_by_label("Scope").select_option("inference")
    save(page)
    expect(page.get_by_text(re.compile(r"^\w{8}\.\w{32}$"))).to_be_visible()
    page.get_by_role("link", name="All API keys").click()
    expect(page.get_by_role("link", name="the laptop")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\w{8}\.\w{32}"))).to_have_count(0)
