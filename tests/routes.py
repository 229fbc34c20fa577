"""Every route that Django knows, for tests that ask all of them."""

import re
from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver


def all_routes(patterns: list | None = None, *, root: str = "/") -> Iterator[tuple[str, URLPattern]]:
    """The path, with 1 in the place of each variable, and the pattern."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = root + plain(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from all_routes(pattern.url_patterns, root=route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route, pattern


def plain(route: str) -> str:
    """Without the signs of regular expressions, which the admin has for its list of apps and for what is not there."""
    route = re.sub(r"\(\?P<app_label>(\w+)[^)]*\)|\(\?P<\w+>[^)]*\)", lambda match: match[1] or "1", route)
    return re.sub(r"<[^>]+>", "1", route).replace("^", "").replace("$", "")
