"""A run.yaml, KEY=VALUE texts and options: what is read, what wins, and what is refused."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.cli.options import run_options
from mmlu_pipe.config import RunConfig
from mmlu_pipe.configfile import layered, read_file, read_overrides
from mmlu_pipe.errors import ConfigError
from tests.conftest import ROOT

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def command_line(*arguments: str) -> RunConfig:
    """What a command that has the options of `run` makes of them."""
    seen: list[RunConfig] = []
    click.command()(run_options(lambda config: seen.append(config))).main(arguments, standalone_mode=False)
    return seen[0]


def test_options_win_over_key_value_over_the_file_over_the_defaults(write: Write) -> None:
    file = str(write("workers: 2\nlimit: 2\nselect-strategy: text\n"))
    found = command_line("--config", file, "limit=3", "select_strategy=logprob", "--select-strategy", "json_schema")
    assert found == RunConfig(workers=2, limit=3, select_strategy="json_schema")


def test_an_option_given_with_its_default_wins_over_the_file_too(write: Write) -> None:
    file = str(write("workers: 2\nbackend: azureml\ngate: no\n"))
    assert command_line("--config", file, "--workers", "8", "--backend", "local", "--gate") == RunConfig()
    assert command_line("--config", file).backend == "azureml"
    assert command_line("backend=local", "--submit").backend == "azureml"


def test_every_option_of_a_run_can_stand_in_a_file_and_comes_back_as_it_was(write: Write, tmp_path: Path) -> None:
    place = tmp_path / "x"
    examples: dict[Any, Any] = {str: "text", str | None: "3", int: 5, int | None: 7, float: 2.5, bool: True}
    examples |= {Path: place, Path | None: place, tuple[str, ...]: ("a=1", "b")}
    values = {name: examples[hint] for name, hint in typing.get_type_hints(RunConfig).items()}
    shown = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    path = write(
        yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in shown.items()})
    )
    assert mmlu_pipe.load_config(path) == RunConfig(**values)


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda text: text != "null"))
def test_a_text_after_the_first_equals_sign_is_taken_as_it_stands(text: str) -> None:
    assert read_overrides([f"record_note={text}"]) == {"record_note": text}


@pytest.mark.parametrize("text", ["3", "off", "1:30", "017", "1e3", "yes", "2024-01-01", "${HOME}", "???"])
def test_a_text_option_keeps_what_yaml_would_read_as_something_else(write: Write, text: str) -> None:
    assert read_file(write(f"record_note: {text}")) == {"record_note": text}


def test_several_texts_may_be_a_list_a_mapping_or_one(write: Write) -> None:
    text = "program_option: {k: 5, shuffle: true}\nrequire: [seed, temperature=0]\nextra_package: my-plugin==1.0\n"
    assert read_file(write(text)) == {
        "program_option": ("k=5", "shuffle=true"),
        "require": ("seed", "temperature=0"),
        "extra_package": ("my-plugin==1.0",),
    }


def test_several_texts_of_two_layers_are_put_together_and_a_later_name_wins() -> None:
    base = {"program_option": ("k=5", "n=3"), "workers": 2}
    assert layered(base, read_overrides(["program_option=k=1", "program_option=seed=4"])) == {
        "program_option": ("n=3", "k=1", "seed=4"),
        "workers": 2,
    }
    assert layered(base, read_overrides(["program-option=null"]))["program_option"] == ()
    package = {"extra_package": ("plugin>=1", "./here")}
    later = read_overrides(["extra_package=plugin==2", "extra_package=./there"])
    assert layered(package, later)["extra_package"] == ("./here", "plugin==2", "./there")


def test_null_takes_back_what_the_file_says(write: Write) -> None:
    file = str(write("limit: 5\n"))
    assert command_line("--config", file, "limit=null", "--lines", "3").lines == "3"
    assert read_file(write("seed: ~\nexamples:\n")) == {"seed": None, "examples": None}


def test_paths_of_a_file_are_relative_to_its_folder_and_names_stay_names(write: Write, tmp_path: Path) -> None:
    (tmp_path / "conf" / "here").mkdir(parents=True)
    (tmp_path / "conf" / "questions").touch()
    files = "{other_config: other.json, cassette: ../tapes, data_dir: /data, "
    names = "guidance_program: mine.py, dataset: questions, examples: mmlu_astronomy_dev, resume_from: here}"
    found = read_file(write(files + names, "conf/run.yaml"))
    folder = tmp_path / "conf"
    assert found == {
        "other_config": folder / "other.json",
        "cassette": folder / "../tapes",
        "data_dir": Path("/data"),
        "guidance_program": str(folder / "mine.py"),
        "dataset": str(folder / "questions"),
        "examples": "mmlu_astronomy_dev",
        "resume_from": "here",
    }
    assert read_overrides(["cassette=tapes"]) == {"cassette": Path("tapes")}
    assert read_file(write("dataset: sample\nguidance_program: zero_shot", "conf/run.yaml"))["dataset"] == "sample"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers: 2\nwrkers: 4", r"run\.yaml:2: there is no option 'wrkers'; did you mean workers\?"),
        ("quite_else: 4", "there is no option 'quite_else'; `mmlu-pipe run --help` has all of them"),
        ("workers: many", r"run\.yaml:1: workers must be a whole number, not 'many'"),
        ("timeout: long", "timeout must be a number, not 'long'"),
        ("stream: perhaps", "stream must be true or false, not 'perhaps'"),
        ("dataset:", "dataset needs a value"),
        ("dataset: [a, b]", "dataset takes one value, not several"),
        ("require: [[a]]", "is nested too deeply"),
        ("require: [a, ~]", "a value of the list is empty"),
        ("seed: 1\nworkers: 2\nseed: 2", r"run\.yaml:3: seed is given twice"),
        ("record-note: a\nrecord_note: b", "record_note is given twice"),
        ("program_option: {k: 1, k: 2}", "k is given twice"),
        ("- workers", r"run\.yaml:1: must be a mapping"),
        ("workers", r"run\.yaml:1: must be a mapping"),
        ("workers: [1", r"run\.yaml:\d: is not YAML"),
        ("workers: 1\n---\nworkers: 2", r"run\.yaml:\d: is not YAML"),
        ("require: !!python/object/apply:os.system [ls]", r"tag tag:yaml\.org,2002:python/object/apply:os\.system"),
        ("dataset: !!python/name:os.system x", r"has the tag tag:yaml\.org,2002:python/name:os\.system"),
        ("dataset: !env HOME", "has the tag !env"),
        ("a: &a [*a]", "there is no option 'a'"),
        ("require: &a [*a]", "is nested too deeply"),
        ("<<: {workers: 2}", "has the tag"),
        ("!!python/object:os.x {}", "has the tag"),
        ("!mine {limit: 3}", "has the tag !mine"),
        (b"dataset: \xff\xfe", "is not YAML"),
        ("[" * 600, "is not YAML"),
    ],
)
def test_a_bad_file_is_one_message_with_its_line(write: Write, text: str | bytes, told: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_file(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["wrkers=4"], "wrkers=4: there is no option 'wrkers'; did you mean workers?"),
        (["workers=four"], "workers=four: workers must be a whole number, not 'four'"),
        (["workers=4", "workers=5"], "workers=5: workers is given twice"),
        (["workers"], "'workers' is not KEY=VALUE"),
        (["=4"], "'=4' is not KEY=VALUE"),
        (["limit="], "limit=: has no value; limit=null leaves the option out"),
        (["dataset=null"], "dataset=null: dataset needs a value"),
        (["require=seed", "require=null"], "require=null: require is given twice"),
        (["require=null", "require=seed"], "require=seed: require is given twice"),
    ],
)
def test_a_bad_key_value_is_one_message(texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        read_overrides(texts)


def test_a_file_that_is_not_there_or_empty_is_told_or_empty(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the options cannot be read"):
        read_file(tmp_path / "none.yaml")
    assert read_file(write("# nothing yet\n")) == {}


def test_the_run_yaml_of_the_docs_is_read_and_has_what_the_page_says(write: Write) -> None:
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found = mmlu_pipe.load_config(write(text))
    found.check()
    assert (found.dataset, found.limit) == ("sample", 40)
