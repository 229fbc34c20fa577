"""Does by hand, with transformers alone, what servers do. An order (JSON) a line comes in, its seconds go out.

{"do": "load", "path": DIR}                             seconds of from_pretrained; the model before it is forgotten
{"do": "switch", "path": DIR, "chat": MESSAGES}         the same, and one token
{"do": "generate", "chats": [MESSAGES], "tokens": N}    one after the other
"""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, str]]


class Hands:
    def __init__(self) -> None:
        self.model: PreTrainedModel | None = None
        self.tokenizer: PreTrainedTokenizerBase | None = None

    def load(self, path: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = self.tokenizer = None
        self.model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)

    def switch(self, path: str, *, chat: Messages) -> None:
        self.load(path)
        self.generate([chat], tokens=1)

    def generate(self, chats: list[Messages], *, tokens: int) -> None:
        for chat in chats:
            inputs = self.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            self.model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)


def time_order(order: dict[str, Any], *, works: dict[str, Callable[..., None]]) -> float:
    work = works[order.pop("do")]
    started = time.monotonic()
    work(**order)
    return time.monotonic() - started


def main() -> None:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    hands = Hands()
    works = {"load": hands.load, "switch": hands.switch, "generate": hands.generate}
    for line in sys.stdin:
        print(time_order(json.loads(line), works=works), flush=True)


if __name__ == "__main__":
    main()
