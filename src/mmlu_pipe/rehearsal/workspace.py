"""The workspace that the twin stands for: its names, its place, and the bodies of what every workspace has."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Literal, get_args

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.rehearsal.exchange import Json

__all__ = ["ARTIFACT_STORE", "BLOB_STORE", "TENANT", "CredentialKind", "Workspace", "now", "system_data"]

CredentialKind = Literal["Sas", "AccountKey", "None"]
"""How clients get at the storage of a datastore; `None` is their own Entra token."""

TENANT = "00000000-0000-4000-8000-00000000000a"
"""The Entra tenant of every twin."""

BLOB_STORE = "workspaceblobstore"
ARTIFACT_STORE = "workspaceartifactstore"

_PROVIDER = "Microsoft.MachineLearningServices"


def now() -> str:
    """This moment as the service writes it, in UTC."""
    seconds = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1e7):07}+00:00"


def system_data(created: str | None = None) -> Json:
    """Who made a resource, and when."""
    moment = created or now()
    who = {"createdBy": "Twin User", "createdByType": "User", "lastModifiedBy": "Twin User"}
    return {"createdAt": moment, **who, "lastModifiedByType": "User", "lastModifiedAt": moment}


@dataclass(frozen=True)
class Workspace:
    """Names of the workspace; every twin has one of its own behind them.

    Attributes:
        subscription_id: any GUID.
        resource_group: a name.
        name: a name.
        location: of Azure, in host names and ids.
        computes: the compute clusters there are; `serverless` is always there.
        registries: the AzureML registries that can be reached from it.
        credential_kind: how the datastores let clients in.
        workspace_id: the GUID in data ids and container names.

    Raises:
        ConfigError: an unknown kind of credential.
    """

    subscription_id: str = "00000000-0000-4000-8000-000000000001"
    resource_group: str = "rehearsal"
    name: str = "twin"
    location: str = "eastus2"
    computes: tuple[str, ...] = ("cpu-cluster",)
    registries: tuple[str, ...] = ("twin-registry",)
    credential_kind: CredentialKind = "Sas"
    workspace_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        if self.credential_kind not in get_args(CredentialKind):
            kinds = ", ".join(get_args(CredentialKind))
            raise ConfigError(f"credential_kind {self.credential_kind!r} is none of {kinds}", key="credential_kind")

    @property
    def arm_id(self) -> str:
        """The id in Azure Resource Manager, and the path under which resources are found."""
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/{_PROVIDER}/workspaces/{self.name}"

    @property
    def short_id(self) -> str:
        """The id as links and data URIs spell it."""
        group = f"subscriptions/{self.subscription_id}/resourcegroups/{self.resource_group}"
        return f"{group}/workspaces/{self.name}"

    @property
    def api_host(self) -> str:
        """The host of run history and data."""
        return f"{self.location}.api.azureml.ms"

    @property
    def containers(self) -> dict[str, str]:
        """Datastore → container in blob storage."""
        return {BLOB_STORE: f"azureml-blobstore-{self.workspace_id}", ARTIFACT_STORE: f"azureml-{self.workspace_id}"}

    def experiment_id(self, name: str) -> str:
        """The id of an experiment, made of its name."""
        return str(uuid.uuid5(uuid.UUID(self.workspace_id), name))

    def body(self) -> Json:
        """The workspace as a resource."""
        storage = self.arm_id.partition("/providers/")[0] + "/providers/Microsoft"
        return {
            "id": self.arm_id,
            "name": self.name,
            "type": f"{_PROVIDER}/workspaces",
            "location": self.location,
            "tags": {},
            "etag": None,
            "kind": "Default",
            "sku": {"name": "Basic", "tier": "Basic"},
            "identity": {"type": "SystemAssigned", "principalId": str(uuid.UUID(int=1)), "tenantId": TENANT},
            "properties": {
                "friendlyName": self.name,
                "description": "",
                "storageAccount": f"{storage}.Storage/storageAccounts/twin",
                "keyVault": f"{storage}.Keyvault/vaults/twin",
                "applicationInsights": f"{storage}.insights/components/twin",
                "containerRegistry": None,
                "hbiWorkspace": False,
                "tenantId": TENANT,
                "imageBuildCompute": None,
                "provisioningState": "Succeeded",
                "v1LegacyMode": False,
                "storageHnsEnabled": False,
                "workspaceId": self.workspace_id,
                "publicNetworkAccess": "Enabled",
                "discoveryUrl": f"https://{self.api_host}/discovery",
                "mlFlowTrackingUri": f"azureml://{self.api_host}/mlflow/v1.0{self.arm_id}",
            },
            "systemData": system_data(),
        }

    def compute_body(self, name: str) -> Json:
        """One compute cluster as a resource."""
        scale = {"maxNodeCount": 4, "minNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"}
        return {
            "id": f"{self.arm_id}/computes/{name}",
            "name": name,
            "type": f"{_PROVIDER}/workspaces/computes",
            "location": self.location,
            "tags": {},
            "properties": {
                "computeType": "AmlCompute",
                "computeLocation": self.location,
                "provisioningState": "Succeeded",
                "provisioningErrors": None,
                "isAttachedCompute": False,
                "disableLocalAuth": False,
                "createdOn": now(),
                "modifiedOn": now(),
                "properties": {
                    "vmSize": "STANDARD_DS3_V2",
                    "vmPriority": "Dedicated",
                    "osType": "Linux",
                    "scaleSettings": scale,
                    "allocationState": "Steady",
                },
            },
        }

    def datastore_body(self, name: str, account: str) -> Json:
        """One datastore as a resource."""
        return {
            "id": f"{self.arm_id}/datastores/{name}",
            "name": name,
            "type": f"{_PROVIDER}/workspaces/datastores",
            "properties": {
                "description": None,
                "tags": None,
                "properties": None,
                "isDefault": name == BLOB_STORE,
                "credentials": {"credentialsType": self.credential_kind},
                "datastoreType": "AzureBlob",
                "accountName": account,
                "containerName": self.containers[name],
                "endpoint": "core.windows.net",
                "protocol": "https",
                "serviceDataAccessAuthIdentity": "WorkspaceSystemAssignedIdentity",
            },
            "systemData": system_data(),
        }
