"""Environment and components in an AzureML Registry, under a version that people choose."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlu_pipe.backends.azureml.client import connect_registry
from mmlu_pipe.backends.azureml.register import register_asset
from mmlu_pipe.backends.azureml.render import component_assets, environment_asset
from mmlu_pipe.components.component import Component
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.plugins import registry as plugged

__all__ = ["Published", "publish"]

_COMPONENTS = ("jsonl_guidance_aoai", "jsonl_score_multiplechoice")
_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z.-]*[0-9A-Za-z])?")
"""Semantic versions, without build metadata: AzureML takes no plus sign."""


@dataclass(frozen=True)
class Published:
    """What a registry has now.

    Attributes:
        registry: its name.
        version: the version of all three.
        created: references of what was published now.
        reused: references of what was there already, with this content.
        components: the value for `--components`.
    """

    registry: str
    version: str
    created: tuple[str, ...]
    reused: tuple[str, ...]
    components: str


def publish(registry: str, version: str, *, extra_packages: Sequence[str] = ()) -> Published:
    """Put the environment and both components into a registry; what is there with this content stays as it is.

    Args:
        registry: its name.
        version: a semantic version, such as `1.2.0`.
        extra_packages: further packages for the environment, such as `my-plugin==1.0`.

    Raises:
        ConfigError: the version is no semantic version, or a package is none.
        WorkspaceRejected: there is no such registry, or it has this version with other content.
        AuthenticationFailed, WorkspaceUnavailable: it cannot be asked.
    """
    if not _VERSION.fullmatch(version):
        raise ConfigError(f"--version {version!r}: give a semantic version, such as 1.2.0", key="version")
    root = f"azureml://registries/{registry}"
    environment = environment_asset(tuple(extra_packages), lambda _: version)
    reference = f"{root}/environments/{environment.name}/versions/{version}"
    known: dict[str, Component] = plugged("components")
    components = component_assets([known[name] for name in _COMPONENTS], reference, lambda _: version)
    created: list[str] = []
    reused: list[str] = []
    with connect_registry(registry) as client, tempfile.TemporaryDirectory(prefix="mmlu-pipe-") as folder:
        for asset in (environment, *components):
            is_new = register_asset(client, asset, Path(folder), created)
            (created if is_new else reused).append(f"{root}/{asset.kind}s/{asset.name}/versions/{version}")
    first = f"{root}/components/{_COMPONENTS[0]}/versions/{version}"
    return Published(registry, version, tuple(created), tuple(reused), first)
