"""What a model folder says about the model's size and shape: config.json and the headers of its weights. No torch.

A drive may hang for ever in any read, so the web process reads nothing of a model: the child process that looks at the
drive calls `describe`, and `parse_facts` takes what it says. Hostile files are a child's burden too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inference.architecture import Architecture, Hints, read_architecture
from inference.layers import Layers
from inference.weights import ModelUnreadable, Tensor, TensorGroup, group_tensors, read_json, read_tensors

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",), ("vocab.txt",))
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class ModelFacts:
    """`assumptions` are sentences about what the folder did not say. `tokenizer_bytes`: of its file."""

    architecture: Architecture
    groups: tuple[TensorGroup, ...]
    tokenizer_bytes: int = 0

    @property
    def assumptions(self) -> tuple[str, ...]:
        return self.architecture.assumptions

    @property
    def parameters(self) -> int:
        """Numbers as they are stored: several packed ones count once."""
        return sum(group.values for group in self.loaded_groups)

    @property
    def bytes_by_dtype(self) -> Mapping[str, int]:
        """As stored, in the words of safetensors: {"BF16": 2000}."""
        names = {group.dtype for group in self.groups}
        return {name: sum(group.size_bytes for group in self.groups if group.dtype == name) for name in sorted(names)}

    @property
    def stored_dtype(self) -> str:
        """What transformers takes for `auto`: the config's word, else that of most weights; float32 if nothing says."""
        floats = {_FLOATS[name]: size for name, size in self.bytes_by_dtype.items() if name in _FLOATS}
        return self.architecture.stored_dtype or max(floats, key=lambda name: floats[name], default="float32")

    @cached_property
    def loaded_groups(self) -> tuple[TensorGroup, ...]:
        """A tied head that was stored all the same is not loaded a second time."""
        kinds = {group.kind for group in self.groups}
        is_doubled = self.architecture.is_tied and {"embedding", "head"} <= kinds
        return tuple(group for group in self.groups if not (is_doubled and group.kind == "head"))


def describe(folder: str) -> dict[str, Any]:
    """The facts as JSON of bounded size, or the sentence of why there are none."""
    try:
        return {"facts": asdict(read_facts(Path(folder)))}
    except ModelUnreadable as error:
        return {"error": error.message}


def parse_facts(description: Mapping[str, Any]) -> ModelFacts:
    """The inverse. Raises ModelUnreadable."""
    if "error" in description:
        raise ModelUnreadable(description["error"])
    facts = description["facts"]
    shape = facts["architecture"]
    parts = {"layers": Layers(**shape["layers"]), "assumptions": tuple(shape["assumptions"])}
    groups = tuple(TensorGroup(**group) for group in facts["groups"])
    return ModelFacts(Architecture(**shape | parts), groups, tokenizer_bytes=facts["tokenizer_bytes"])


def read_facts(snapshot_path: Path) -> ModelFacts:
    """Reads headers only: milliseconds, and as long as it takes a drive that sleeps to wake. Raises ModelUnreadable."""
    config = read_json(snapshot_path / "config.json")
    tensors = read_tensors(snapshot_path)
    architecture = read_architecture(config, hints=_hint(tensors))
    groups = group_tensors(tensors, layers=architecture.layers.count)
    return ModelFacts(architecture, groups, tokenizer_bytes=_measure_tokenizer(snapshot_path))


def _measure_tokenizer(folder: Path) -> int:
    """Of the first kind that is there: tokenizer.json holds what the others hold. 0 if none is."""
    kinds = ([folder / name for name in names if (folder / name).is_file()] for names in _TOKENIZERS)
    return next((sum(path.stat().st_size for path in paths) for paths in kinds if paths), 0)


def _hint(tensors: list[Tensor]) -> Hints:
    embedding = max((each for each in tensors if each.kind == "embedding"), key=lambda each: each.values, default=None)
    vocab_size, hidden_size = embedding.shape if embedding and len(embedding.shape) == 2 else (0, 0)
    layers = 1 + max((each.layer for each in tensors if each.layer is not None), default=-1)
    return Hints(layers=min(layers, 10_000), hidden_size=min(hidden_size, 10**6), vocab_size=min(vocab_size, 10**8))
