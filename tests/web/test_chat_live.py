"""Chat and Jobs in a real browser, against a real server with a tiny model that writes nonsense."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import Server, running_server, wait_for
from tests.factories import loadable_files, write_hub_repo
from tests.hub import FaultyHub
from tests.web.chromium import DARK, ELSEWHERE, PHONE, fits, needs_chromium, quiet_page, register, running_chromium

pytestmark = needs_chromium
expect.set_options(timeout=20_000)

DONE = re.compile(r"\d+ tokens? · [\d.]+ tokens/s · first after [\d.]+ s")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    folder = tmp_path_factory.mktemp("hub")
    make_tiny_llama(folder / "demo" / "tiny-llama")
    write_hub_repo(folder, "org/large", files=loadable_files(weights=20_000_000))
    write_hub_repo(folder, "org/other", files=loadable_files(weights=12_000_000))
    with FaultyHub(folder).serve() as running:
        yield running


@pytest.fixture(scope="module")
def server(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("chat")
    limits = {"PRIMARY_CACHE_LIMIT_GB": "1", "SECONDARY_CACHE_LIMIT_GB": "1", "DISK_RESERVE_GB": "0.1"}
    with running_server(folder, HF_ENDPOINT=hub.endpoint, ALLOWED_HOSTS=ELSEWHERE, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with quiet_page(browser, port=server.port) as page:
        yield page


@pytest.fixture
def tiny(page: Page, server: Server) -> str:
    """A model that is ready, whatever the test before did."""
    if server.get("/api/models/tiny")[0] == 404:
        register(page, "tiny")
        assert page.request.post("/api/models/tiny/download").ok
    wait_for(lambda: server.get("/api/models/tiny")[1]["status"] == "ready")
    return "tiny"


def requests_of(server: Server) -> int:
    return sum(each["requests"] for each in server.get("/api/ps")[1])


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


def set_up(page: Page, **settings: str) -> None:
    """Opens the page with these settings."""
    page.goto("/chat")
    page.evaluate("kept => localStorage.setItem('homelab.chat.settings', JSON.stringify(kept))", settings)
    page.goto("/chat")


def test_without_a_model_it_leads_to_one_and_notices_when_one_is_there(page: Page, server: Server) -> None:
    for known in server.get("/api/models")[1]:
        page.request.post(f"/api/models/{known['model_name']}/unload", data={"force": True})
        assert page.request.delete(f"/api/models/{known['model_name']}?files=trash").ok
    register(page, "later")
    page.goto("/chat")
    expect(page.get_by_role("heading", name="No model is ready")).to_be_visible()
    expect(page.get_by_text("Not downloaded yet.").first).to_be_visible()
    expect(page.get_by_role("link", name="Register a Model")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    assert page.request.post("/api/models/later/download").ok
    expect(page.get_by_role("heading", name="Ask something")).to_be_visible(timeout=30_000)
    assert page.request.delete("/api/models/later?files=trash").ok


# Answers


def test_a_cold_model_says_how_far_it_is_and_then_answers_with_its_figures(page: Page, tiny: str) -> None:
    set_up(page, max_tokens="40")
    assert page.request.post(f"/api/models/{tiny}/unload", data={}).ok
    expect(page.locator("#chat-model-state")).to_have_text("not loaded")
    ask(page, "Hello?")
    expect(page.locator(".chat-wait-words")).to_contain_text(re.compile("Loading the model|Asking for the model"))
    expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
    expect(page.locator("#chat-model-state")).to_have_text(re.compile("MB, cpu, idle"))
    assert page.locator(".chat-text").inner_text().strip()
    assert page.locator("#chat-spoken").inner_text().strip()


def test_a_stopped_answer_keeps_what_came_and_the_server_stops_too(page: Page, tiny: str, server: Server) -> None:
    set_up(page, temperature="1.5", seed="3")
    ask(page, "Tell me a long story.")
    expect(page.locator(".chat-text")).not_to_be_empty(timeout=60_000)
    page.keyboard.press("Escape")
    wait_for(lambda: requests_of(server) == 0, seconds=1)
    expect(page.locator(".chat-stats")).to_contain_text("stopped")
    assert page.locator(".chat-text").inner_text().strip()
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_the_last_question_is_edited_and_the_last_answer_made_anew(page: Page, tiny: str) -> None:
    set_up(page, max_tokens="10", seed="1")
    ask(page, "First")
    expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
    ask(page, "Second")
    expect(page.locator(".chat-stats").nth(1)).to_have_text(DONE)
    with page.expect_request("**/v1/chat/completions") as again:
        page.get_by_role("button", name="Regenerate").click()
    assert [each["role"] for each in again.value.post_data_json["messages"]] == ["user", "assistant", "user"]
    expect(page.locator(".chat-stats").nth(1)).to_have_text(DONE)
    page.get_by_role("button", name="Edit").click()
    page.locator(".chat-edit textarea:visible").fill("Third")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".chat-stats").nth(1)).to_have_text(DONE)
    assert page.locator(".chat-bubble").all_inner_texts() == ["First", "Third"]


def test_an_edit_that_was_begun_before_a_new_question_takes_back_its_own(page: Page, tiny: str) -> None:
    set_up(page, max_tokens="5", seed="1")
    ask(page, "First")
    expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
    page.get_by_role("button", name="Edit").click()
    ask(page, "Second")
    expect(page.locator(".chat-stats").nth(1)).to_have_text(DONE)
    page.locator(".chat-edit textarea:visible").fill("Instead")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".chat-stats")).to_have_text(DONE)
    assert page.locator(".chat-bubble").all_inner_texts() == ["Instead"]


def test_a_chat_that_is_opened_again_while_it_is_answered_keeps_what_came(page: Page, tiny: str) -> None:
    set_up(page, temperature="1.5", seed="3")
    ask(page, "Tell me a long story.")
    expect(page.locator(".chat-text")).not_to_be_empty(timeout=60_000)
    page.get_by_role("button", name="Chats").click()
    page.locator("#chat-past-list").get_by_role("button", name="Tell me a long story.").click()
    expect(page.locator(".chat-stats")).to_contain_text("stopped")
    expect(page.locator(".chat-text")).not_to_be_empty()


def test_settings_go_with_the_question_and_wrong_ones_are_refused_in_place(page: Page, tiny: str) -> None:
    set_up(page, system="Be short.", temperature="0.5", top_k="5", max_tokens="3", stop="END\n\nSTOP")
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "Hello")
    body = asked.value.post_data_json
    assert body["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    assert (body["temperature"], body["top_k"], body["max_tokens"], body["stop"]) == (0.5, 5, 3, ["END", "STOP"])
    assert "top_p" not in body and "seed" not in body
    expect(page.locator(".chat-stats")).to_contain_text("ended at its limit of tokens", timeout=60_000)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("9")
    expect(page.locator("#chat-settings .chat-said", has_text="2")).to_be_visible()
    page.keyboard.press("Escape")
    ask(page, "Again")
    expect(page.get_by_role("alert").filter(has_text="The settings have something wrong")).to_contain_text(
        "Temperature"
    )
    expect(page.get_by_label("Your message")).to_have_value("Again")


def test_chats_stay_in_this_browser_and_a_deleted_one_comes_back(page: Page, tiny: str) -> None:
    set_up(page, max_tokens="5")
    ask(page, "Remember me")
    expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
    page.reload()
    expect(page.locator(".chat-bubble")).to_have_text("Remember me")
    expect(page.locator(".chat-stats")).to_have_text(DONE)
    page.get_by_role("button", name="Chats").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("“Remember me” is deleted.")).to_be_visible()
    expect(page.locator(".chat-bubble")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    page.locator("#chat-past-list").get_by_role("button", name="Remember me").click()
    expect(page.locator(".chat-bubble")).to_have_text("Remember me")


def test_the_same_call_is_there_for_a_shell_and_for_python(page: Page, tiny: str, server: Server) -> None:
    set_up(page, max_tokens="7", top_k="3")
    page.get_by_label("Your message").fill('It\'s "me"')
    page.get_by_role("button", name="Code").click()
    curl = page.locator("#chat-curl").inner_text()
    assert f"curl -N http://localhost:{server.port}/v1/chat/completions" in curl and "It'\\''s" in curl
    assert "Authorization" not in curl and '"max_tokens": 7' in curl
    python = page.locator("#chat-python").inner_text()
    assert f'base_url="http://localhost:{server.port}/v1"' in python and 'extra_body={"top_k": 3}' in python
    compile(python, "snippet", "exec")


# Trouble


def test_a_refusal_is_told_in_place_with_what_to_do_and_tried_again(
    browser: Browser, server: Server, tiny: str
) -> None:
    """Not a quiet page: browsers write each refusal to their console."""
    with browser.new_context(base_url=f"http://localhost:{server.port}") as context:
        page = context.new_page()
        set_up(page, max_tokens="5")
        error = {"message": "tiny needs 9.0 GB, and 2.0 GB are free.", "code": "insufficient_memory"}
        page.route("**/v1/chat/completions", lambda route: route.fulfill(status=503, json={"error": error}))
        ask(page, "Hello")
        alert = page.get_by_role("alert").filter(has_text="tiny needs 9.0 GB, and 2.0 GB are free.")
        expect(alert).to_contain_text("Unload another model")
        page.unroute("**/v1/chat/completions")
        alert.get_by_role("button", name="Try again").click()
        expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
        expect(page.locator(".chat-answer")).to_have_count(1)


def test_a_lost_connection_keeps_what_came(page: Page, tiny: str) -> None:
    set_up(page)
    event = 'data: {"choices":[{"delta":{"content":"Half of"}}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=event))
    ask(page, "Hello")
    expect(page.get_by_role("alert").filter(has_text="The connection was lost")).to_contain_text("is kept")
    expect(page.locator(".chat-text")).to_have_text("Half of")


def test_an_engine_that_dies_is_told_and_another_one_is_asked(page: Page, tiny: str, server: Server) -> None:
    set_up(page, temperature="1.5", seed="3")
    ask(page, "Tell me a long story.")
    expect(page.locator(".chat-text")).not_to_be_empty(timeout=60_000)
    next(child for child in server.program("web").children() if "inference.engine" in child.cmdline()).kill()
    alert = page.get_by_role("alert").filter(has_text="tiny")
    expect(alert).to_be_visible()
    assert page.locator(".chat-text").inner_text().strip()
    alert.get_by_role("button", name="Try again").click()
    expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)


def test_a_signed_in_browser_of_another_device_chats_and_sees_jobs_too(
    browser: Browser, server: Server, tiny: str
) -> None:
    key = (server.data_dir / "first-api-key").read_text().strip()
    with quiet_page(browser, port=server.port, host=ELSEWHERE) as page:
        page.goto("/chat")
        page.get_by_label("Or an admin key").fill(key)
        page.get_by_role("button", name="Sign in with the key").click()
        page.wait_for_url("**/chat")
        set_up(page, max_tokens="5")
        ask(page, "Hello from far away")
        expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
        page.get_by_role("button", name="Code").click()
        expect(page.locator("#chat-curl")).to_contain_text("Authorization: Bearer YOUR_KEY")
        page.locator("[data-copies=chat-curl]").click()
        expect(page.locator("[data-copies=chat-curl]")).to_contain_text("Copied")
        page.goto("/jobs")
        expect(page.locator("#jobs-lost")).to_be_hidden()


# Jobs


def test_a_job_appears_moves_ends_and_is_tried_again_without_a_reload(
    page: Page, hub: FaultyHub, server: Server
) -> None:
    page.goto("/jobs")
    page.evaluate("window.isSame = true")
    hub.faults.rate_bytes_per_second = 4_000_000
    register(page, "walker", hf_path="org/large", cache_location="secondary")
    assert page.request.post("/api/models/walker/download").ok
    job = page.locator("#open-jobs .job", has_text="walker")
    expect(job.locator(".job-facts")).to_have_text(re.compile(r"downloading: .* of 20.0 MB"), timeout=15_000)
    job.locator("summary").click()
    before = job.locator("progress").get_attribute("value")
    expect(job.locator("progress")).not_to_have_attribute("value", before or "", timeout=15_000)
    expect(job.locator("details")).to_have_attribute("open", "")
    job.get_by_role("button", name="Cancel").press("Enter")
    expect(page.get_by_text("The download of walker ends.")).to_be_visible()
    expect(page.locator(".job", has_text="walker").locator("summary").first).to_be_focused()
    ended = page.locator("#ended-jobs .job", has_text="walker").first
    expect(ended).to_contain_text("Cancelled", timeout=20_000)
    hub.faults.rate_bytes_per_second = None
    ended.get_by_role("button", name="Try again").click()
    expect(page.locator("#ended-jobs .job", has_text="walker").first).to_contain_text("Done", timeout=30_000)
    assert page.evaluate("window.isSame")
    expect(page.locator("#jobs-lost")).to_be_hidden()


def test_what_is_typed_on_a_models_page_outlives_the_end_of_its_work(
    page: Page, hub: FaultyHub, server: Server
) -> None:
    register(page, "typed", hf_path="org/other", cache_location="secondary")
    hub.faults.rate_bytes_per_second = 4_000_000
    assert page.request.post("/api/models/typed/download").ok
    page.goto("/admin/registry/modelregistry/")
    page.get_by_role("link", name="typed", exact=True).click()
    expect(page.locator(".hl-job-text")).to_contain_text("of 12.0 MB")
    page.get_by_label("Stays in memory for").fill("10m")
    hub.faults.rate_bytes_per_second = None
    expect(page.locator(".hl-job-text")).to_have_text("done", timeout=30_000)
    expect(page.get_by_label("Stays in memory for")).to_have_value("10m")
    assert page.request.delete("/api/models/typed?files=trash").ok


@pytest.mark.parametrize("answer", [{"status": 503}, None], ids=["refused", "cut"])
def test_a_lost_stream_is_said_and_comes_back(browser: Browser, server: Server, answer: dict | None) -> None:
    """Not a quiet page, either."""

    def lose(route: Route) -> None:
        route.fulfill(**answer) if answer else route.abort()

    with browser.new_context(base_url=f"http://localhost:{server.port}") as context:
        page = context.new_page()
        page.route("**/api/jobs/events", lose)
        page.goto("/jobs")
        expect(page.get_by_text("Connection lost, trying again.")).to_be_visible()
        page.unroute("**/api/jobs/events")
        expect(page.get_by_text("Connection lost, trying again.")).to_be_hidden()


def test_who_is_signed_out_meanwhile_is_led_to_the_sign_in(browser: Browser, server: Server) -> None:
    key = (server.data_dir / "first-api-key").read_text().strip()
    with browser.new_context(base_url=f"http://{ELSEWHERE}:{server.port}") as context:
        page = context.new_page()
        page.goto("/jobs")
        page.get_by_label("Or an admin key").fill(key)
        page.get_by_role("button", name="Sign in with the key").click()
        page.wait_for_url("**/jobs")
        page.route("**/api/jobs/events", lambda route: route.fulfill(status=401))
        page.goto("/jobs")
        expect(page.get_by_text("Connection lost, trying again.")).to_be_visible()
        context.clear_cookies()
        page.wait_for_url("**/login?**", timeout=20_000)


@pytest.mark.parametrize("device", [PHONE, DARK], ids=["phone", "dark"])
def test_both_pages_are_for_every_screen(browser: Browser, server: Server, tiny: str, device: dict) -> None:
    with quiet_page(browser, port=server.port, **device) as page:
        page.goto("/jobs")
        expect(page.locator(".job").first).to_be_visible()
        assert fits(page)
        set_up(page, max_tokens="5")
        ask(page, "Hello " + "verylongword" * 40)
        expect(page.locator(".chat-stats")).to_have_text(DONE, timeout=60_000)
        assert fits(page)
        expect(page.get_by_label("Your message")).to_be_in_viewport()
