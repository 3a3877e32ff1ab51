"""The way into a workspace or a registry: one credential, one client of the SDK, and an answer within seconds."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from mmlu_pipe.backends.azureml.clouds import current_cloud
from mmlu_pipe.backends.azureml.failures import NETWORK_ADVICE, translated
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.endpoint.credentials import default_credential
from mmlu_pipe.errors import BackendNotInstalled, MmluPipeError, WorkspaceUnavailable

__all__ = ["RegistryClient", "WorkspaceClient", "connect", "connect_registry"]

_T = TypeVar("_T")

_PATIENCE_S = 20.0
"""How long the first answer may take; with the SDK's import, what cannot be reached is known within 30 s."""

_WAITS = {"connection_timeout": 10, "read_timeout": 60, "retry_connect": 2, "retry_read": 3, "retry_total": 4}
"""For every client of the SDK, whose own settings wait for minutes (azure.core's `RetryPolicy` and transport)."""


class _Connection:
    """Closes the connections of the SDK's client; the process's credential stays open."""

    ml: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        for name, value in vars(self.ml).items():
            if name.startswith("_service_client") and hasattr(value, "close"):
                value.close()


@dataclass(frozen=True)
class WorkspaceClient(_Connection):
    """A workspace that was reached.

    Attributes:
        config: its names.
        ml: the SDK's `MLClient` for it.
        credential: who asks.
    """

    config: WorkspaceConfig
    ml: Any = field(repr=False)
    credential: Any = field(repr=False)

    @property
    def shown(self) -> str:
        """For people."""
        return self.config.shown


@dataclass(frozen=True)
class RegistryClient(_Connection):
    """An AzureML registry that was reached.

    Attributes:
        name: its name.
        ml: the SDK's `MLClient` for it.
    """

    name: str
    ml: Any = field(repr=False)

    @property
    def shown(self) -> str:
        """For people."""
        return f"registry {self.name}"


def connect(config: WorkspaceConfig) -> WorkspaceClient:
    """Log in, and see that the workspace is there.

    The cloud is the public one, or what `AZUREML_CURRENT_CLOUD` and `AZURE_AUTHORITY_HOST` say.

    Raises:
        BackendNotInstalled: the extra `azureml` is missing.
        AuthenticationFailed: nobody is logged in, or the token is refused.
        WorkspaceRejected: there is no such workspace, or it may not be read.
        WorkspaceUnavailable: Azure cannot be reached.
    """
    _load_sdk()

    def reach() -> WorkspaceClient:
        ml, credential = _ml_client(config.subscription_id, config.resource_group, config.workspace_name)
        ml.workspaces.get(config.workspace_name)
        return WorkspaceClient(config, ml, credential)

    return _in_time(f"look up {config.shown}", reach)


def connect_registry(name: str) -> RegistryClient:
    """Log in, and find an AzureML registry.

    Raises:
        BackendNotInstalled: the extra `azureml` is missing.
        AuthenticationFailed: nobody is logged in, or the token is refused.
        WorkspaceRejected: there is no such registry, or it may not be read.
        WorkspaceUnavailable: Azure cannot be reached.
    """
    _load_sdk()

    def reach() -> RegistryClient:
        return RegistryClient(name, _ml_client(registry_name=name)[0])

    return _in_time(f"look up the registry {name}", reach)


def _load_sdk() -> None:
    asked = {name: logging.getLogger(name).level for name in ("azure", "azure.ai.ml", "msrest")}
    for name, level in asked.items():  # experimental classes, links of the chain of credentials: nothing to act on
        if level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        importlib.import_module("azure.ai.ml")
        logging.getLogger("azure.ai.ml").setLevel(asked["azure.ai.ml"] or logging.CRITICAL)  # it lowers its own
    except ImportError as error:
        raise BackendNotInstalled(
            f'the AzureML SDK cannot be loaded ({error}); install it with: pip install "mmlu-pipe[azureml]"',
            extra="azureml",
        ) from error


def _ml_client(*names: str, **options: Any) -> tuple[Any, Any]:
    """The SDK's client and its credential; a workspace is not asked for yet, a registry is."""
    from azure.ai.ml import MLClient

    credential = default_credential(current_cloud().authority)
    make: Any = MLClient
    # Without `show_progress` the SDK does not look at what became of an upload, and waits for ever for one that failed.
    return make(credential, *names, show_progress=True, enable_telemetry=False, **_WAITS, **options), credential


def _in_time(doing: str, reach: Callable[[], _T]) -> _T:
    """Do it in a thread that is left behind when it takes too long: name look-ups know no time limit."""
    found: list[_T] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            with translated(doing):
                found.append(reach())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=attempt, name="azureml-connect", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if failed:
        raise failed[0].with_traceback(None) if isinstance(failed[0], MmluPipeError) else failed[0]
    if not found:
        raise WorkspaceUnavailable(f"cannot {doing}: no answer within {_PATIENCE_S:.0f} seconds\n  {NETWORK_ADVICE}")
    return found[0]
