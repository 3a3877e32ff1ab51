"""The story of a rehearsal: on this machine, through the gate, as a job of the twin, once more, and the comparison."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mmlu_pipe.backends.azureml.environment import job_requirements
from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.config import IDENTITIES, RunConfig
from mmlu_pipe.endpoint.credentials import token_scope
from mmlu_pipe.errors import BackendError, BackendNotInstalled, MmluPipeError, RunFolderError
from mmlu_pipe.pipeline import service_name
from mmlu_pipe.proving.evidence import proofs
from mmlu_pipe.proving.processes import StageFailed, run_command
from mmlu_pipe.proving.result import Rehearsal, Stage
from mmlu_pipe.proving.seen import Seen, kinds_of
from mmlu_pipe.proving.subject import Subject, prepare
from mmlu_pipe.recording.server import ReplayServer
from mmlu_pipe.rehearsal.workspace import CredentialKind, Workspace

__all__ = ["Story", "rehearse"]

_log = logging.getLogger("mmlu_pipe.proving")


def rehearse(config: RunConfig, *, credential_kind: CredentialKind = "Sas", keep: Path | None = None) -> Rehearsal:
    """Rehearse the submission of a run to AzureML, from end to end on this machine and on recordings.

    Args:
        config: the options of the run; by default the bundled sample on its recordings.
        credential_kind: how the datastores of the workspace let clients in: `Sas`, `AccountKey` or `None` (the
            client's Entra token).
        keep: new or empty folder in which everything is kept for reading; None keeps nothing.

    Returns:
        What was proven, also where something was not.

    Raises:
        BackendNotInstalled: an extra or Azurite is missing; the message has the command.
        BackendError: this is no POSIX machine, or what a rehearsal runs on does not start.
        MmluPipeError: the options are refused; nothing was started.
    """
    workspace = Workspace(credential_kind=credential_kind)  # refuses an unknown kind before anything starts
    with ExitStack() as stack:
        folder = _empty(keep) if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmlu-pipe-")))
        _require_parts()
        subject = prepare(config, folder)
        seen = Seen(subject, folder, canary=secrets.token_hex(20))
        story = Story(seen, stack)
        with suppress(StageFailed):  # it is among the stages
            story.tell(workspace)
        found = proofs(seen)
        if keep and seen.twin is not None:
            _keep(seen)
        return Rehearsal(
            experiment=service_name(f"simple_{subject.dataset.stem}"),
            model=subject.endpoint.model,
            credential_kind=credential_kind,
            stages=tuple(story.stages),
            proofs=tuple(found),
            requests=kinds_of(seen.twin.requests) if seen.twin is not None else {},
            kept=folder if keep else None,
        )


class Story:
    """The stages, timed; what they start ends with the stack."""

    def __init__(self, seen: Seen, stack: ExitStack) -> None:
        self._seen, self._stack = seen, stack
        self.stages: list[Stage] = []

    def tell(self, workspace: Workspace) -> None:
        """All stages in order.

        Raises:
            StageFailed: one did not reach its end; it is noted.
        """
        seen, subject = self._seen, self._seen.subject
        folder = seen.folder
        with self._stage("local run"):
            run_command([*subject.local, f"--output-dir={seen.local}"], folder / "local_run.log")
        if subject.config.gate:
            with self._stage("gate"):
                seen.verification = run_command(subject.gate, folder / "gate.log")
        with self._stage("environment"):
            seen.interpreter = _interpreter(subject, folder)
        with self._stage("twin"):
            self._start(workspace)
        assert seen.twin is not None
        assert seen.door is not None
        with self._stage("submission"):
            try:
                self._submit("job", "--wait")
                seen.first = len(seen.twin.requests)
            finally:
                seen.asked = seen.door.counts
        with self._stage("submitted again"):
            self._submit("again", "--no-wait")
        for job in seen.jobs():  # the second one has nothing to show by going on
            job.cancel()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        error: str | None = None
        try:
            yield
        except (StageFailed, MmluPipeError) as failure:
            error = str(failure)
            raise StageFailed(error) from failure
        finally:
            seconds = time.monotonic() - started
            self.stages.append(Stage(name, round(seconds, 3), error))
            _log.info("%-16s %6.1f s%s", name, seconds, f"  failed: {error}" if error else "")

    def _start(self, workspace: Workspace) -> None:
        from mmlu_pipe.rehearsal import Azurite, Twin

        seen, subject = self._seen, self._seen.subject
        endpoint, config = subject.endpoint, subject.config
        scope, _authority = token_scope(endpoint)
        seen.door = self._stack.enter_context(
            ReplayServer(
                subject.cassette,
                deployment=endpoint.deployment,
                model=endpoint.model,
                audience=scope.removesuffix("/.default"),
            )
        )
        clusters = tuple(dict.fromkeys((subject.computes.aoai, subject.computes.general)))
        seen.storage = self._stack.enter_context(Azurite())
        assert seen.interpreter is not None
        twin = Twin(
            seen.interpreter,
            workspace=dataclasses.replace(workspace, computes=clusters),
            storage=seen.storage,
            doors={subject.host: seen.door.port},
            managed_identities=() if config.identity in IDENTITIES else (config.identity,),
        )
        seen.twin = self._stack.enter_context(twin)
        seen.workspace_config.write_text(json.dumps(twin.config()) + "\n", encoding="utf-8")

    def _submit(self, name: str, *more: str) -> None:
        """Submit by a process that has a key of its own, which no job may ever get."""
        seen = self._seen
        assert seen.twin is not None
        places = (f"--workspace-config={seen.workspace_config}", f"--output-dir={seen.folder / name}")
        run_command(
            [*seen.subject.cloud, *places, *more],
            seen.folder / f"{name}.log",
            seen.twin.environment() | {"AZURE_OPENAI_API_KEY": seen.canary},
        )


def _interpreter(subject: Subject, folder: Path) -> Path:
    from mmlu_pipe.rehearsal.interpreter import job_interpreter

    requirements = bundled_requirements()
    if subject.config.extra_package:
        lines = job_requirements(subject.config.extra_package)
        requirements = folder / "requirements.txt"
        requirements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return job_interpreter(requirements)


def _require_parts() -> None:
    """What a rehearsal runs on, asked for before anything starts."""
    if sys.platform == "win32":
        raise BackendError("a rehearsal runs the steps under bash, as AzureML does; use WSL or a Linux machine")
    for extra, module in (("azureml", "azure.ai"), ("rehearse", "trustme")):
        if not _is_installed(module):
            raise BackendNotInstalled(
                "a rehearsal needs the SDK, and a certificate authority for the occasion; install them with: pip "
                "install 'mmlu-pipe[azureml,rehearse]'",
                extra=extra,
            )
    from mmlu_pipe.rehearsal.node import INSTALL_COMMAND, azurite_main

    if azurite_main() is None:
        raise BackendNotInstalled(
            f"a rehearsal needs Azurite for its blob storage, and it is not installed; install it once with: "
            f"{INSTALL_COMMAND}",
            extra="rehearse",
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _empty(folder: Path) -> Path:
    """A folder that holds nothing yet.

    Raises:
        RunFolderError: it holds something, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunFolderError(f"{folder}: holds other files; give --keep a new or empty folder", path=folder)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made ({error.strerror})", path=folder) from error
    return folder.absolute()


def _keep(seen: Seen) -> None:
    """Write down what was sent, and what the steps said."""
    assert seen.twin is not None
    with (seen.folder / "requests.jsonl").open("w", encoding="utf-8") as handle:
        for request in seen.twin.requests:
            handle.write(json.dumps(vars(request), ensure_ascii=False) + "\n")
    for name, content in seen.step_logs().items():
        (seen.folder / f"step_{name}.log").write_bytes(content)
