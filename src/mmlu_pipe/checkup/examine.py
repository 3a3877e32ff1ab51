"""All checks in order: what fails skips those that need it, and everything else is still found out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmlu_pipe.checkup.examination import Examination, Finding
from mmlu_pipe.checkup.result import Check, Diagnosis
from mmlu_pipe.config import RunConfig

__all__ = ["doctor"]


def doctor(
    *,
    workspace_config: Path | str | None = None,
    other_config: Path | str | None = None,
    auth: str = "auto",
    identity: str = "managed",
    told: Callable[[Check], None] = lambda _check: None,
) -> Diagnosis:
    """Find out whether runs can go live and into the cloud, and what must be changed before.

    Asks the deployment at most three times, for a few tokens; writes one tiny blob, and deletes it.

    Args:
        workspace_config: AzureML `config.json`; without it the workspace is not checked.
        other_config: JSON file with the `aoai_*` and compute keys; without it the deployment is not checked.
        auth: how this machine asks, as in `run`.
        identity: as whom a job asks, as in `run`.
        told: is told of each check when it is done.

    Raises:
        ConfigError: `auth` or `identity` is none that there is.
    """
    RunConfig(backend="azureml", auth=auth, identity=identity).check()
    other = None if other_config is None else Path(other_config)
    cloud = None if workspace_config is None else Path(workspace_config)
    with ExitStack() as stack:
        found = Examination(told)
        _check_setup(found, other, cloud, auth)
        _check_login(found, cloud is not None, identity)
        if other is not None:
            _check_endpoint(found, other, stack)
        if cloud is not None:
            _check_workspace(found, other, identity, stack)
        return Diagnosis(tuple(found.checks))


def _check_setup(found: Examination, other: Path | None, cloud: Path | None, auth: str) -> None:
    from mmlu_pipe.checkup import machine

    if other is None:
        found.skip("endpoint", "give --other-config FILE")
    else:
        found.check("endpoint file", lambda: machine.endpoint_file(other))
    if cloud is None:
        found.skip("workspace", "give --workspace-config FILE")
    else:
        found.check("workspace file", lambda: machine.workspace_file(cloud))
        if other is not None:
            found.check("compute names", lambda: machine.compute_names(other))
    found.check("packages", lambda: machine.packages(cloud=cloud is not None))
    if other is not None:
        found.check("credential", lambda endpoint: machine.credential_of(endpoint, auth), "endpoint file")


def _check_login(found: Examination, cloud: bool, identity: str) -> None:
    from mmlu_pipe.checkup import login

    scopes = login.cloud_scopes() if cloud else {}
    endpoint, credential = found.value("endpoint file"), found.value("credential")
    if credential is not None and (credential.key is None or (cloud and identity == "user")):
        scopes["endpoint token"] = login.endpoint_scope(endpoint)
    if not scopes:
        return
    found.check("login", lambda: login.log_in(next(iter(scopes.values()))))
    for name, scope in scopes.items():
        found.check(name, lambda _login, scope=scope: login.token(scope), "login")


def _check_endpoint(found: Examination, file: Path, stack: ExitStack) -> None:
    from mmlu_pipe.checkup import deployment

    def ask(endpoint: Any, credential: Any, transport: Any, *_token: Any) -> Finding:
        return deployment.Deployment(endpoint, file, credential, transport).answers()

    found.check("endpoint reached", lambda endpoint: deployment.reach(endpoint, file), "endpoint file")
    if (transport := found.value("endpoint reached")) is not None:
        stack.callback(transport.close)
    credential = found.value("credential")
    token = ["endpoint token"] if credential is not None and credential.key is None else []
    found.check("deployment", ask, "endpoint file", "credential", "endpoint reached", *token)
    found.check("served model", deployment.Deployment.served_model, "deployment")
    found.check("structured outputs", deployment.Deployment.structured_outputs, "deployment")
    found.check("logprobs", deployment.Deployment.logprobs, "deployment", "structured outputs")


def _check_workspace(found: Examination, other: Path | None, identity: str, stack: ExitStack) -> None:
    from mmlu_pipe.checkup import cloud

    found.check("workspace", lambda config, *_: cloud.workspace(config), "workspace file", "packages", "ARM token")
    if (client := found.value("workspace")) is not None:
        stack.callback(client.close)
    if other is None:
        found.skip("computes", "give --other-config FILE")
    else:
        _check_computes(found, other, identity)
    found.check("datastore", cloud.datastore, "workspace")
    found.check("storage write", lambda client, *_: cloud.storage(client), "workspace", "datastore")


def _check_computes(found: Examination, file: Path, identity: str) -> None:
    from mmlu_pipe.checkup import cloud

    for key, part in (("aoai_compute", "aoai"), ("general_compute", "general")):
        found.check(
            key,
            lambda client, names, key=key, part=part: cloud.compute(client, getattr(names, part), key, file),
            "workspace",
            "compute names",
        )
    found.check(
        "job identity",
        lambda names, cluster: cloud.identity_of(cluster, identity, names.aoai),
        "compute names",
        "aoai_compute",
    )
