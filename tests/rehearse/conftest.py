"""One whole story for the session: what a rehearsal of the bundled sample saw, open for looking at it again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.config import RunConfig
from mmlu_pipe.proving.result import Stage
from mmlu_pipe.proving.seen import Seen
from mmlu_pipe.proving.story import Story
from mmlu_pipe.proving.subject import prepare
from mmlu_pipe.rehearsal.interpreter import installed_interpreter
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND, azurite_main
from mmlu_pipe.rehearsal.workspace import Workspace


@dataclass(frozen=True)
class Told:
    seen: Seen
    stages: list[Stage]


@pytest.fixture(scope="session")
def cache() -> str:
    """The cache folder that has what a rehearsal runs on; tests have another one in their environment."""
    main, python = azurite_main(), installed_interpreter(bundled_requirements())
    if os.environ.get("CI") != "true" and (main is None or python is None):
        pytest.skip(f"not installed is what a rehearsal runs on; install it with: {INSTALL_COMMAND}")
    assert python is not None, f"not installed: {INSTALL_COMMAND}"
    return str(python.parents[3])


@pytest.fixture(scope="session")
def told(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The rehearsal of the sample, with everything that it started still there."""
    folder = tmp_path_factory.mktemp("rehearsal")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("MMLU_PIPE_NO_PLUGINS", "1")
        patch.setenv("XDG_CACHE_HOME", cache)
        seen = Seen(prepare(RunConfig(), folder), folder, canary="the-key-of-the-laptop")
        story = Story(seen, stack)
        story.tell(Workspace())
        yield Told(seen, story.stages)
