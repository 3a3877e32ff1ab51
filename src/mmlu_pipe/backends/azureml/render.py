"""A pipeline and the options of a run → everything that is sent. Offline, and without the SDK."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mmlu_pipe import __version__
from mmlu_pipe.backends.azureml.documents import bound_input, component_document, data_document
from mmlu_pipe.backends.azureml.environment import environment_document, job_requirements
from mmlu_pipe.backends.azureml.references import environment_reference, published_components
from mmlu_pipe.backends.azureml.snapshot import snapshot_hash
from mmlu_pipe.backends.azureml.submission import Asset, BoundFile, Submission, output_uri
from mmlu_pipe.components.component import Component
from mmlu_pipe.config import IDENTITIES, Computes, RunConfig
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import sha256_file, sha256_json
from mmlu_pipe.pipeline import OutputOf, Pipeline, Step, service_name
from mmlu_pipe.records import JsonObject

__all__ = ["component_assets", "data_asset", "environment_asset", "new_job_name", "submission", "versions"]

SERVERLESS = "serverless"
_ASKS = "azure_openai_endpoint"
"""The input by which a step that asks the deployment is known."""


def new_job_name() -> str:
    """A name that no other job has."""
    return f"mmlu_{datetime.now().astimezone():%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"


def submission(pipeline: Pipeline, config: RunConfig, computes: Computes, job_name: str) -> Submission:
    """What is sent for one run.

    Args:
        pipeline: the two steps, with files of this machine.
        config: the options of the run.
        computes: where the steps run.
        job_name: of the job; the places of its outputs hold it.

    Raises:
        ConfigError: an option cannot be sent.
    """
    version = versions(config.version_scheme)
    assets: list[Asset] = []
    uses: list[str] = []
    files: dict[Path, BoundFile] = {}
    for step in pipeline.steps:
        for port in step.component.ports:
            value = step.inputs.get(port.name)
            if isinstance(value, Path) and value not in files:
                reference = _registered_dataset(value, config.data_dir)
                if reference is None:
                    made = data_asset(value, version, prefix="" if port.name.endswith("_dataset") else f"{port.name}_")
                    _refuse_one_version_of_two(made, value, files)
                    assets.append(made)
                    files[value] = BoundFile(value, made.sha256, made.reference)
                else:
                    uses.append(reference)
                    files[value] = BoundFile(value, sha256_file(value), reference)
    components, to_make, to_find = _components(pipeline, config, version)
    assets += to_make
    uses += to_find
    references = {path: file.reference for path, file in files.items()}
    job = _job(pipeline, config, computes, job_name, components, references)
    own = tuple(dict.fromkeys(name for name in (computes.aoai, computes.general) if name != SERVERLESS))
    outputs = {name: str(output["path"]) for name, output in job["outputs"].items()}
    return Submission(job_name, pipeline.name, tuple(assets), tuple(uses), own, job, outputs, tuple(files.values()))


def _refuse_one_version_of_two(made: Asset, path: Path, files: Mapping[Path, BoundFile]) -> None:
    for other, file in files.items():
        if file.reference == made.reference and file.sha256 != made.sha256:
            raise ConfigError(
                f"{other} and {path} have one name, and versions of the second would make them one asset; rename one "
                "of them, or leave out --version-scheme",
                key="version_scheme",
            )


def _components(
    pipeline: Pipeline, config: RunConfig, version: Callable[[str], str]
) -> tuple[dict[str, str], list[Asset], list[str]]:
    """Name → reference of the steps' components, with the assets to make and the references to find for them."""
    if config.components is not None:
        if config.environment is not None or config.extra_package:
            raise ConfigError(
                "--components have an environment of their own: leave out --environment and --extra-package",
                key="components",
            )
        registry, published = published_components(config.components)
        there = {
            step.component.name: f"azureml://registries/{registry}/components/{step.component.name}/versions/{published}"
            for step in pipeline.steps
        }
        return there, [], list(there.values())
    if config.environment is None:
        environment = environment_asset(config.extra_package, version)
        made, used, reference = [environment], [], environment.reference
    elif config.extra_package:
        raise ConfigError(
            "--extra-package goes into an environment that is made; leave out --environment", key="environment"
        )
    else:
        reference = environment_reference(config.environment)
        made, used = [], [reference]
    own = component_assets([step.component for step in pipeline.steps], reference, version)
    return {asset.name: asset.reference for asset in own}, [*made, *own], used


def data_asset(path: Path, version: Callable[[str], str], *, prefix: str = "") -> Asset:
    """A file as a data asset of its name, with something before it if asked."""
    digest = sha256_file(path)
    name = service_name(prefix + path.stem)
    own = version(digest)
    document = data_document(name, version=own, path=path, tags={"sha256": digest})
    return Asset("data", name, own, digest, document, source=path)


def environment_asset(extra_packages: tuple[str, ...], version: Callable[[str], str]) -> Asset:
    """The environment that holds what the components need."""
    document = environment_document(job_requirements(extra_packages))
    digest = sha256_json(document)
    own = version(digest)
    tags = {"sha256": digest, "mmlu_pipe": __version__}
    return Asset("environment", document["name"], own, digest, document | {"version": own, "tags": tags})


def component_assets(components: list[Component], environment: str, version: Callable[[str], str]) -> list[Asset]:
    """The command components, each with the package as its code."""
    code = snapshot_hash()
    found = []
    for component in dict.fromkeys(components):
        plain = component_document(component, version="", environment=environment, tags={})
        digest = sha256_json([plain, code])
        own = version(digest)
        tags = {"sha256": digest, "mmlu_pipe": __version__}
        document = component_document(component, version=own, environment=environment, tags=tags)
        found.append(Asset("component", component.name, own, digest, document, code=True))
    return found


def versions(scheme: str) -> Callable[[str], str]:
    """Digest → version: the digest's beginning, or the second of the submission."""
    second = str(int(time.time()))
    return (lambda digest: second) if scheme == "epoch" else (lambda digest: digest[:16])


def _registered_dataset(path: Path, data_dir: Path) -> str | None:
    """The reference of a dataset that was fetched from the workspace to `<data_dir>/assets/NAME/VERSION/`."""
    try:
        parts = path.resolve().relative_to((data_dir / "assets").resolve()).parts
    except ValueError:
        return None
    return f"azureml:{parts[0]}:{parts[1]}" if len(parts) == 3 else None


def _job(
    pipeline: Pipeline,
    config: RunConfig,
    computes: Computes,
    job_name: str,
    components: dict[str, str],
    references: dict[Path, str],
) -> JsonObject:
    steps: JsonObject = {}
    outputs: JsonObject = {}
    serverless = False
    for step in pipeline.steps:
        asks = any(port.name == _ASKS for port in step.component.ports)
        node: JsonObject = {"type": "command", "component": components[step.component.name]}
        compute = computes.aoai if asks else computes.general
        if compute == SERVERLESS:
            serverless = True
        else:
            node["compute"] = f"azureml:{compute}"
        values = dict(step.inputs)
        if asks:
            node["identity"] = _identity(config.identity)
            values |= _cloud_values(config)
        node["inputs"] = _inputs(step, values, references)
        node["outputs"] = {}
        for port in step.component.ports:
            if port.direction == "output" and not port.local:
                place = output_uri(job_name, port.name, port.file_name)
                outputs[port.name] = {"type": port.type, "mode": "rw_mount", "path": place}
                node["outputs"][port.name] = f"${{{{parent.outputs.{port.name}}}}}"
        steps[step.name] = node
    job: JsonObject = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json",
        "type": "pipeline",
        "name": job_name,
        "experiment_name": pipeline.name,
        "display_name": f"{pipeline.name} with {service_name(Path(config.guidance_program).stem)}"[:256],
        "tags": {"mmlu_pipe": __version__, "gate": "verified" if config.gate else "skipped"},
        "outputs": outputs,
        "jobs": steps,
    }
    if serverless:
        job["settings"] = {"default_compute": f"azureml:{SERVERLESS}"}
    return job


def _inputs(step: Step, values: JsonObject, references: dict[Path, str]) -> JsonObject:
    found: JsonObject = {}
    for port in step.component.ports:
        value: Any = values.get(port.name)
        if port.direction == "output" or value is None:
            continue
        if not isinstance(value, Path | dict | OutputOf):
            port.check(value)
        try:
            found[port.name] = value if isinstance(value, dict) else bound_input(step, port, value, references)
        except ValueError as error:
            raise ConfigError(str(error), key=port.name) from error
    return found


def _cloud_values(config: RunConfig) -> JsonObject:
    """What a step is told in a job, and not on this machine."""
    values: JsonObject = {"auth": config.identity if config.identity in IDENTITIES else "managed"}
    if config.identity not in IDENTITIES:
        values["identity_client_id"] = config.identity
    if config.resume_from is not None:
        values["resume_from"] = {"type": "uri_folder", "path": output_uri(config.resume_from, "checkpoints", None)}
    return values


def _identity(identity: str) -> JsonObject:
    """As whom a step runs, in the schema of CLI v2."""
    if identity == "user":
        return {"type": "user_identity"}
    return {"type": "managed"} | ({} if identity in IDENTITIES else {"client_id": identity})
