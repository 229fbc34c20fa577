"""How many tokens of prompts go into one step, so that it ends soon: others wait for their next token, or to begin.
Pure."""

_MEASURABLE_TOKENS = 64
_LEAST_SHARE = 0.1
_WEIGHT = 0.3

# (seconds, tokens): a step is as large as it can be in this time, and not smaller than this. Measured with 156 million
# parameters on a CPU, steps of 256 read as fast as larger ones, of 128 take 6 % longer, of 64 a third, of fewer twice.
_BESIDE_ANSWERS = (0.4, 64)
_ALONE = (0.8, 256)


class Pace:
    """Learns from each step what it costs to read the weights, once, and what each token costs beside that. Before the
    first one that can be measured, and for a slow model, steps are small."""

    def __init__(self, *, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._weights_seconds = 0.0
        self._token_seconds = 0.0

    def note(self, *, tokens: int, seconds: float) -> None:
        """A small step costs what the weights cost."""
        if tokens < _MEASURABLE_TOKENS:
            self._weights_seconds = _learn(seconds, known=self._weights_seconds)
        else:
            own_seconds = max(seconds - self._weights_seconds, _LEAST_SHARE * seconds)
            self._token_seconds = _learn(own_seconds / tokens, known=self._token_seconds)

    def choose_tokens(self, *, answering: int) -> int:
        """For the next step, in which `answering` requests get one token each."""
        seconds, least = _BESIDE_ANSWERS if answering else _ALONE
        affordable = int((seconds - self._weights_seconds) / self._token_seconds) if self._token_seconds else 0
        return min(self._most_tokens, answering + max(least, affordable))


def _learn(measured: float, *, known: float) -> float:
    """A fast step shows what the model can do; a slow one may have been disturbed."""
    return min(measured, known + _WEIGHT * (measured - known)) if known else measured
