"""What is on this machine: the two configuration files, the packages, and which credential asks."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from mmlu_pipe.backends.azureml.environment import differing_pins
from mmlu_pipe.backends.azureml.workspace import load_workspace
from mmlu_pipe.checkup.examination import Finding, worded
from mmlu_pipe.config import load_computes, load_endpoint
from mmlu_pipe.endpoint.address import is_v1, normalise
from mmlu_pipe.endpoint.credentials import choose_credential
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint

__all__ = ["compute_names", "credential_of", "endpoint_file", "packages", "workspace_file"]

_PACKAGES = ("openai", "guidance", "azure-identity", "azure-ai-ml")


def endpoint_file(path: Path) -> Finding:
    """The deployment, normalised as it will be asked."""
    try:
        endpoint = normalise(load_endpoint(path))
    except ConfigError as error:
        where = () if str(path) in str(error) else (f"the key is in {path}",)
        return worded(error, *where)
    style = "v1 style" if is_v1(endpoint.api_version) else f"API version {endpoint.api_version}"
    found = f"{endpoint.endpoint}, deployment {endpoint.deployment}, model {endpoint.model}, {style}"
    return Finding(found, value=endpoint)


def compute_names(path: Path) -> Finding:
    """The clusters of both steps.

    Raises:
        ConfigError: the file, or a key of it, cannot be used.
    """
    computes = load_computes(path)
    return Finding(f"{computes.aoai} asks, {computes.general} scores", value=computes)


def workspace_file(path: Path) -> Finding:
    """The workspace's three names.

    Raises:
        ConfigError: the file, or a key of it, cannot be used.
    """
    config = load_workspace(path)
    return Finding(config.shown, value=config)


def packages(*, cloud: bool) -> Finding:
    """The versions here, and whether a job has the same."""
    versions = {name: _version(name) for name in _PACKAGES}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if not versions["azure-ai-ml"]:
        if cloud:
            return Finding(f"{found}; azure-ai-ml is missing", 'pip install "mmlu-pipe[azureml]"', "failed")
        return Finding(f"{found}; azure-ai-ml is not installed, only the cloud needs it")
    if differing := differing_pins():
        advice = "install them as constraints.txt has them, or submit with --environment"
        return Finding(f"{found}; {', '.join(differing)}", advice, "warning")
    return Finding(f"{found}; guidance and openai are those of a job")


def credential_of(endpoint: Endpoint, auth: str) -> Finding:
    """Who asks the deployment from this machine.

    Raises:
        AuthenticationFailed: `key` is asked for, and there is none that can be used.
    """
    credential = choose_credential(endpoint, auth)
    return Finding(f"--auth {auth}: {credential.shown}", value=credential)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
