"""The documentation tells all there is, and nothing that is not there."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mmlu_pipe import errors, hookspecs
from mmlu_pipe.cli.options import run_options
from mmlu_pipe.plugins import registry
from tests.conftest import ROOT

pytestmark = pytest.mark.docs

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _commands() -> dict[str, click.Command]:
    """Name → command; a command of a group is named after both, such as `cassette check`."""
    found: dict[str, click.Command] = {}
    for name, command in registry("commands").items():
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{name} {part}": member for part, member in inner.items()} or {name: command}
    return found


def _options_of(command: click.Command) -> set[str]:
    names = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    return {name for name in names if name.startswith("--")}


COMMANDS = _commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_files_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_in_the_reference(name: str) -> None:
    section = REFERENCE.partition(f"### `mmlu-pipe {name}`")[2].partition("\n### ")[0]
    assert section, f"no section for {name}"
    command = COMMANDS[name]
    told = set(re.findall(r"`(--[a-z-]+)`", "\n".join(row for row in section.splitlines() if row.startswith("| `--"))))
    if "all options of `run`" in section:
        told |= _options_of(click.command()(run_options(lambda: None)))
    assert told == _options_of(command)


def test_every_command_is_told_and_no_other() -> None:
    assert set(re.findall(r"### `mmlu-pipe ([a-z -]+)`", REFERENCE)) == set(COMMANDS)


def test_every_error_is_told_and_no_other() -> None:
    section = REFERENCE.partition("\n## Errors")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert told | {"MmluPipeError"} == set(errors.__all__)


def test_every_hook_is_told_with_its_arguments_and_no_other() -> None:
    told = dict(re.findall(r"^\| `(\w+)\(([\w, ]*)\)` \|", REFERENCE, re.MULTILINE))
    hooks = {
        name: ", ".join(inspect.signature(value).parameters)
        for name, value in vars(hookspecs).items()
        if inspect.isfunction(value) and value.__module__ == hookspecs.__name__
    }
    assert told == hooks


def test_every_port_of_every_component_is_told() -> None:
    page = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
    for component in registry("components").values():
        section = page.partition(f"`{component.name}`\n")[2].partition("\n## ")[0]
        for port in component.ports:
            assert f"`{port.name}`" in section, (component.name, port.name)


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", README)) <= set(targets)


def test_the_output_shown_in_the_readme_is_what_the_default_run_prints(tmp_path: Path) -> None:
    shown = README.partition("```text\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-m", "mmlu_pipe", "run"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    folder = re.compile(r"runs[/\\]\S+")
    assert folder.sub("runs/…", done.stdout).split() == folder.sub("runs/…", shown).split()


def test_every_mmlu_pipe_command_of_the_pages_has_options_that_exist() -> None:
    for page in PAGES:
        for line in re.findall(r"^mmlu-pipe (?:.*\\\n)*.*", page.read_text(encoding="utf-8"), re.MULTILINE):
            words = line.partition("#")[0].replace("\\\n", " ").split()
            command = COMMANDS.get(words[1]) or COMMANDS[" ".join(words[1:3])]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_the_program_of_the_readme_is_the_bundled_one() -> None:
    program, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert program == (ROOT / "guidance_programs" / "zero_shot.py").read_text(encoding="utf-8")


def test_the_script_of_the_readme_runs(tmp_path: Path) -> None:
    _, script = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert "Interval(" in done.stdout


def test_no_placeholder_was_left_in_a_page() -> None:
    for page in PAGES:
        assert re.findall(r"\b[A-Z]+_LINE\b|\bRUN_OUTPUT\b|TODO|FIXME", page.read_text(encoding="utf-8")) == [], page


def test_the_json_examples_of_the_readme_are_json() -> None:
    for text in re.findall(r"```json\n(.*?)```", README, re.DOTALL):
        json.loads(text)
