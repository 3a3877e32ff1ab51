"""The environment of a job: an image with a Python of its own, and third-party pins; the package comes as code."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence

from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hookspecs import PROJECT
from mmlu_pipe.plugins import manager
from mmlu_pipe.records import JsonObject

__all__ = [
    "IMAGE",
    "PYTHON",
    "differing_pins",
    "environment_document",
    "job_requirements",
    "missing_plugins",
    "normalised",
]

IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20260715.v1"
"""The base image. Its Miniconda makes an environment with a Python of our choice."""
# Source: Azure/AzureML-Containers, README.md of March 2026: a supported image, until Ubuntu 22.04 is not (April 2027);
# released tags stay available. That page lists no tags any more; this one stands in public environments of July 2026,
# and Azure/azureml-assets builds on the same release of its sister images.

PYTHON = "3.11"
"""What `environments/requirements.txt` was resolved for."""

_DECIDING = ("guidance", "openai")
_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*((?:\[[^\]]*\])?\s*(?:[=<>!~;@].*)?)")


def job_requirements(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The pins of a job's packages and the further ones, as pip takes them.

    Args:
        extra: requirements such as `my-plugin==1.0`.

    Raises:
        ConfigError: one is no requirement, holds a credential, or names a pinned package in another version.
    """
    pins = _pins()
    more = []
    for text in extra:
        found = _REQUIREMENT.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                f"--extra-package {text!r}: give a package as pip takes it from an index, such as my-plugin==1.0",
                key="extra_package",
            )
        if "@" in found[2].partition("@")[2]:
            raise ConfigError(
                f"--extra-package {found[1]}: its address holds a name or password, which everybody with access to "
                "the workspace could read; use an address without one",
                key="extra_package",
            )
        pin = pins.get(normalised(found[1]))
        if pin is None:
            more.append(text.strip())
        elif found[2].replace(" ", "") not in ("", f"=={pin.partition('==')[2]}"):
            raise ConfigError(
                f"--extra-package {text!r}: a job has {pin}; leave it out, or bring an environment of your own "
                "(--environment)",
                key="extra_package",
            )
    return (*pins.values(), *more)


def environment_document(requirements: Sequence[str], *, image: str = IMAGE) -> JsonObject:
    """The environment as the SDK's YAML schema has it, without a version."""
    conda = {
        "name": PROJECT,
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": list(requirements)}],
    }
    return {
        "$schema": "https://azuremlschemas.azureedge.net/latest/environment.schema.json",
        "name": PROJECT,
        "image": image,
        "conda_file": conda,
    }


def missing_plugins(extra: Sequence[str] = ()) -> list[str]:
    """The distributions whose plugins are loaded here, and which a job would lack.

    Raises:
        ConfigError: see `job_requirements`.
    """
    there = {normalised(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]) for text in job_requirements(extra)}
    loaded = manager()
    names = {
        entry.dist.name if entry.dist is not None else entry.name
        for entry in importlib.metadata.entry_points(group=PROJECT)
        if loaded.has_plugin(entry.name)
    }
    return sorted(name for name in names if normalised(name) not in there)


def differing_pins() -> list[str]:
    """Packages that decide what is asked and are another version here than in a job, in words."""
    pins = {name: pin.partition("==")[2] for name, pin in _pins().items()}
    here = {name: importlib.metadata.version(name) for name in _DECIDING}
    return [f"{name} is {here[name]} here and {pins[name]} in a job" for name in _DECIDING if here[name] != pins[name]]


def _pins() -> dict[str, str]:
    """Normalised name → `name==version`."""
    lines = bundled_requirements().read_text(encoding="utf-8").splitlines()
    return {normalised(line.partition("==")[0]): line for line in lines if line and not line.startswith("#")}


def normalised(name: str) -> str:
    """A package's name as indexes compare it. Source: PyPA, "Names and normalization"."""
    return re.sub(r"[-_.]+", "-", name).lower()
