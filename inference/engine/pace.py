"""How many tokens of prompts go into one step, so that a long prompt does not keep others waiting. Pure."""

_STEP_SECONDS = 0.25
_LEAST_TOKENS = 64  # matrices of fewer rows are multiplied at less than half the speed
_MEASURABLE_TOKENS = 64
_WEIGHT = 0.3


class Pace:
    """Learns from each step. While nobody waits for the next token of an answer, steps are as large as they may be."""

    def __init__(self, *, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._seconds_per_token = 0.0

    def note(self, *, tokens: int, seconds: float) -> None:
        """Small steps cost what the weights cost, not what the tokens do, and teach nothing."""
        if tokens < _MEASURABLE_TOKENS:
            return
        measured = seconds / tokens
        known = self._seconds_per_token or measured
        self._seconds_per_token = known + _WEIGHT * (measured - known)

    def choose_tokens(self, *, answering: int) -> int:
        """For the next step, in which `answering` requests get one token each."""
        if not answering:
            return self._most_tokens
        affordable = int(_STEP_SECONDS / self._seconds_per_token) if self._seconds_per_token else 0
        return min(self._most_tokens, answering + max(_LEAST_TOKENS, affordable))
