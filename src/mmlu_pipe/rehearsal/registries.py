"""AzureML registries: where to find one, and the assets in it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from mmlu_pipe.rehearsal.assets import KINDS, Assets
from mmlu_pipe.rehearsal.exchange import Refusal, Reply, Request
from mmlu_pipe.rehearsal.identity import Identity
from mmlu_pipe.rehearsal.workspace import TENANT, Workspace

__all__ = ["DISCOVERY_HOST", "Registries", "registry_host"]

DISCOVERY_HOST = "eastus.api.azureml.ms"
"""Where the SDK looks for every registry of the public cloud, whatever its region."""

_OPERATION = "/registries/v1.0/operations/"
_DISCOVERY = re.compile(r"/registrymanagement/v1\.0/registries/([^/]+)/discovery")
_ASSETS = re.compile(
    r"(?i)/mferp/managementfrontend/subscriptions/[^/]+/resourceGroups/[^/]+"
    r"/providers/Microsoft\.MachineLearningServices/registries/([^/]+)/([^/]+)(/.*|)"
)


def registry_host(workspace: Workspace) -> str:
    """The host that has the registries of a region."""
    return f"cert-{workspace.location}.experiments.azureml.net"


class Registries:
    """Answers for the registries that the twin has; any other does not exist."""

    def __init__(self, workspace: Workspace, identity: Identity, registries: Mapping[str, Assets]) -> None:
        self._workspace, self._identity, self._registries = workspace, identity, dict(registries)

    def on_api_host(self, request: Request) -> Reply | None:
        """Say where a registry is, or that an operation on one has ended; None for a request about anything else."""
        found = _DISCOVERY.fullmatch(request.path)
        if found is None and not request.path.startswith(_OPERATION):
            return None
        self._identity.require(request)
        if found is None:
            return Reply(200)
        self._find(found[1])
        region = self._workspace.location
        return Reply(
            body={
                "registryName": found[1],
                "tenantId": TENANT,
                "primaryRegion": region,
                "regions": [region],
                "registryFqdns": {region: {"uri": f"https://{found[1]}.registry.{self._workspace.api_host}"}},
                "subscriptionId": self._workspace.subscription_id,
                "resourceGroup": self._workspace.resource_group,
                "workspaceName": None,
                "primaryRegionResourceProviderUri": f"https://{registry_host(self._workspace)}/",
            }
        )

    def answer(self, request: Request) -> Reply:
        """Answer one request for the assets of a registry."""
        self._identity.require(request)
        found = _ASSETS.fullmatch(request.path)
        if found is None:
            raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")
        assets = self._find(found[1])
        if found[2] == "tempdatarefs" and request.method == "PUT":
            return assets.pending_upload()
        if found[2] not in KINDS:
            raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")
        reply = assets.answer(request, found[2], [part for part in found[3].split("/") if part])
        if request.method != "PUT":
            return reply
        url = f"https://{self._workspace.api_host}{_OPERATION}{uuid.uuid4()}"
        return Reply(202, None, {"Location": url, "Retry-After": "0", "x-ms-async-operation-timeout": "PT1H"})

    def _find(self, name: str) -> Assets:
        if name not in self._registries:
            raise Refusal(404, "UserError", f"Not found registry {name}.")
        return self._registries[name]
