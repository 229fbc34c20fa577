"""Debian's chromium for the tests of pages: its sizes, and a page that complains about whatever it should not do."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ELSEWHERE = "box.test"  # this machine, by a name that only another device would use
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
_NAMES = f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"

DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DARK = DESK | {"color_scheme": "dark"}

needs_chromium = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason="Debian's chromium is not installed"),
]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*_ARGUMENTS, _NAMES])
        yield browser
        browser.close()


@contextmanager
def quiet_page(browser: Browser, *, port: int, host: str = "localhost", **device: Any) -> Iterator[Page]:
    """A page whose console stays silent, and none of whose requests leaves this machine or fails."""
    with browser.new_context(base_url=f"http://{host}:{port}", **(device or DESK)) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if _is_trouble(message) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if _is_outside(asked.url, host=host) else None)
        yield page
        assert not complaints, complaints


def _is_trouble(message: ConsoleMessage) -> bool:
    """A header that counts on encrypted pages only is no trouble on another."""
    return message.type == "error" and not message.text.startswith("The Cross-Origin-Opener-Policy header has been")


def _is_outside(url: str, *, host: str) -> bool:
    return not re.match(rf"http://{re.escape(host)}:\d+/|data:|blob:", url)


def fits(page: Page) -> bool:
    """Nothing is wider than the screen."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def register(page: Page, name: str, **values: Any) -> None:
    """A model that is not downloaded."""
    body = {"model_name": name, "hf_path": "demo/tiny-llama", "cache_location": "primary", "estimated_size_mb": 23}
    answer = page.request.post("/api/models", data=body | values)
    assert answer.ok, answer.text()
