"""A model's config.json as the Hub has it, to tell people how long its context is. Nothing depends on it."""

import json
from typing import TYPE_CHECKING, Any

from registry.errors import HubError
from registry.hub_line import use_strict_line

if TYPE_CHECKING:
    from registry.hub import HubSnapshot

_NAME = "config.json"
_MAX_BYTES = 4 * 10**6


def read_hub_config(snapshot: "HubSnapshot", *, endpoint: str, token: str, wait_seconds: float) -> dict[str, Any]:
    """Of that commit, in one request. {} where it has none, or the Hub does not give it."""
    from httpx2 import HTTPError
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    if not any(file.name == _NAME and file.size_bytes <= _MAX_BYTES for file in snapshot.files):
        return {}
    use_strict_line(endpoint, has_files=False)
    url = hf_hub_url(snapshot.repo_id, _NAME, revision=snapshot.commit, endpoint=endpoint)
    headers = build_hf_headers(token=token or False)
    try:
        response = get_session().get(url, headers=headers, timeout=wait_seconds)
        config = json.loads(response.content) if response.status_code == 200 else {}
    except (HTTPError, HubError, OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
