"""The model engine has no wheel for every machine; where it is missing these tests say so."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def _needs_the_engine() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip('llama.cpp is not installed: pip install -c constraints.txt "xllamacpp>=2026.10"')
