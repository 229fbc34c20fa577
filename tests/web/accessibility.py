"""What axe-core, the engine behind most accessibility checkers, holds against a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_COUNTED = {"serious", "critical"}
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


def faults(page: Page) -> list[str]:
    """A line for each serious or critical one, with where it is."""
    found = Axe().run(page, options=_RULES).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {node['html'][:150]}"
        for fault in found
        if fault["impact"] in _COUNTED
        for node in fault["nodes"]
    ]
