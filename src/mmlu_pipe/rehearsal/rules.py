"""What the service refuses in a body by its form alone, whatever else there is in the workspace.

Sources: the patterns and enumerations of Azure/azure-rest-api-specs (`mfe.json` of 2024-10-01 and its preview);
Microsoft Learn, "CLI (v2) command component YAML schema" and "Service limits in Azure Machine Learning"; and errors
that people report, named where they are used. docs/fidelity.md tells which is which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mmlu_pipe.rehearsal.exchange import Json, Refusal

__all__ = ["NAME", "check_asset", "check_component", "check_job", "check_node"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
"""What assets and jobs can be called."""

_COMPONENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,254}")
_EXPERIMENT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}")  # microsoft/dstoolkit-mlops-v2#179
_LONGEST_DATA_VERSION = 30  # Azure/azureml-assets#295

_RESERVED_PORTS = frozenset(("path", "ld_library_path", "user", "logname", "home", "pwd", "shell"))
_DATA_TYPES = ("uri_file", "uri_folder", "mltable", "custom_model", "mlflow_model", "triton_model")
_LITERALS: Mapping[str, re.Pattern[str]] = {
    "integer": re.compile(r"[+-]?\d+"),
    "number": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "boolean": re.compile(r"(?i)true|false"),
}
_TYPES = (*_DATA_TYPES, "string", *_LITERALS)
_MODES = {
    "inputs": ("ReadOnlyMount", "ReadWriteMount", "Download", "Direct", "EvalMount", "EvalDownload"),
    "outputs": ("ReadWriteMount", "Upload", "Direct"),
}
_IDENTITIES = ("AMLToken", "Managed", "UserIdentity")

_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_PORT = re.compile(r"\$\{\{\s*(inputs|outputs)\.([^{}\s]+)\s*\}\}")


def check_asset(kind: str, name: str, version: str) -> None:
    """Refuse a name or version under which nothing can be created.

    Raises:
        Refusal: 400, with the rule.
    """
    if not NAME.fullmatch(name):
        _refuse(f"{name!r} is no name for one of the {kind}: it must match {NAME.pattern}")
    if kind == "components" and not _COMPONENT_NAME.fullmatch(name):
        _refuse(f"{name!r} is no name for a component: it must match {_COMPONENT_NAME.pattern}")
    if kind == "data" and len(version) > _LONGEST_DATA_VERSION:
        _refuse(f"Argument 'version' exceeded maximum length of {_LONGEST_DATA_VERSION} for DatasetId")


def check_component(spec: Json) -> None:
    """Refuse a command component whose ports or command cannot be.

    Raises:
        Refusal: 400, with the rule.
    """
    for ports in ("inputs", "outputs"):
        for name, port in (spec.get(ports) or {}).items():
            if name.lower() in _RESERVED_PORTS:
                _refuse(f"{name!r} is reserved and cannot be one of the {ports}")
            if port.get("type") not in _TYPES:
                _refuse(f"{name!r} of the {ports} is of no known type: {port.get('type')!r}")
    command = str(spec["command"])
    within = [found for part in _OPTIONAL.findall(command) for found in _named(spec, part)]
    for ports, name in within:
        if not _is_optional(spec, ports, name):
            _refuse(f"{ports}.{name} stands within $[[ ]], and only optional inputs can")
    for ports, name in _named(spec, _OPTIONAL.sub("", command)):
        if _is_optional(spec, ports, name):
            _refuse(f"optional input {name} must be placed in nested argument: $[[ ]]")


def check_job(job: Json) -> None:
    """Refuse a pipeline job for what it says beside its steps.

    Raises:
        Refusal: 400, with the rule.
    """
    experiment = str(job.get("experimentName") or "Default")
    if not _EXPERIMENT_NAME.fullmatch(experiment):
        _refuse(
            "Experiment name must be 1-256 characters, start with a letter or a number, and can only contain letters, "
            f"numbers, underscores, and dashes: {experiment!r}"
        )
    if len(str(job.get("displayName") or "")) > 256:
        _refuse("The display name is longer than 256 characters")
    tags = job.get("tags") or {}
    if len(tags) > 50 or any(len(key) > 100 or len(str(value)) > 1000 for key, value in tags.items()):
        _refuse("There are more than 50 tags, or a name is longer than 100 or a value than 1,000 characters")
    if strange := [key for key, value in tags.items() if not isinstance(value, str)]:
        _refuse(f"The value of the tag {strange[0]!r} is no text")
    _check_identity("job", job)
    for name, output in (job.get("outputs") or {}).items():
        if output.get("jobOutputType") not in _DATA_TYPES:
            _refuse(f"Output {name} of the job is of no known type: {output.get('jobOutputType')!r}")
        _check_mode("outputs", name, output)


def check_node(name: str, node: Json, spec: Json) -> None:
    """Refuse a step that does not fit its component.

    Args:
        name: of the step.
        node: the step as the job has it.
        spec: the componentSpec as it was sent.

    Raises:
        Refusal: 400, with the rule.
    """
    if not name.isidentifier():  # Azure/azureml-examples#1248
        _refuse(f"{name!r} is no name for a step: it must be letters, digits and underscores")
    _check_identity(f"step {name}", node)
    for ports in ("inputs", "outputs"):
        declared = spec.get(ports) or {}
        for key, binding in (node.get(ports) or {}).items():
            if key not in declared:
                _refuse(f"Step {name} has {key!r} among its {ports}, and its component has not")
            _check_mode(ports, key, binding or {})
    for key, binding in (node.get("inputs") or {}).items():
        if "value" in (binding or {}):
            _check_literal(name, key, binding["value"], str(spec["inputs"][key].get("type")))


def _check_literal(step: str, key: str, value: object, kind: str) -> None:
    if value is None or value == "":  # Azure/azure-sdk-for-python#41834
        _refuse(f"Request is invalid and/or missing fields. The Value field is required. (input {key} of step {step})")
    pattern = _LITERALS.get(kind)
    if pattern and "${{" not in str(value) and not pattern.fullmatch(str(value)):
        _refuse(f"Input {key} of step {step} must be of type {kind}, and {value!r} is not")


def _check_identity(where: str, holder: Json) -> None:
    identity = holder.get("identity") or {}
    # a step's is in snake case, a job's in camel case
    kind = identity.get("identity_type") or identity.get("identityType")
    if identity and kind not in _IDENTITIES:
        _refuse(f"The identity of {where} is none of {', '.join(_IDENTITIES)}: {kind!r}")


def _check_mode(ports: str, name: str, binding: Json) -> None:
    mode = binding.get("mode")
    if mode is not None and mode not in _MODES[ports]:
        _refuse(f"{mode!r} of {ports}.{name} is none of the modes {', '.join(_MODES[ports])}")


def _named(spec: Json, text: str) -> Iterator[tuple[str, str]]:
    """The ports that a part of a command names; each of them is declared."""
    for ports, name in _PORT.findall(text):
        if name not in (spec.get(ports) or {}):
            _refuse(f"The command names {ports}.{name}, which is not declared")
        yield ports, name


def _is_optional(spec: Json, ports: str, name: str) -> bool:
    return ports == "inputs" and str(spec["inputs"][name].get("optional", False)).lower() == "true"


def _refuse(message: str) -> None:
    raise Refusal(400, "UserError", message)
