"""The twin: everything that azure-ai-ml dials, on loopback, for as long as a `with` block lasts."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from mmlu_pipe.errors import BackendError, ConfigError
from mmlu_pipe.rehearsal.assets import Assets
from mmlu_pipe.rehearsal.certificates import Authority
from mmlu_pipe.rehearsal.control import ResourceManager
from mmlu_pipe.rehearsal.datastores import Stores
from mmlu_pipe.rehearsal.exchange import Recorder, Reply, Request
from mmlu_pipe.rehearsal.executor import Executor
from mmlu_pipe.rehearsal.faults import Faults
from mmlu_pipe.rehearsal.forwarding import forward, loopback
from mmlu_pipe.rehearsal.frontdoor import LOCAL, FrontDoor
from mmlu_pipe.rehearsal.history import History
from mmlu_pipe.rehearsal.identity import LOGIN_HOST, Identity
from mmlu_pipe.rehearsal.jobs import Jobs
from mmlu_pipe.rehearsal.process import Drill
from mmlu_pipe.rehearsal.registries import DISCOVERY_HOST, Registries, registry_host
from mmlu_pipe.rehearsal.runs import Run, Runs
from mmlu_pipe.rehearsal.site import Site
from mmlu_pipe.rehearsal.storage import BLOB_HOST, Azurite
from mmlu_pipe.rehearsal.tracking import Tracking
from mmlu_pipe.rehearsal.workspace import TENANT, Workspace

__all__ = ["Twin"]

_MANAGEMENT = "management.azure.com"
_METADATA = "169.254.169.254"


class Twin:
    """A workspace of AzureML on this machine, for the unmodified SDK in a process of its own.

    Start a client with `os.environ | twin.environment()`: it then reaches the twin under Azure's own host names, and
    nothing else. Whatever the twin started ends with the block.

    Args:
        interpreter: the Python that runs the steps; it should have the dependencies of the components and no more.
        workspace: names, computes and the kind of credential; a new one by default.
        storage: a running Azurite that outlives the twin; by default the twin starts its own.
        doors: further hosts and the port on loopback where a plain HTTP server stands for each.
        step_environment: variables for steps, beside those that AzureML gives.
        managed_identities: client ids of the clusters' user-assigned identities, the default one first.
        broken_images: environment → the log of its image's build, for those that shall not be built.
        drill: is told of every step that started, and may kill or preempt it.
        grace_s: seconds that a cancelled step has between SIGTERM and SIGKILL.

    Attributes:
        workspace: the one that it stands for.
        requests: every request so far.
        faults: what goes wrong on purpose; may be added to at any time.
        identity: issues the tokens; its `lifetime_s` may be changed.

    Raises:
        ConfigError: the interpreter does not exist.
        BackendNotInstalled: the extra `rehearse` is missing, or Node.js.
        BackendError: this is no POSIX machine, or Azurite does not start.
    """

    def __init__(
        self,
        interpreter: Path | str,
        *,
        workspace: Workspace | None = None,
        storage: Azurite | None = None,
        doors: Mapping[str, int] | None = None,
        step_environment: Mapping[str, str] | None = None,
        managed_identities: Sequence[str] = (),
        broken_images: Mapping[str, str] | None = None,
        drill: Drill | None = None,
        grace_s: float = 5.0,
    ) -> None:
        if sys.platform == "win32":
            raise BackendError("a rehearsal runs the steps under bash, as AzureML does; use WSL or a Linux machine")
        self._interpreter = Path(interpreter).absolute()
        if not self._interpreter.is_file():
            raise ConfigError(f"interpreter: {self._interpreter} is no file", key="interpreter")
        self.workspace = workspace or Workspace()
        self.requests, self.faults, self.identity = Recorder(), Faults(), Identity(managed_identities)
        self._given, self._doors, self._drill, self._grace_s = storage, dict(doors or {}), drill, grace_s
        self._step_environment, self._broken_images = dict(step_environment or {}), dict(broken_images or {})
        self._runs = Runs()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmlu-pipe-twin-")))
            storage = self._given or stack.enter_context(Azurite())
            authority = Authority()
            authority.write_trust(self._folder / "ca.pem")
            stores = Stores(self.workspace, storage)
            shared = {name: Assets(self.workspace, storage, name) for name in self.workspace.registries}
            assets = Assets(self.workspace, storage, registries=shared)
            registries = Registries(self.workspace, self.identity, shared)
            site = Site(
                self.workspace,
                stores,
                assets,
                self.identity,
                self._interpreter,
                environment=self._step_environment,
                broken_images=self._broken_images,
                drill=self._drill,
                grace_s=self._grace_s,
            )
            executor = Executor(site, self._runs)
            jobs = Jobs(self.workspace, assets, self._runs, executor)
            manager = ResourceManager(self.workspace, self.identity, storage, assets, jobs)
            tracking = Tracking(self.workspace, self.identity, self._runs)
            history = History(self.workspace, self.identity, self._runs, storage)

            def api(request: Request) -> Reply:
                return registries.on_api_host(request) or tracking.on_api_host(request) or history.answer(request)

            answers = {
                _MANAGEMENT: manager.answer,
                LOGIN_HOST: self.identity.entra,
                **dict.fromkeys((DISCOVERY_HOST, self.workspace.api_host), api),
                registry_host(self.workspace): registries.answer,
                BLOB_HOST: forward(storage.connect),
                LOCAL: self.identity.local,
                "127.0.0.1": self.identity.local,
                _METADATA: self.identity.local,
                **{host: forward(loopback(port)) for host, port in self._doors.items()},
            }
            hosts = [host for host in answers if host not in (LOCAL, "127.0.0.1", _METADATA)]
            door = FrontDoor(authority.server_context(hosts), answers, self.requests, self.faults)
            self._port = site.port = door.port
            site.network = self._network()
            door.start()
            stack.callback(door.stop)
            stack.callback(executor.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _network(self) -> dict[str, str]:
        proxy, local, trust = f"http://127.0.0.1:{self._port}", "127.0.0.1,localhost", str(self._folder / "ca.pem")
        by_case = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": local}
        lower = {name.lower(): value for name, value in by_case.items()}
        return by_case | lower | dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), trust)

    def environment(self) -> dict[str, str]:
        """Variables for a client process: the way to the twin, a service principal, short polls."""
        principal = {
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": self.identity.client_id,
            "AZURE_CLIENT_SECRET": self.identity.client_secret,
        }
        polls = {"AZUREML_RUN_POLLING_INTERVAL_MIN": "1", "AZUREML_RUN_POLLING_INTERVAL_MAX": "1"}
        return {**self._network(), **principal, **polls, **self.virtual_machine()}

    def virtual_machine(self) -> dict[str, str]:
        """Variables that let a managed identity be found as on a virtual machine (IMDS)."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{self._port}"}

    def app_service(self) -> dict[str, str]:
        """Variables that let a managed identity be found as on App Service and in container instances."""
        url = f"http://127.0.0.1:{self._port}/msi/appservice"
        return {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": self.identity.local_secret}

    def config(self) -> dict[str, str]:
        """What a workspace's `config.json` holds."""
        names = self.workspace
        return {
            "subscription_id": names.subscription_id,
            "resource_group": names.resource_group,
            "workspace_name": names.name,
        }

    def job(self, name: str) -> Run:
        """A pipeline job, or a step by its run id.

        Raises:
            KeyError: there is none.
        """
        found = self._runs.get(name)
        if found is None:
            raise KeyError(name)
        return found
