"""Versioned assets of a workspace or a registry, kept and answered as the service does."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mmlu_pipe.rehearsal.exchange import Json, Refusal, Reply, Request
from mmlu_pipe.rehearsal.rules import check_asset, check_component
from mmlu_pipe.rehearsal.storage import BLOB_HOST, Azurite
from mmlu_pipe.rehearsal.workspace import Workspace, now, system_data

__all__ = ["KINDS", "Assets"]

KINDS = ("codes", "data", "environments", "components")

_FIXED = {"codes": "codeUri", "data": "dataUri", "environments": "image", "components": "componentSpec"}
"""The property of each kind that a version can never change."""

_REGISTRY = re.compile(r"azureml://registries/([^/]+)/")

_SHORT_DATA_URI = re.compile(r"azureml://datastores/")


@dataclass
class _Version:
    received: Json
    answered: Json
    created: str = field(default_factory=now)


class Assets:
    """All assets of one workspace, or of one registry.

    Args:
        workspace: whose, or the one beside the registry.
        storage: where uploads go.
        registry: the registry's name; None for the assets of the workspace.
        registries: of a workspace, the registries it can refer to, by name.
    """

    def __init__(
        self,
        workspace: Workspace,
        storage: Azurite,
        registry: str | None = None,
        registries: Mapping[str, Assets] | None = None,
    ) -> None:
        self._workspace, self._storage, self._registries = workspace, storage, dict(registries or {})
        self._root = f"azureml://registries/{registry}" if registry else workspace.arm_id
        self._type = f"Microsoft.MachineLearningServices/{'registries' if registry else 'workspaces'}"
        self._lock = threading.RLock()
        self._kept: dict[str, dict[str, dict[str, _Version]]] = {kind: {} for kind in KINDS}

    def received(self, kind: str, asset_id: str) -> Json:
        """The properties of an asset as they were sent, found by any id or reference that names it.

        Raises:
            Refusal: 404, there is none.
        """
        if (elsewhere := _REGISTRY.search(asset_id)) and elsewhere[1] in self._registries:
            return self._registries[elsewhere[1]].received(kind, asset_id)
        with self._lock:
            name, version = self._parse(kind, asset_id)
            found = self._kept[kind].get(name, {}).get(version)
        if found is None:
            raise Refusal(404, "UserError", f"Not found {kind} asset {name}:{version}.")
        return found.received

    def _parse(self, kind: str, asset_id: str) -> tuple[str, str]:
        """Name and version from `…/components/<name>/versions/<version>` or `azureml:<name>:<version>`."""
        if found := re.search(rf"/{kind}/([^/]+)/(?:versions|labels)/([^/]+)$", asset_id):
            return found[1], found[2]
        if found := re.fullmatch(r"(?:azureml:)?([^:/]+):([^:/]+)", asset_id):
            return found[1], found[2]
        if found := re.fullmatch(r"(?:azureml:)?([^:/@]+)@latest", asset_id):
            return found[1], next(reversed(self._kept[kind].get(found[1], {"": ""})))
        raise Refusal(400, "UserError", f"{asset_id!r} is no reference to one of the {kind}.")

    def put_resolved_data(self, name: str, uri: str, data_type: str) -> str:
        """Register what a job put out; returns the id that run history knows it by."""
        properties = {"dataUri": uri, "dataType": data_type}
        with self._lock:
            self._kept["data"].setdefault(name, {})["1"] = _Version(properties, properties)
        place = f"locations/{self._workspace.location}/workspaces/{self._workspace.workspace_id}"
        return f"azureml://{place}/data/{name}/versions/1"

    # What clients ask

    def answer(self, request: Request, kind: str, rest: list[str]) -> Reply:
        """Answer a request below `/{kind}/`; `rest` are the parts of the path after it."""
        with self._lock:
            return self._answer(request, kind, rest)

    def _answer(self, request: Request, kind: str, rest: list[str]) -> Reply:
        if not rest:
            return self._list_names(kind)
        if len(rest) == 1:
            return self._container(kind, rest[0])
        name, word, *tail = rest
        if word.lower() != "versions" or len(tail) > 2:
            raise Refusal(404, "UserError", f"There is no {request.path} here.")
        if not tail:
            return self._list_versions(kind, name, request)
        if len(tail) == 2:
            if tail[1].lower() != "startpendingupload" or request.method != "POST":
                raise Refusal(404, "UserError", f"There is no {request.path} here.")
            return self.pending_upload()
        if request.method == "PUT":
            return self._put(kind, name, tail[0], request)
        found = self._kept[kind].get(name, {}).get(tail[0])
        if found is None:
            raise Refusal(404, "UserError", f"Not found {kind} asset {name}:{tail[0]}.")
        return Reply(body=self._body(kind, name, tail[0], found))

    def _body(self, kind: str, name: str, version: str, kept: _Version) -> Json:
        return {
            "id": f"{self._root}/{kind}/{name}/versions/{version}",
            "name": version,
            "type": f"{self._type}/{kind}/versions",
            "properties": kept.answered,
            "systemData": system_data(kept.created),
        }

    def _container(self, kind: str, name: str) -> Reply:
        versions = self._kept[kind].get(name)
        if not versions:
            raise Refusal(404, "UserError", f"Not found {kind} asset {name}.")
        latest = next(reversed(versions))
        numbers = [int(version) for version in versions if version.isdigit()]
        body: Json = {
            "id": f"{self._root}/{kind}/{name}",
            "name": name,
            "type": f"{self._type}/{kind}",
            "properties": {
                "description": None,
                "tags": {},
                "properties": {},
                "isArchived": False,
                "latestVersion": latest,
                "nextVersion": str(max(numbers, default=0) + 1),
            },
            "systemData": system_data(versions[latest].created),
        }
        if kind == "data":
            body["properties"]["dataType"] = versions[latest].answered["dataType"]
        return Reply(body=body)

    def _list_names(self, kind: str) -> Reply:
        names = sorted(self._kept[kind])
        return Reply(body={"value": [self._container(kind, name).body for name in names], "nextLink": None})

    def _list_versions(self, kind: str, name: str, request: Request) -> Reply:
        """The newest first; with `hash`, the codes of any name that have it."""
        if "hash" in request.query:
            wanted = request.query["hash"]
            found = [
                self._body(kind, other, version, kept)
                for other, versions in self._kept[kind].items()
                for version, kept in versions.items()
                if (kept.received.get("properties") or {}).get("hash_sha256") == wanted
            ]
        else:
            versions = self._kept[kind].get(name, {})
            found = [self._body(kind, name, version, kept) for version, kept in reversed(versions.items())]
        top = int(request.query.get("$top", "0")) or None
        return Reply(body={"value": found[:top], "nextLink": None})

    def pending_upload(self) -> Reply:
        """A container of its own for one upload, and the signature to write into it."""
        container = f"{self._workspace.workspace_id[:10]}-{uuid.uuid4()}"
        self._storage.create_container(container)
        uri = f"https://{BLOB_HOST}:443/{container}"
        signature = self._storage.container_sas(container, "rcwl", 8 * 3600)
        credential = {"sasUri": f"https://{BLOB_HOST}/{container}?{signature}", "credentialType": "SAS"}
        reference = {"blobUri": uri, "storageAccountArmId": None, "credential": credential}
        upload = {"pendingUploadId": str(uuid.uuid4()), "pendingUploadType": "TemporaryBlobReference"}
        return Reply(body=upload | {"blobReferenceForConsumption": reference})

    def _put(self, kind: str, name: str, version: str, request: Request) -> Reply:
        received = request.json().get("properties")
        if not isinstance(received, dict):
            raise Refusal(400, "UserError", "The request body has no properties.")
        check_asset(kind, name, version)
        answered = self._answered(kind, received)
        older = self._kept[kind].get(name, {}).get(version)
        fixed = _FIXED[kind]
        if older and older.answered.get(fixed) != answered.get(fixed):
            raise Refusal(
                400,
                "UserError",
                f"A {kind} asset with this name and version already exists, and its {fixed} cannot be changed. "
                "Use a different name or version.",
            )
        kept = _Version(received, answered, older.created if older else now())
        self._kept[kind].setdefault(name, {})[version] = kept
        return Reply(200 if older else 201, self._body(kind, name, version, kept))

    # What the service makes of what it receives

    def _answered(self, kind: str, received: Json) -> Json:
        common: Json = {"description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False}
        answered = common | {name: value for name, value in received.items() if value is not None}
        if kind == "data":
            long = f"azureml://{self._workspace.short_id}/datastores/"
            answered["dataUri"] = _SHORT_DATA_URI.sub(long, str(answered.get("dataUri")))
        elif kind == "environments":
            if isinstance(answered.get("condaFile"), str):
                answered["condaFile"] = json.dumps(yaml.safe_load(answered["condaFile"]), indent=2)
            answered |= {"environmentType": "UserCreated", "osType": answered.get("osType") or "Linux"}
        elif kind == "components":
            answered["componentSpec"] = self._component_spec(received.get("componentSpec"))
        return answered

    def _component_spec(self, spec: object) -> Json:
        """The service answers scalars as strings, and references resolved.

        Raises:
            Refusal: code or environment that is not there, or ports or a command that cannot be.
        """
        if not isinstance(spec, dict) or not isinstance(spec.get("command"), str):
            raise Refusal(400, "UserError", "The componentSpec has no command: the twin runs command components only.")
        check_component(spec)
        answered: Json = _as_strings({name: value for name, value in spec.items() if name != "_source"})
        answered.setdefault("resources", {"instance_count": "1"})
        for port in (answered.get("inputs") or {}).values():
            port.setdefault("optional", "False")
        if code := spec.get("code"):
            self.received("codes", str(code))
        environment = str(spec.get("environment", ""))
        elsewhere = _REGISTRY.search(environment)
        if elsewhere is None or elsewhere[1] in self._registries or self._root.endswith(f"/{elsewhere[1]}"):
            self.received("environments", environment)
        if elsewhere is None:
            name, version = self._parse("environments", environment)
            answered["environment"] = f"azureml:{self._root}/environments/{name}/versions/{version}"
        return answered


def _as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_strings(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_as_strings(inner) for inner in value]
    return str(value)
