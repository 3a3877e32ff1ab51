"""`mmlu-pipe status`, `mmlu-pipe fetch` and `mmlu-pipe cancel`: what became of a job, from anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.cli.options import FILE, FOLDER
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient
    from mmlu_pipe.backends.azureml.history import JobState
    from mmlu_pipe.records import JsonObject

__all__ = ["cancel", "fetch", "status"]


def _job_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        click.option(
            "--workspace-config",
            type=FILE,
            default=RunConfig.workspace_config,
            show_default=True,
            help="AzureML config.json.",
        ),
        click.argument("job"),
    ):
        command = option(command)
    return command


@click.command()
@_job_options
def status(job: str, workspace_config: Path, as_json: bool) -> int:
    """Show how JOB stands: a job's name, or the run folder of one."""
    from mmlu_pipe.backends.azureml.history import RunHistory
    from mmlu_pipe.backends.azureml.watch import log_tail

    with _connected(workspace_config, job) as (client, name), RunHistory(client) as history:
        state = history.state(name)
        telling = [step for step in state.steps if step.status == "failed" or step.service_status == "Running"]
        logs = {step.name: log_tail(history, step) for step in telling}
    _show(state, logs, as_json=as_json)
    return 0 if state.status in ("running", "completed") else 1


@click.command()
@_job_options
@click.option("--output-dir", type=FOLDER, help="Run folder to make, for a job given by name.  [default: runs/JOB]")
@click.option("--wait", is_flag=True, help="Wait until it has ended.")
def fetch(job: str, workspace_config: Path, output_dir: Path | None, wait: bool, as_json: bool) -> int:
    """Bring the outputs of JOB into its run folder: a job's name, or that folder."""
    from mmlu_pipe.backends.azureml.client import connect
    from mmlu_pipe.backends.azureml.run import reopen
    from mmlu_pipe.backends.azureml.workspace import load_workspace
    from mmlu_pipe.cli.result import tell_result

    with connect(load_workspace(workspace_config)) as client:
        found = reopen(client, job, output_dir)
        try:
            (found.wait if wait else found.fetch)()
        except MmluPipeError as error:
            if found.error is not error:  # nothing came of it: there is no job, it goes on, or nobody answers
                raise
        return tell_result(found, title=f"job {found.job_name}", as_json=as_json)


@click.command()
@_job_options
def cancel(job: str, workspace_config: Path, as_json: bool) -> int:
    """End JOB: a job's name, or the run folder of one. What it had finished is kept."""
    from mmlu_pipe.backends.azureml.resuming import resume_advice
    from mmlu_pipe.backends.azureml.run import cancel as cancel_job

    with _connected(workspace_config, job) as (client, name):
        state = cancel_job(client, name)
        advice = resume_advice(client, state) if state.status == "cancelled" else None
    _show(state, {}, as_json=as_json)
    if advice is not None and not as_json:
        click.echo(advice)
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The commands come with the package."""
    for command in (status, fetch, cancel):
        register(str(command.name), command)


@contextlib.contextmanager
def _connected(workspace_config: Path, job: str) -> Iterator[tuple[WorkspaceClient, str]]:
    """The workspace, and the job's name."""
    from mmlu_pipe.backends.azureml.client import connect
    from mmlu_pipe.backends.azureml.run import job_of
    from mmlu_pipe.backends.azureml.workspace import load_workspace

    config = load_workspace(workspace_config)
    name, _ = job_of(config, job)
    with connect(config) as client:
        yield client, name


def _show(state: JobState, logs: dict[str, list[str]], *, as_json: bool) -> None:
    from mmlu_pipe.backends.azureml.failures import scrubbed
    from mmlu_pipe.cli.root import print_json

    errors = {step.run_id: step.error and scrubbed(step.error) for step in state.steps}
    error = state.error and scrubbed(state.error)
    if as_json:
        steps: list[JsonObject] = [
            {
                "name": step.name,
                "status": step.status,
                "service_status": step.service_status,
                "error": errors[step.run_id],
            }
            for step in state.steps
        ]
        for told in steps:
            told["log"] = logs.get(told["name"])
        found = {"job": state.name, "status": state.status, "service_status": state.service_status, "steps": steps}
        print_json(found | {"error": error, "studio_url": state.studio_url})
        return
    click.echo(f"job           {state.name}")
    click.echo(f"experiment    {state.resource.get('experimentName')}")
    click.echo(f"state         {state.service_status}")
    for step in state.steps:
        click.echo(f"step          {step.name}: {step.service_status}")
        if errors[step.run_id]:
            click.echo(f"              {errors[step.run_id]}")
    if error and not any(errors.values()):
        click.echo(f"error         {error}")
    for name, lines in logs.items():
        if lines:
            click.echo(f"end of the log of {name}")
            click.echo("".join(f"  | {line}\n" for line in lines), nl=False)
    if state.studio_url:
        click.echo(f"studio        {state.studio_url}")
