"""A pass of a model that can be left before each of its layers: one that reads a long prompt may take seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import nn


class Left(Exception):
    """Nobody waits for what the model computes."""


@contextmanager
def before_each_layer(model: Any, act: Callable[[], None]) -> Iterator[None]:
    """Whatever `act` raises ends the pass. It is also called before each whole pass, for models of unknown layers."""
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList)]
    hooks = [each.register_forward_pre_hook(lambda *_: act()) for each in (model, *chain.from_iterable(lists))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
