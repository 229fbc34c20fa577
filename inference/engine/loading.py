"""Reads a model from a folder, and only from there: no network, no pickle, no code of the model's author but what its
owner allowed file by file."""

import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig, dynamic_module_utils
from transformers.utils import logging

from inference.engine.backend import EngineSettings, LoadError, ModelFacts, Tokenizer
from inference.engine.dtypes import choose_dtype, read_cpu_flags
from inference.engine.endings import before_leaving
from inference.engine.placement import Machine, Placement, place
from inference.engine.sampling import SamplingDefaults
from inference.engine.snapshot import read_stored_dtype

_FALLBACK_CONTEXT_LENGTH = 2048
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# What of a model's generation_config stays with `generate`; how to sample is ours.
ONLY_GENERATE_KNOWS = ("begin_suppress_tokens", "bad_words_ids", "no_repeat_ngram_size")


@dataclass(frozen=True)
class LoadedModel:
    """`banned`: ids that are never generated, on the model's device."""

    model: Any
    tokenizer: Tokenizer
    defaults: SamplingDefaults
    eos_token_ids: frozenset[int]
    banned: torch.Tensor | None
    context_length: int
    placement: Placement

    @property
    def device(self) -> torch.device:
        """Where the prompt goes."""
        device: torch.device = self.model.device
        return device

    @property
    def words(self) -> int:
        """How many tokens have weights; a tokenizer may know more."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(
            device=self.placement.device,
            dtype=str(self.model.dtype).removeprefix("torch."),
            parameters=int(self.model.num_parameters()),
            weights_by_device=self._count_weights(),
        )

    def explain_no_numbers(self) -> str:
        return (
            "The model gave no numbers (NaN) for the next token: its weights are damaged, or "
            f"{self.facts.dtype} has too small a range for them."
        )

    def _count_weights(self) -> Mapping[str, int]:
        """Bytes by device; what two layers share counts once."""
        sizes: dict[str, int] = {}
        seen: set[int] = set()
        for tensor in (*self.model.parameters(), *self.model.buffers(), *self._list_scales()):
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                sizes[str(tensor.device)] = sizes.get(str(tensor.device), 0) + tensor.nbytes
        return sizes

    def _list_scales(self) -> Iterator[torch.Tensor]:
        """What bitsandbytes keeps beside weights of 8 and of 4 bits."""
        for weights in self.model.parameters():
            found = getattr(weights, "SCB", None), getattr(getattr(weights, "quant_state", None), "absmax", None)
            yield from (scales for scales in found if scales is not None)


def load_model(settings: EngineSettings) -> LoadedModel:
    """Raises LoadError, or whatever transformers raises."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.simplefilter("ignore")
    if settings.remote_code:
        _make_room_for_code()
    placement = place(settings, machine=_look_at_machine())
    if placement.device.startswith("cuda"):
        torch.cuda.set_device(placement.device)  # what libraries do on "the" GPU is done on this one
    model = read_weights(settings, placement=placement)
    tokenizer: Any = AutoTokenizer.from_pretrained(settings.model_path, **_trust(settings))
    tokenizer("A first text, so that no later one changes how the tokenizer is set.")
    given = model.generation_config
    model.generation_config = _keep_what_is_not_sampling(given, tokenizer=tokenizer)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        defaults=_read_defaults(given),
        eos_token_ids=frozenset(_as_list(model.generation_config.eos_token_id)),
        banned=_find_banned(given, device=model.device),
        context_length=_choose_context_length(model.config, wanted=settings.context_length),
        placement=placement,
    )


def _trust(settings: EngineSettings) -> dict[str, Any]:
    """No code of the model's author, unless it was allowed file by file: see check_code."""
    return {"trust_remote_code": bool(settings.remote_code), "local_files_only": True}


def _make_room_for_code() -> None:
    """transformers imports a copy, and an engine has no home to keep one in."""
    folder = tempfile.mkdtemp(prefix="engine-code-")
    before_leaving(partial(shutil.rmtree, folder, ignore_errors=True))
    dynamic_module_utils.HF_MODULES_CACHE = folder  # type: ignore[attr-defined]


def _look_at_machine() -> Machine:
    has_bitsandbytes = importlib.util.find_spec("bitsandbytes") is not None
    return Machine(gpus=torch.cuda.device_count(), has_bitsandbytes=has_bitsandbytes)


def read_weights(settings: EngineSettings, *, placement: Placement) -> Any:
    stored = read_stored_dtype(settings.model_path)
    dtype = choose_dtype(settings.dtype, stored=stored, device=placement.device, cpu_flags=read_cpu_flags())
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        settings.model_path,
        dtype=getattr(torch, dtype),
        device_map=placement.device_map,
        quantization_config=_configure_quantization(placement.quantized_bits, dtype=dtype),
        use_safetensors=True,
        output_loading_info=True,
        **_trust(settings),
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers: the model would load, and talk nonsense.
        raise LoadError(f"{settings.model_path} lacks {len(missing)} of the model's tensors, {missing[0]} among them.")
    return model.eval()


def _configure_quantization(bits: int | None, *, dtype: str) -> BitsAndBytesConfig | None:
    if bits is None:
        return None
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


def _choose_context_length(config: Any, *, wanted: int | None) -> int:
    """Never more than the model was made for."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or wanted or _FALLBACK_CONTEXT_LENGTH
    return min(own, wanted) if wanted else int(own)


def _read_defaults(given: Any) -> SamplingDefaults:
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    return SamplingDefaults(**{name: value for name in names if (value := getattr(given, name, None)) is not None})


def _keep_what_is_not_sampling(given: Any, *, tokenizer: Any) -> GenerationConfig:
    names = (*_TOKEN_IDS, *ONLY_GENERATE_KNOWS)
    kept = {name: value for name in names if (value := getattr(given, name, None)) is not None}
    kept.setdefault("eos_token_id", tokenizer.eos_token_id)
    if kept.get("pad_token_id") is None:
        kept["pad_token_id"] = next(iter(_as_list(kept["eos_token_id"])), 0)
    if longer := [words for words in kept.pop("bad_words_ids", []) if len(words) > 1]:
        kept["bad_words_ids"] = longer
    return GenerationConfig(**kept, do_sample=False)  # type: ignore[no-untyped-call]


def _find_banned(given: Any, *, device: torch.device) -> torch.Tensor | None:
    words = getattr(given, "bad_words_ids", None) or []
    ids = {*(getattr(given, "suppress_tokens", None) or []), *(word[0] for word in words if len(word) == 1)}
    return torch.tensor(sorted(ids), device=device) if ids else None


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
