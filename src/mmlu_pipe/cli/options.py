"""The options of `run`, which `plan` and `rehearse` take as well."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mmlu_pipe.config import (
    AUTH_MODES,
    CONTENT_FILTER_MODES,
    OUTPUT_ENCODINGS,
    RECORD_MODES,
    VERSION_SCHEMES,
    RunConfig,
)

__all__ = ["FILE", "FOLDER", "run_options"]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

_DEFAULTS = RunConfig()


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """An option whose default is the one of RunConfig."""
    field = names[0].split("/")[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, field)
    return click.option(*names, field, default=default, show_default=default is not None, **settings)


_OPTIONS = (
    _option("--dataset", "--dataset-name", metavar="FILE|sample|NAME", help="Dataset to evaluate."),
    _option("--guidance-program", metavar="FILE|NAME", help="Guidance program to run on every line."),
    _option("--examples", metavar="FILE|NAME", help="Dataset of examples, for a program that shows some."),
    _option("--program-option", multiple=True, metavar="KEY=VALUE", help="Option of the guidance program."),
    _option("--backend", help="Where to run the pipeline."),
    _option("--other-config", type=FILE, help="JSON file with the aoai_* keys; without it nothing is asked live."),
    _option("--workspace-config", type=FILE, help="AzureML config.json, for a cloud backend."),
    _option("--cassette", type=FOLDER, help="Folder of recordings to play from, or record into."),
    _option("--record-mode", type=click.Choice(RECORD_MODES), help="vcrpy's mode; all but none need both above."),
    _option("--record-note", metavar="TEXT", help="Free text for the provenance of a recording."),
    _option("--select-strategy", metavar="NAME", help="auto, json_schema, logprob, text, or a plugin's."),
    _option("--output-dir", type=FOLDER, help="Run folder; its unfinished run goes on.  [default: new under runs/]"),
    _option("--limit", type=int, help="Evaluate only the first lines."),
    _option("--lines", metavar="NUMBERS", help="Evaluate only these lines, such as 3,17,20-24."),
    _option("--workers", type=int, help="Lines in flight at once, at most."),
    _option("--rpm", type=int, help="Requests a minute, at most."),
    _option("--tpm", type=int, help="Tokens a minute, at most."),
    _option("--timeout", type=float, metavar="SECONDS", help="Ask again where nothing comes for so long."),
    _option("--max-wait", type=float, metavar="SECONDS", help="Stop where the endpoint asks for a longer wait."),
    _option("--max-errors", metavar="N|P%", help="Failed lines that the run survives."),
    _option("--on-content-filter", type=click.Choice(CONTENT_FILTER_MODES), help="Whether filtered lines count there."),
    _option("--retry-errors", is_flag=True, help="Ask the failed lines of the run in --output-dir again."),
    _option("--correct-key", help="Key of the correct answer."),
    _option("--response-key", help="Key of the response.  [default: zero_shot_choice, or else the new one]"),
    _option("--auth", type=click.Choice(AUTH_MODES), help="How to authenticate."),
    _option("--require", multiple=True, metavar="FIELD[=VALUE]", help="Refuse to run where this cannot be sent."),
    _option("--seed", type=int, help="Sampling seed."),
    _option("--reasoning-effort", help="Reasoning effort of a reasoning model."),
    _option("--stream/--no-stream", help="Ask for server-sent events."),
    _option("--output-encoding", type=click.Choice(OUTPUT_ENCODINGS), help="utf-8-sig adds a byte-order mark."),
    _option("--data-dir", type=FOLDER, help="Folder of datasets given by name."),
    click.option("--submit", "backend", flag_value="azureml", help="The same as --backend azureml."),
    _option("--identity", metavar="managed|user|CLIENT_ID", help="As whom a job asks the deployment."),
    _option("--environment", metavar="REFERENCE", help="Environment that exists, NAME:VERSION or azureml://…"),
    _option("--extra-package", multiple=True, metavar="REQUIREMENT", help="Further package that a job installs."),
    _option("--components", metavar="azureml://…", help="Components published to a registry."),
    _option("--version-scheme", type=click.Choice(VERSION_SCHEMES), help="Versions of what is registered."),
    _option("--gate/--no-gate", help="Submit only what was verified on recordings."),
    _option("--resume-from", metavar="JOB", help="Earlier job, whose finished lines are not asked again."),
)

_LAYERS = (
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
    click.option("--config", type=FILE, help="YAML file with any of these options; KEY=VALUE and options win over it."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add all options of `run` to a command, which gets what they amount to as `config`."""

    @functools.wraps(command)
    def with_config(*arguments: Any, config: Path | None, overrides: tuple[str, ...], **values: Any) -> Any:
        options = {field.name: values.pop(field.name) for field in fields(RunConfig)}
        return command(*arguments, config=_config_of(config, overrides, options), **values)

    for option in reversed((*_LAYERS, *_OPTIONS)):
        with_config = option(with_config)
    return with_config


def _config_of(file: Path | None, overrides: tuple[str, ...], options: dict[str, Any]) -> RunConfig:
    """Defaults, over them the file, over it the `KEY=VALUE` texts, and over these the options that were given."""
    if file is None and not overrides:
        return RunConfig(**options)
    from mmlu_pipe.configfile import layered, read_file, read_overrides

    source = click.get_current_context().get_parameter_source
    given = {name: value for name, value in options.items() if source(name) is ParameterSource.COMMANDLINE}
    return RunConfig(**layered({} if file is None else read_file(file), read_overrides(overrides), given))
