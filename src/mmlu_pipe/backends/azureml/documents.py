"""The YAML documents of AzureML's CLI v2 schema: a component's, a data asset's and a pipeline job's. Pure.

Sources: the schema references "CLI (v2) command component", "pipeline job", "data" and "Expression syntax" of the
Azure Machine Learning documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmlu_pipe.components.component import Component, Port
from mmlu_pipe.pipeline import OutputOf, Step, service_name
from mmlu_pipe.records import JsonObject

__all__ = ["bound_input", "command_line", "component_document", "data_document"]

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/{}.schema.json"


def command_line(component: Component) -> str:
    """The command of a component, with the expressions that the service replaces by values.

    Values enter as plain text, so each expression stands in single quotes; those of optional inputs disappear without
    a value.
    """
    parts = [f"python -m {component.module}"]
    for port in _ports(component):
        argument = f"--{port.name}='${{{{{port.direction}s.{port.name}}}}}'"
        parts.append(f"$[[{argument}]]" if port.optional and port.direction == "input" else argument)
    return " ".join(parts)


def component_document(
    component: Component, *, version: str, environment: str, tags: Mapping[str, str], code: str = "./code"
) -> JsonObject:
    """A command component.

    Args:
        component: the declaration.
        version: its version in the workspace.
        environment: exact reference of the environment.
        tags: kept with it.
        code: folder whose only entry is the package, relative to the document.
    """
    ports = _ports(component)
    return {
        "$schema": _SCHEMA.format("commandComponent"),
        "type": "command",
        "name": component.name,
        "version": version,
        "display_name": component.display_name,
        "description": component.description,
        "tags": dict(tags),
        "is_deterministic": component.deterministic,
        "inputs": {port.name: _input(port) for port in ports if port.direction == "input"},
        "outputs": {
            port.name: {"type": port.type, "description": port.description}
            for port in ports
            if port.direction == "output"
        },
        "code": code,
        "environment": environment,
        "command": command_line(component),
    }


def data_document(name: str, *, version: str, path: Path, tags: Mapping[str, str]) -> JsonObject:
    """A data asset of one file, which lies in the folder `data` beside the document.

    Its name there is what the job sees and a command line holds; of the file's own, what fits into one is left.
    """
    suffix = path.suffix and f".{service_name(path.suffix)}"
    return {
        "$schema": _SCHEMA.format("data"),
        "type": "uri_file",
        "name": name,
        "version": version,
        "path": f"./data/{service_name(path.stem)}{suffix}",
        "tags": dict(tags),
    }


def bound_input(step: Step, port: Port, value: Any, references: Mapping[Path, str]) -> Any:
    """What a job's step binds an input to: a literal, an asset or an earlier step's output.

    Args:
        step: the step.
        port: the input.
        value: what the pipeline binds it to.
        references: local file → the reference under which the job finds it.

    Raises:
        ValueError: an empty text, which the service takes for none, or one that no command line in single quotes holds.
    """
    if isinstance(value, OutputOf):
        return f"${{{{parent.jobs.{value.step}.outputs.{value.port}}}}}"
    if isinstance(value, Path):
        return {"type": port.type, "path": references[value], "mode": "download"}
    if value == "":
        raise ValueError(f"{step.name}: {port.name} is empty, and a job takes no empty text; leave it out")
    if isinstance(value, str) and any(letter in value for letter in "'\n\r\0"):
        raise ValueError(f"{step.name}: {port.name} holds a quote or a line break, which no command line can carry")
    return value


def _ports(component: Component) -> list[Port]:
    return [port for port in component.ports if not port.local]


def _input(port: Port) -> JsonObject:
    document: JsonObject = {"type": port.type, "description": port.description}
    if port.optional:
        document["optional"] = True
    elif port.default is not None:
        document["default"] = port.default
    return document
