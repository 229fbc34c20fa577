"""HomelabError > KeyNotFound (404), KeyIsDead (409), KeysAway (503)."""

from homelab.errors import Conflict, HomelabError, NotFound


class KeyNotFound(NotFound):
    code = "api_key_not_found"


class KeyIsDead(Conflict):
    """It was revoked, or has expired, and neither can be undone."""

    code = "api_key_dead"


class KeysAway(HomelabError):
    """Nobody can be let in while the database, where keys and sessions are, does not answer."""

    code = "keys_unavailable"
    status = 503
    retry_after_seconds = 5
