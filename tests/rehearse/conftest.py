"""One whole story for the session: what a rehearsal of the sample, with lines that fail, saw; open for another look."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mmlu_pipe
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_cassette, bundled_program, bundled_requirements
from mmlu_pipe.config import RunConfig
from mmlu_pipe.proving.result import Stage
from mmlu_pipe.proving.seen import Seen
from mmlu_pipe.proving.story import Story
from mmlu_pipe.proving.subject import prepare
from mmlu_pipe.rehearsal.interpreter import installed_interpreter
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND, azurite_main
from mmlu_pipe.rehearsal.workspace import Workspace
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt

MODEL = "Qwen2.5-Coder-1.5B-Instruct"
MORE = ("plain", "unsure", "beyond", "blocked", "blocked too", "cut", "off the menu")
"""Questions that are added to the sample: with an answer, with none, with one out of range, and with failures."""


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


def _answer(body: dict[str, Any], _count: int) -> Reply:
    text = body["messages"][1]["content"]
    if "blocked" in text:
        return filtered_prompt()
    choice = "9" if "menu" in text else "0"
    return Reply(json.dumps({"choice": choice}), finish_reason="length" if "cut" in text else "stop")


def _subject(folder: Path) -> RunConfig:
    """The sample and more lines, a program that leaves one unanswered, and recordings of it all."""
    dataset, program, cassette, config = (folder / name for name in ("d.jsonl", "zero_shot.py", "recorded", "o.json"))
    sample, asked, recorded = (
        SAMPLE_DATASETS["sample"],
        bundled_program("zero_shot"),
        bundled_cassette("sample", "zero_shot"),
    )
    assert asked is not None
    told = 'int(lm["choice"])'
    text = asked.read_text(encoding="utf-8")
    assert text.count(told) == 1
    change = f'{{"unsure": None, "beyond": 9}}.get(input["question"], {told})'
    program.write_text(text.replace(told, change), encoding="utf-8")
    lines = [
        {"subject": ("astronomy", "virology")[place % 2], "question": question}
        | {"dataset": "test", "choices": ["zero", "one", "two", "three"], "correct_answer": 0}
        for place, question in enumerate(MORE)
    ]
    more = "".join(json.dumps(line) + "\n" for line in lines)
    dataset.write_text(sample.read_text(encoding="utf-8") + more, encoding="utf-8")
    shutil.copytree(recorded, cassette)
    with AoaiServer({"dep": MODEL}, answer=_answer) as server:
        aoai = {"endpoint": server.endpoint, "deployment": "dep", "model": MODEL, "api_version": "2024-10-21"}
        value = {f"aoai_{name}": text for name, text in aoai.items()} | {"aoai_compute": "c", "general_compute": "c"}
        config.write_text(json.dumps(value), encoding="utf-8")
        mmlu_pipe.run(
            dataset,
            program,
            cassette=cassette,
            record_mode="new_episodes",
            other_config=config,
            output_dir=folder / "recording",
        )
    return RunConfig(dataset=str(dataset), guidance_program=str(program), cassette=cassette)


@pytest.fixture(scope="session")
def told(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The rehearsal of the sample and more, with everything that it started still there."""
    home, folder = tmp_path_factory.mktemp("subject"), tmp_path_factory.mktemp("rehearsal")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("MMLU_PIPE_NO_PLUGINS", "1")
        patch.setenv("MMLU_PIPE_NO_REPORT", "1")
        patch.setenv("AZURE_OPENAI_API_KEY", "test-key")
        config = _subject(home)
        patch.delenv("AZURE_OPENAI_API_KEY")
        patch.setenv("XDG_CACHE_HOME", cache)
        seen = Seen(prepare(config, folder), folder, canary="the-key-of-the-laptop")
        story = Story(seen, stack)
        story.tell(Workspace())
        yield Told(seen, story.stages)
