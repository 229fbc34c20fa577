"""Wrong keys come slowly: ten a minute from one address. Pure: the clock is the caller's."""

import math
from collections import OrderedDict, deque

from homelab.addresses import sender_of

WRONG_KEYS = 10
WINDOW_SECONDS = 60.0
_ADDRESSES = 10_000


class WrongKeys:
    """When the last wrong keys came from whom; bounded, so that many addresses cost no memory."""

    def __init__(self) -> None:
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str | None, *, now: float) -> int:
        """For how long no key is looked at, 0 for not at all; `now` in seconds of any clock that never steps back."""
        moments = self._moments.get(sender_of(address or ""))
        if moments is None or len(moments) < WRONG_KEYS:
            return 0
        return max(0, math.ceil(moments[0] + WINDOW_SECONDS - now))

    def note(self, address: str | None, *, now: float) -> None:
        sender = sender_of(address or "")
        moments = self._moments.setdefault(sender, deque(maxlen=WRONG_KEYS))
        moments.append(now)
        self._moments.move_to_end(sender)
        if len(self._moments) > _ADDRESSES:
            self._moments.popitem(last=False)
