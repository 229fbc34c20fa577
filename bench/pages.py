"""How fast the pages are, and how heavy, on a server that has run for a year.

    .venv/bin/python -m bench.pages [--requests 200]

The whole server, with 500 models (400 that lie on the fast drive, 100 that are registered), a snapshot of both caches
every five minutes for a year, 50,000 requests of the last 30 days, and 500 jobs. One client asks for each page in turn,
over one connection that stays open: the aim is 150 ms at the 95th percentile. Then Chromium opens each as on a first
visit, with nothing kept: the aim is 300 KB on the wire.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

import httpx2
from playwright.sync_api import Browser

from bench.api import READY_MODELS, measure_ms, register_models, show, write_past
from tests.e2e.server import Server, free_port, make_environment, running_server, wait_for
from tests.factories import loadable_files, make_cached_repo
from tests.web.chromium import quiet_page, running_chromium

SNAPSHOTS = 2 * 365 * 24 * 12
RECORDS = 50_000
JOBS = 500
AIM_MS = 150.0
AIM_KB = 300.0
_LIST = "/admin/registry/modelregistry/"
_PAGES = ("/", "/settings", "/settings?period=year", "/chat", "/jobs", _LIST, f"{_LIST}add/", "/admin/")


def find_pages(client: httpx2.Client) -> list[str]:
    """All of them, with one model's own page."""
    [key] = re.findall(rf"{_LIST}([0-9]+)/change/", client.get(f"{_LIST}?q=model-7").text)[:1]
    return [*_PAGES, f"{_LIST}{key}/change/"]


def weigh_kb(server: Server, pages: list[str]) -> dict[str, float]:
    """What a browser that has nothing of ours yet gets on the wire, until the page is quiet."""
    with running_chromium() as browser:
        return {path: _weigh(server, path, browser=browser) for path in pages}


def _weigh(server: Server, path: str, *, browser: Browser) -> float:
    weights: list[float] = []
    with quiet_page(browser, port=server.port) as page:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
        page.goto(path)
        page.wait_for_timeout(1000)
    return sum(weights) / 1000


def show_weights(weights: dict[str, float]) -> bool:
    """Prints the table. True where the aim is met."""
    print(f"\n{'kilobytes on a first visit':<44} {'KB':>7}")
    for path, weight in weights.items():
        print(f"{path:<44} {weight:7.0f}")
    is_met = max(weights.values()) < AIM_KB
    print(f"{'met' if is_met else 'MISSED'}: the aim is {AIM_KB:.0f} KB")
    return is_met


def run(folder: Path, *, requests: int) -> bool:
    for number in range(READY_MODELS):
        make_cached_repo(folder / "fast", f"bench/model-{number}", files=loadable_files())
    port, settings = free_port(), {"PRIMARY_CACHE_LIMIT_GB": "100"}
    environment = make_environment(folder, port=port) | settings
    write_past(environment, snapshots=SNAPSHOTS)
    with (
        running_server(folder, port=port, **settings) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        wait_for(lambda: len(client.get("/api/models").json()) >= READY_MODELS, seconds=120)
        register_models(client)
        write_past(environment, records=RECORDS, jobs=JOBS)
        pages = find_pages(client)
        is_quick = show(measure_ms(client, paths=pages, requests=requests), aim_ms=AIM_MS)
        return show_weights(weigh_kb(server, pages)) and is_quick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200, help="of each page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        is_met = run(Path(name), requests=options.requests)
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
