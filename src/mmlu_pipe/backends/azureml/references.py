"""Names that point into a workspace or a registry: read, checked, and never vague."""

from __future__ import annotations

import re

from mmlu_pipe.errors import ConfigError

__all__ = ["environment_reference", "published_components"]

_PLAIN = re.compile(r"(?:azureml:)?(?P<name>[A-Za-z0-9][\w.-]*):(?P<version>[A-Za-z0-9][\w.-]*)", re.ASCII)
_IN_REGISTRY = re.compile(
    r"azureml://registries/(?P<registry>[A-Za-z0-9][\w-]*)/(?P<kind>environments|components)/"
    r"(?P<name>[A-Za-z0-9][\w.-]*)/versions/(?P<version>[A-Za-z0-9][\w.-]*)",
    re.ASCII,
)


def environment_reference(text: str) -> str:
    """The exact reference of an environment that exists: `azureml:NAME:VERSION`, or a registry's id.

    Raises:
        ConfigError: it is neither, or names a label such as `latest` instead of a version.
    """
    if found := _PLAIN.fullmatch(text):
        return f"azureml:{found['name']}:{found['version']}"
    found = _IN_REGISTRY.fullmatch(text)
    if found and found["kind"] == "environments":
        return text
    raise ConfigError(
        f"--environment {text!r}: name one version, as NAME:VERSION or "
        "azureml://registries/REGISTRY/environments/NAME/versions/VERSION",
        key="environment",
    )


def published_components(text: str) -> tuple[str, str]:
    """Registry and version of published components, from the id of any one of them.

    Raises:
        ConfigError: it is no such id.
    """
    found = _IN_REGISTRY.fullmatch(text)
    if found and found["kind"] == "components":
        return found["registry"], found["version"]
    raise ConfigError(
        f"--components {text!r}: give the id that `mmlu-pipe publish` printed, "
        "azureml://registries/REGISTRY/components/NAME/versions/VERSION",
        key="components",
    )
