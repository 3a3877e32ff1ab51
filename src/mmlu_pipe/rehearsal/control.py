"""The resource manager: what clients ask under `management.azure.com`, routed to who answers."""

from __future__ import annotations

import re

from mmlu_pipe.rehearsal.assets import KINDS, Assets
from mmlu_pipe.rehearsal.exchange import Refusal, Reply, Request
from mmlu_pipe.rehearsal.identity import LOGIN_HOST, Identity
from mmlu_pipe.rehearsal.jobs import Jobs
from mmlu_pipe.rehearsal.storage import ACCOUNT, Azurite
from mmlu_pipe.rehearsal.workspace import Workspace

__all__ = ["ResourceManager"]

_WORKSPACES = re.compile(
    r"(?i)/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.MachineLearningServices"
    r"/workspaces/([^/]+)(/.*|)"
)
_OPERATION = re.compile(r"(?i)/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/mfeOperationResults/([^/]+)")

_CLOUDS = [
    {
        "name": "AzureCloud",
        "portal": "https://portal.azure.com",
        "authentication": {
            "loginEndpoint": f"https://{LOGIN_HOST}/",
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "resourceManager": "https://management.azure.com/",
        "suffixes": {"storage": "core.windows.net", "keyVaultDns": "vault.azure.net", "acrLoginServer": "azurecr.io"},
    }
]
"""What azureml-mlflow reads of the clouds there are, for which it needs no token."""


class ResourceManager:
    """Answers for one workspace; for any other as if it did not exist."""

    def __init__(self, workspace: Workspace, identity: Identity, storage: Azurite, assets: Assets, jobs: Jobs) -> None:
        self._workspace, self._identity, self._storage = workspace, identity, storage
        self._assets, self._jobs = assets, jobs

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path == "/metadata/endpoints":
            return Reply(body=_CLOUDS)
        self._identity.require(request)
        if operation := _OPERATION.fullmatch(request.path):
            return self._jobs.operation(operation[1])
        found = _WORKSPACES.fullmatch(request.path)
        if found is None:
            raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")
        own = (self._workspace.subscription_id, self._workspace.resource_group, self._workspace.name)
        if tuple(map(str.lower, found.groups()[:3])) != tuple(map(str.lower, own)):
            raise Refusal(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.MachineLearningServices/workspaces/{found[3]}' under resource group "
                f"'{found[2]}' was not found.",
            )
        kind, *rest = [part for part in found[4].split("/") if part] or [""]
        if not kind:
            return Reply(body=self._workspace.body())
        if kind in KINDS:
            return self._assets.answer(request, kind, rest)
        if kind == "jobs":
            return self._jobs.answer(request, rest)
        if kind == "computes":
            return self._compute(rest)
        if kind == "datastores":
            return self._datastore(request, rest)
        raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")

    def _compute(self, rest: list[str]) -> Reply:
        names = self._workspace.computes
        if not rest:
            return Reply(body={"value": [self._workspace.compute_body(name) for name in names], "nextLink": None})
        if len(rest) > 1 or rest[0] not in names:
            return Reply(404)  # the service says no more
        return Reply(body=self._workspace.compute_body(rest[0]))

    def _datastore(self, request: Request, rest: list[str]) -> Reply:
        containers = self._workspace.containers
        if not rest:
            wanted = [body for name in containers if (body := self._workspace.datastore_body(name, ACCOUNT))]
            if request.query.get("isDefault", "").lower() == "true":
                wanted = [body for body in wanted if body["properties"]["isDefault"]]
            return Reply(body={"value": wanted, "nextLink": None})
        if rest[0] not in containers:
            raise Refusal(404, "UserError", f"Could not find datastore {rest[0]} in workspace.")
        if len(rest) == 1:
            return Reply(body=self._workspace.datastore_body(rest[0], ACCOUNT))
        if rest[1:] != ["listSecrets"] or request.method != "POST":
            raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")
        kind = self._workspace.credential_kind
        expirable = bool(request.body) and request.json().get("expirableSecret") is True
        if kind == "AccountKey" and not expirable:
            return Reply(body={"secretsType": "AccountKey", "key": self._storage.key})
        if kind != "None":  # who asks for a secret that expires gets a signature in place of the key
            signature = self._storage.container_sas(containers[rest[0]])
            return Reply(body={"secretsType": "Sas", "sasToken": signature})
        raise Refusal(400, "UserError", f"The datastore {rest[0]} has no credentials: access is by identity.")
