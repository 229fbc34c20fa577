"""A model that is there, for the history's tests."""

from tests.registry.conftest import model

__all__ = ["model"]
