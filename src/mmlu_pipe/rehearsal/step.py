"""One step of a pipeline job on a node of its own: staged, run, and put away."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from mmlu_pipe.rehearsal.bindings import BindingError, parent_output, render, resolve
from mmlu_pipe.rehearsal.datastores import Place
from mmlu_pipe.rehearsal.exchange import Json, Refusal
from mmlu_pipe.rehearsal.process import RunningStep, StepProcess
from mmlu_pipe.rehearsal.runs import Output, Run
from mmlu_pipe.rehearsal.site import Site, artifact_prefix, binding_text, default_output
from mmlu_pipe.rehearsal.tracking import tracking_environment
from mmlu_pipe.rehearsal.workspace import ARTIFACT_STORE, BLOB_STORE

__all__ = ["Step"]

LOG = "user_logs/std_log.txt"
_BUILD_LOG = "azureml-logs/20_image_build_log.txt"

_DATA_TYPES = ("uri_file", "uri_folder")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class Step:
    """One step.

    Args:
        site: where it runs.
        run: its state.
        node: the step as the pipeline job has it.
        values: expression → value, of all that its bindings may name.
        parent_outputs: the outputs of the pipeline job.
    """

    def __init__(
        self, site: Site, run: Run, node: Json, values: Mapping[str, str | None], parent_outputs: Json
    ) -> None:
        self._site, self._run, self._node = site, run, node
        self._values, self._parent_outputs = values, parent_outputs
        self._spec: Json = {}
        self._places: dict[str, tuple[Place, str, str]] = {}  # output → place, URI, type

    def execute(self) -> None:
        """Run it to a final status."""
        run = self._run
        run.enter("Queued")
        run.outputs["default"] = default_output(self._site, run)
        with tempfile.TemporaryDirectory(prefix="twin-step-", ignore_cleanup_errors=True) as folder:
            log = Path(folder, "std_log.txt")
            log.touch()
            try:
                self._spec = self._site.assets.received("components", str(self._node["componentId"]))["componentSpec"]
                if not self._build_image():
                    return
                self._place_outputs()
                attempt = 0
                while True:
                    attempt += 1
                    node = Path(folder, f"node-{attempt}")
                    code, preempted = self._attempt(node, log, attempt)
                    if not preempted:
                        break
                    shutil.rmtree(node, ignore_errors=True)
                self._end(code)
            except (BindingError, FileNotFoundError, Refusal) as error:
                message = str(error)
                self._site.publish(run, LOG, f"{message}\n".encode())
                run.fail("UserError", message, "CommonRuntime")

    def _build_image(self) -> bool:
        """Whether the image of the environment is there; if not, the step has failed."""
        reference = str(self._spec.get("environment"))
        name = re.sub(r"^.*/environments/|^azureml:", "", reference).partition("/")[0].partition(":")[0]
        log = self._site.broken_images.get(name)
        if log is not None:
            self._run.enter("Preparing")
            self._site.publish(self._run, _BUILD_LOG, log.encode())
            message = f"Image build failed. For more details, check log file {_BUILD_LOG}."
            self._run.fail("UserError", message, "EnvironmentManagement")
        return log is None

    def _attempt(self, node: Path, log: Path, attempt: int) -> tuple[int, bool]:
        """One try on one node; returns the exit code, and whether the node was taken away."""
        run = self._run
        run.enter("Preparing")
        code = node / "code"
        code.mkdir(parents=True)
        if reference := self._spec.get("code"):
            snapshot = self._site.assets.received("codes", str(reference))["codeUri"]
            self._site.stores.read(self._site.stores.place(snapshot), code)
        values = self._stage(node)
        outputs = self._make_outputs(node)
        values |= {f"outputs.{name}": str(path) for name, path in outputs.items()}
        command = run.command = render(str(self._spec["command"]), values)
        for name in ("home", "tmp", "bin"):
            (node / name).mkdir()
        for name in ("python", "python3"):  # a link would lose the virtual environment
            script = node / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(self._site.interpreter))} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        if run.cancelled.is_set():
            return 143, False
        preempted, ended = threading.Event(), threading.Event()
        process = StepProcess(
            command, code, self._environment(node, values), log, lambda content: self._site.publish(run, LOG, content)
        )
        run.enter("Running")
        if self._site.drill:
            step = RunningStep(run.display_name, attempt, code, outputs, process, log, preempted, ended)
            threading.Thread(target=self._site.drill, args=(step,), name="twin-drill", daemon=True).start()
        exit_code = process.wait(run.cancelled, self._site.grace_s)
        ended.set()
        run.enter("Finalizing")
        for name, path in outputs.items():
            lost = preempted.is_set() and self._mode(name) == "upload"  # it would have been uploaded at the end
            if path.exists() and not lost:
                self._site.stores.write(path, self._places[name][0])
        artifacts = self._site.stores.place(self._site.long_uri(ARTIFACT_STORE, artifact_prefix(run)))
        for name in ("outputs", "logs"):
            if (code / name).is_dir():
                self._site.stores.write(code / name, Place(artifacts.container, artifacts.prefix + name))
        return exit_code, preempted.is_set() and not run.cancelled.is_set()

    def _end(self, exit_code: int) -> None:
        run = self._run
        if run.cancelled.is_set():
            run.enter("Canceled")
            return
        if exit_code:
            run.fail(
                "UserError",
                f"Execution failed. User process '/bin/bash' exited with status code {exit_code}. "
                f"Please check log file '{LOG}' for error details.",
                "CommonRuntime",
            )
            return
        for name, (_, uri, data_type) in self._places.items():
            asset = self._site.assets.put_resolved_data(f"azureml_{run.name}_output_data_{name}", uri, data_type)
            run.outputs[name] = Output(asset, uri, data_type)
        run.enter("Completed")

    # Inputs and outputs

    def _stage(self, node: Path) -> dict[str, str | None]:
        """Bring all inputs onto the node; `inputs.<name>` → literal or local path."""
        staged: dict[str, str | None] = {}
        for name, port in (self._spec.get("inputs") or {}).items():
            text = binding_text((self._node.get("inputs") or {}).get(name))
            value = resolve(text, self._values) if text is not None else None
            if value is None and port.get("default") is not None:
                value = str(port["default"])
            if value is None and str(port.get("optional", False)).lower() != "true":
                raise BindingError(f"the input {name} has no value, and is not optional")
            if value is not None and port.get("type") in _DATA_TYPES:
                value = str(self._fetch(name, value, node / "inputs" / name, str(port["type"])))
            staged[f"inputs.{name}"] = value
        return staged

    def _fetch(self, name: str, reference: str, folder: Path, data_type: str) -> Path:
        uri = reference
        if not reference.startswith(("azureml://datastores/", "https://")) and "/datastores/" not in reference:
            uri = str(self._site.assets.received("data", reference)["dataUri"])
        try:
            found = self._site.stores.read(self._site.stores.place(uri), folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the input {name} cannot be read: {error}") from error
        return found[0] if data_type == "uri_file" else folder

    def _place_outputs(self) -> None:
        """Decide where every output goes: the job's word, or the service's own path."""
        for name, port in (self._spec.get("outputs") or {}).items():
            text = binding_text((self._node.get("outputs") or {}).get(name))
            if bound := parent_output(text):
                text = binding_text(self._parent_outputs.get(bound))
            own = f"azureml://datastores/{BLOB_STORE}/paths/azureml/${{{{name}}}}/{name}"
            is_file = port.get("type") == "uri_file"
            known = {"name": self._run.name, "output_name": name, "default_datastore": BLOB_STORE}
            uri = str(resolve(text or (own if is_file else own + "/"), {**self._values, **known}))
            place = self._site.stores.place(uri)
            if uri.startswith("azureml://datastores/"):
                uri = f"azureml://{self._site.workspace.short_id}/{uri.removeprefix('azureml://')}"
            self._places[name] = (place, uri, str(port.get("type")))

    def _mode(self, name: str) -> str:
        """How an output is written: `upload` at the end, or `readwritemount` as it is written."""
        asked = ((self._node.get("outputs") or {}).get(name) or {}).get("mode")
        bound = parent_output(binding_text((self._node.get("outputs") or {}).get(name)))
        return str(asked or (self._parent_outputs.get(bound or "") or {}).get("mode") or "ReadWriteMount").lower()

    def _make_outputs(self, node: Path) -> dict[str, Path]:
        """An empty place for every output, or what an earlier node wrote there."""
        made = {}
        for name, (place, _, data_type) in self._places.items():
            made[name] = node / "outputs" / name
            made[name].parent.mkdir(parents=True, exist_ok=True)
            if data_type != "uri_file":
                made[name].mkdir()
            self._site.stores.restore(place, made[name], is_file=data_type == "uri_file")
        return made

    def _environment(self, node: Path, values: Mapping[str, str | None]) -> dict[str, str]:
        """All variables of the process: what AzureML gives, what the job asks for, what the caller lists."""
        run, workspace = self._run, self._site.workspace
        identity = self._node.get("identity") or run.root.properties.get("identity") or {}
        kind = str(identity.get("identity_type") or identity.get("identityType"))
        given = {
            "PATH": f"{node / 'bin'}:{self._site.interpreter.parent}:{_SYSTEM_PATH}",
            "HOME": str(node / "home"),
            "TMPDIR": str(node / "tmp"),
            "LANG": "C.UTF-8",
            "AZUREML_RUN_ID": run.name,
            "AZUREML_ROOT_RUN_ID": run.root.name,
            "AZUREML_EXPERIMENT_NAME": str(run.properties["experimentName"]),
            "AZUREML_ARM_SUBSCRIPTION": workspace.subscription_id,
            "AZUREML_ARM_RESOURCEGROUP": workspace.resource_group,
            "AZUREML_ARM_WORKSPACE_NAME": workspace.name,
            "AZUREML_WORKSPACE_ID": workspace.workspace_id,
            "AZUREML_SERVICE_ENDPOINT": f"https://{workspace.api_host}",
            "AZUREML_NODE_COUNT": "1",
        }
        for key, value in values.items():
            kind_of_port, _, name = key.partition(".")
            if value is not None and self._is_data(kind_of_port, name):
                given[f"AZURE_ML_{kind_of_port[:-1].upper()}_{name}"] = value
        own = self._spec.get("environment_variables") or {}
        asked = self._node.get("environment_variables") or self._node.get("environmentVariables") or {}
        return {
            **given,
            **self._site.identity.job_environment(self._site.port, on_behalf_of=kind == "UserIdentity"),
            **self._site.network,
            **{str(name): str(value) for name, value in {**own, **asked}.items()},
            **tracking_environment(workspace, self._site.identity, run),
            **self._site.environment,
        }

    def _is_data(self, ports: str, name: str) -> bool:
        return ((self._spec.get(ports) or {}).get(name) or {}).get("type") in _DATA_TYPES
