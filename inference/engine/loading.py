"""Reads a model from a folder, and only from there: no network, no pickle, no code of the model's author."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from inference.engine.backend import EngineSettings, LoadError, Tokenizer

_FALLBACK_CONTEXT_LENGTH = 2048
_SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
# What of a model's generation_config stays with `generate`; how to sample is ours.
_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "no_repeat_ngram_size",
)


@dataclass(frozen=True)
class SamplingDefaults:
    """What applies when a request says nothing: the model's own values, else the neutral ones."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class LoadedModel:
    model: Any
    tokenizer: Tokenizer
    defaults: SamplingDefaults
    eos_token_ids: frozenset[int]
    context_length: int


def load_model(settings: EngineSettings) -> LoadedModel:
    """Raises LoadError, or whatever transformers raises."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.simplefilter("ignore")
    model = _read_weights(settings, device=_choose_device(settings.device))
    tokenizer: Any = AutoTokenizer.from_pretrained(settings.model_path, **_SAFE)
    tokenizer("A first text, so that no later one changes how the tokenizer is set.")
    given = model.generation_config
    model.generation_config = _keep_what_is_not_sampling(given, tokenizer=tokenizer)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        defaults=_read_defaults(given),
        eos_token_ids=frozenset(_as_list(model.generation_config.eos_token_id)),
        context_length=_choose_context_length(model.config, wanted=settings.context_length),
    )


def _read_weights(settings: EngineSettings, *, device: torch.device) -> Any:
    placement = {} if device.type == "cpu" else {"device_map": {"": str(device)}}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        settings.model_path, dtype=settings.dtype, use_safetensors=True, output_loading_info=True, **placement, **_SAFE
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers: the model would load, and talk nonsense.
        raise LoadError(f"{settings.model_path} lacks {len(missing)} of the model's tensors, {missing[0]} among them.")
    return model.eval()


def _choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise LoadError(
            "--device cuda was asked for, but torch sees no GPU. Use --device cpu, or install a CUDA build."
        )
    return torch.device(wanted)


def _choose_context_length(config: Any, *, wanted: int | None) -> int:
    """Never more than the model was made for."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or wanted or _FALLBACK_CONTEXT_LENGTH
    return min(own, wanted) if wanted else int(own)


def _read_defaults(given: Any) -> SamplingDefaults:
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    return SamplingDefaults(**{name: value for name in names if (value := getattr(given, name, None)) is not None})


def _keep_what_is_not_sampling(given: Any, *, tokenizer: Any) -> GenerationConfig:
    kept = {name: value for name in _KEPT if (value := getattr(given, name, None)) is not None}
    kept.setdefault("eos_token_id", tokenizer.eos_token_id)
    if kept.get("pad_token_id") is None:
        kept["pad_token_id"] = next(iter(_as_list(kept["eos_token_id"])), 0)
    return GenerationConfig(**kept, do_sample=False)  # type: ignore[no-untyped-call]


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
