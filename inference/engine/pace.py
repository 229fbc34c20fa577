"""How many tokens of prompts go into one step, so that it ends soon: others wait for their next token, and who has left
is noticed between two steps. Pure."""

_SECONDS_BESIDE_ANSWERS = 0.4
_SECONDS_ALONE = 0.8
_LEAST_TOKENS = 64  # matrices of fewer rows are multiplied at less than half the speed
_LEAST_SHARE = 0.1
_WEIGHT = 0.3


class Pace:
    """Learns from each step what it costs to read the weights, once, and what each token costs beside that. Before the
    first one that can be measured, and for a slow model, steps are small."""

    def __init__(self, *, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._weights_seconds = 0.0
        self._token_seconds = 0.0

    def note(self, *, tokens: int, seconds: float) -> None:
        """A small step costs what the weights cost."""
        if tokens < _LEAST_TOKENS:
            self._weights_seconds = _learn(seconds, known=self._weights_seconds)
        else:
            own_seconds = max(seconds - self._weights_seconds, _LEAST_SHARE * seconds)
            self._token_seconds = _learn(own_seconds / tokens, known=self._token_seconds)

    def choose_tokens(self, *, answering: int) -> int:
        """For the next step, in which `answering` requests get one token each."""
        seconds = (_SECONDS_BESIDE_ANSWERS if answering else _SECONDS_ALONE) - self._weights_seconds
        affordable = int(seconds / self._token_seconds) if self._token_seconds else 0
        return min(self._most_tokens, answering + max(_LEAST_TOKENS, affordable))


def _learn(measured: float, *, known: float) -> float:
    """A fast step shows what the model can do; a slow one may have been disturbed."""
    return min(measured, known + _WEIGHT * (measured - known)) if known else measured
