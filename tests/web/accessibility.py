"""What axe-core, the engine behind most accessibility checkers, holds against a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_COUNTED = {"serious", "critical"}
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


# Half faded in, a colour has another contrast.
_SETTLED = """() => Promise.allSettled(document.getAnimations()
  .filter((each) => each.effect.getComputedTiming().endTime !== Infinity).map((each) => each.finished))"""


def faults(page: Page) -> list[str]:
    """A line for each serious or critical one, with where it is."""
    page.evaluate(_SETTLED)
    found = Axe().run(page, options=_RULES).response["violations"]
    return [
        f"{fault['id']}: {' '.join(node['failureSummary'].split())}: {node['html'][:150]}"
        for fault in found
        if fault["impact"] in _COUNTED
        for node in fault["nodes"]
    ]
