"""A twin and a fork with the SDK, as the tests of the backend have them."""

from __future__ import annotations

from tests.backends.azureml.conftest import azurite, azurite_cache, in_fork, make_twin, twin

__all__ = ["azurite", "azurite_cache", "in_fork", "make_twin", "twin"]
