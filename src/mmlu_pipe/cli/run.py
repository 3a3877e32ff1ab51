"""`mmlu-pipe run`."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.config import AUTH_MODES, CONTENT_FILTER_MODES, OUTPUT_ENCODINGS, RECORD_MODES, RunConfig
from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.records import ERROR_KEY

if TYPE_CHECKING:
    from mmlu_pipe.reporting.progress import Figures

__all__ = ["run"]

_DEFAULTS = RunConfig()
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """An option whose default is the one of RunConfig."""
    field = names[0].split("/")[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, field)
    return click.option(*names, field, default=default, show_default=default is not None, **settings)


@click.command()
@_option("--dataset", "--dataset-name", metavar="FILE|sample|NAME", help="Dataset to evaluate.")
@_option("--guidance-program", metavar="FILE|NAME", help="Guidance program to run on every line.")
@_option("--backend", help="Where to run the pipeline.")
@_option("--other-config", type=_FILE, help="JSON file with the aoai_* keys; without it nothing is asked live.")
@_option("--workspace-config", type=_FILE, help="AzureML config.json; only a cloud backend reads it.")
@_option("--cassette", type=_FOLDER, help="Folder of recordings to play from, or record into.")
@_option("--record-mode", type=click.Choice(RECORD_MODES), help="vcrpy's record mode; all but none need both above.")
@_option("--record-note", metavar="TEXT", help="Free text for the provenance of a recording.")
@_option("--select-strategy", metavar="NAME", help="auto, json_schema, logprob, text, or a plugin's.")
@_option("--output-dir", type=_FOLDER, help="Run folder; its unfinished run goes on.  [default: new under runs/]")
@_option("--limit", type=int, help="Evaluate only the first lines.")
@_option("--lines", metavar="NUMBERS", help="Evaluate only these lines, such as 3,17,20-24.")
@_option("--workers", type=int, help="Lines in flight at once, at most.")
@_option("--rpm", type=int, help="Requests a minute, at most.")
@_option("--tpm", type=int, help="Tokens a minute, at most.")
@_option("--timeout", type=float, metavar="SECONDS", help="Ask again where nothing comes for so long.")
@_option("--max-wait", type=float, metavar="SECONDS", help="Stop where the endpoint asks for a longer wait.")
@_option("--max-errors", metavar="N|P%", help="Failed lines that the run survives.")
@_option("--on-content-filter", type=click.Choice(CONTENT_FILTER_MODES), help="Whether filtered lines count there.")
@_option("--retry-errors", is_flag=True, help="Ask the failed lines of the run in --output-dir again.")
@_option("--correct-key", help="Key of the correct answer.")
@_option("--response-key", help="Key of the response.  [default: zero_shot_choice, or else the one new key]")
@_option("--auth", type=click.Choice(AUTH_MODES), help="How to authenticate.")
@_option("--require", multiple=True, metavar="FIELD[=VALUE]", help="Refuse to run where this cannot be sent.")
@_option("--seed", type=int, help="Sampling seed.")
@_option("--reasoning-effort", help="Reasoning effort of a reasoning model.")
@_option("--stream/--no-stream", help="Ask for server-sent events.")
@_option("--output-encoding", type=click.Choice(OUTPUT_ENCODINGS), help="utf-8-sig adds a byte-order mark.")
@_option("--data-dir", type=_FOLDER, help="Folder of datasets given by name.")
@click.option("--prices", type=_FILE, help="JSON file of prices that you wrote, to show what is spent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def run(as_json: bool, prices: Path | None, **values: Any) -> int:
    """Evaluate a dataset with a guidance program.

    Without options the bundled sample is evaluated on the bundled recordings, with no network and no account.
    """
    from rich.console import Console

    from mmlu_pipe.api import start
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.plugins import manager
    from mmlu_pipe.reporting.console import print_score
    from mmlu_pipe.reporting.progress import Progress

    config = RunConfig(**values)
    manager().register(Progress(Console(stderr=True), _figures(config, prices)), "progress")
    with contextlib.redirect_stdout(sys.stderr):  # a program may print; stdout is for the result
        found = start(config)
    if as_json:
        print_json(_as_json(found))
    elif found.score is not None:
        title = f"{Path(config.dataset).stem} with {Path(config.guidance_program).stem}"
        print_score(found.score, Console(), title=title, run_dir=found.run_dir, note=_whose_answers(found.run_dir))
    _tell_failures(found)
    if found.error is not None:
        sys.stderr.write(f"error: {found.error}\n")
        if found.run_dir.exists():
            sys.stderr.write(f"  run folder: {found.run_dir}\n")
        if (found.run_dir / "ledger.jsonl").is_file():
            sys.stderr.write(f"  to go on, repeat the command with --output-dir {shlex.quote(str(found.run_dir))}\n")
        return found.error.exit_code
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("run", run)


def _figures(config: RunConfig, prices: Path | None) -> Figures:
    """What the progress shows; money, where the user names prices of the model."""
    from mmlu_pipe.reporting.progress import Figures

    if prices is None or config.other_config is None:
        return Figures()
    from mmlu_pipe.config import load_endpoint
    from mmlu_pipe.forecast.prices import load_prices
    from mmlu_pipe.forecast.samples import usage_of

    known = load_prices(prices)
    price = known.models[known.model_of([load_endpoint(config.other_config).model])]
    return Figures(cost=lambda usage: price.of(usage_of(usage)), currency=known.currency)


def _tell_failures(found: Any) -> None:
    """A completed run may have failed lines; their reason belongs beside the score."""
    path = found.run_dir / "errors.jsonl"
    if found.error is not None or not found.score or not found.score.failed or not path.is_file():
        return
    with path.open(encoding="utf-8-sig") as handle:
        first = json.loads(handle.readline())[ERROR_KEY]
    lines = "1 line" if found.score.failed == 1 else f"{found.score.failed} lines"
    told = f"line {first['line_number']}: {first['error_type']}: {first['message']}"
    sys.stderr.write(f"{lines} failed, the first: {told}\n  all of them: {path}\n")


def _as_json(found: Any) -> dict[str, Any]:
    manifest = found.run_dir / "manifest.json"
    facts = json.loads(manifest.read_text(encoding="utf-8"))["run"] if manifest.is_file() else {}
    answered, failed = facts.get("answered"), facts.get("failed")
    return {
        "run_dir": str(found.run_dir) if found.run_dir.exists() else None,
        "status": found.status,
        "lines": None if answered is None else answered + failed,
        "answered": answered,
        "failed": failed,
        "score": None if found.score is None else found.score.to_json(),
        "error": None if found.error is None else {"type": type(found.error).__name__, "message": str(found.error)},
    }


def _whose_answers(run_dir: Path) -> str:
    """A line about the model, from the manifest."""
    manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
    facts, options = manifest["run"], manifest["options"]
    served = ", ".join(facts.get("served_models", {}))
    if not served:
        return "answers       none"
    source = "recorded answers of" if facts.get("endpoint_kind") == "recorded" else "live answers of"
    strategies = ", ".join(facts.get("strategies", {})) or "none"
    return f"answers       {source} {served}\nselect        by {strategies}{_unused(facts, options)}"


def _unused(facts: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Recordings that no line of a whole dataset asked for: it is not the one that was recorded."""
    found = facts.get("recordings") or {}
    if not found.get("unused") or options["limit"] or options["lines"]:
        return ""
    return f"\nrecordings    {found['used']} used, {found['unused']} not (the first: {found['first_unused'][0]})"
