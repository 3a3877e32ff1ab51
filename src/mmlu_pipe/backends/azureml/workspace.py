"""The AzureML workspace that a `config.json` names: that file, and no other that lies further up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmlu_pipe.config import load_json_object
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import salted

__all__ = ["WorkspaceConfig", "load_workspace"]

_KEYS = ("subscription_id", "resource_group", "workspace_name")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class WorkspaceConfig:
    """The three names of a workspace; its representation tells no more of the subscription than `shown` does."""

    subscription_id: str
    resource_group: str
    workspace_name: str

    def __repr__(self) -> str:
        return f"WorkspaceConfig({self.shown!r})"

    @property
    def shown(self) -> str:
        """For people, who should see where they submit to."""
        tail = self.subscription_id[-4:]
        return f"workspace {self.workspace_name} (resource group {self.resource_group}, subscription …{tail})"

    @property
    def arm_id(self) -> str:
        """The id in Azure Resource Manager."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"
        )

    def digest(self, salt: str) -> str:
        """Enough to tell it from another one."""
        return salted(self.arm_id.lower(), salt)


def load_workspace(path: Path) -> WorkspaceConfig:
    """Read a `config.json` as Azure's portal gives it.

    Raises:
        ConfigError: it cannot be read, lacks a key, or holds what no key takes.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no workspace configuration; download config.json from the workspace's page in the Azure "
            "portal, and name it with --workspace-config FILE",
            path=path,
            key="workspace_config",
        )
    value = load_json_object(path, "the workspace configuration")
    texts = []
    for key in _KEYS:
        text = value.get(key)
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(
                f"{path}: {key!r} is missing or empty; the file needs {', '.join(_KEYS)}", path=path, key=key
            )
        if text.strip().startswith("<") or "/" in text:
            raise ConfigError(f"{path}: {key!r} is still {text.strip()!r}; put in the name itself", path=path, key=key)
        texts.append(text.strip())
    if not _GUID.fullmatch(texts[0]):
        raise ConfigError(
            f"{path}: 'subscription_id' is no subscription's id (a GUID); copy it from the Azure portal",
            path=path,
            key="subscription_id",
        )
    return WorkspaceConfig(*texts)
