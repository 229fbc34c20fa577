"""An engine whose model fails when it reads a certain character: `python -m tests.inference.engine.failing_engine`."""

from typing import Any

from inference.engine import loading
from inference.engine.__main__ import main
from inference.engine.backend import EngineSettings
from inference.engine.loading import LoadedModel, load_model

CRASHING_WORD = "\N{START OF HEADING}"


def load_failing_model(settings: EngineSettings) -> LoadedModel:
    loaded = load_model(settings)
    (crashing_id,) = loaded.tokenizer(CRASHING_WORD)["input_ids"]

    def fail(embeddings: Any, inputs: tuple[Any, ...]) -> None:
        if (inputs[0] == crashing_id).any():
            raise IndexError("This model cannot read that.")

    loaded.model.get_input_embeddings().register_forward_pre_hook(fail)
    return loaded


if __name__ == "__main__":
    loading.load_model = load_failing_model
    main()
