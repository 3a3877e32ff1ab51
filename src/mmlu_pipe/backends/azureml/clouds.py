"""The clouds of Azure: who issues tokens, and for what."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Cloud", "current_cloud"]


@dataclass(frozen=True)
class Cloud:
    """One cloud.

    Attributes:
        authority: name in `azure.identity.AzureAuthorityHosts`.
        manager: base URL of Azure Resource Manager, for which its tokens are.
        service: for whom tokens of AzureML's own services are.
    """

    authority: str
    manager: str
    service: str


_PUBLIC = Cloud("AZURE_PUBLIC_CLOUD", "https://management.azure.com", "https://ml.azure.com")
_SOVEREIGN = {
    "AzureUSGovernment": Cloud("AZURE_GOVERNMENT", "https://management.usgovcloudapi.net", "https://ml.azure.us"),
    "AzureChinaCloud": Cloud("AZURE_CHINA", "https://management.chinacloudapi.cn", "https://ml.azure.cn"),
}
"""By the names that the SDK knows them under."""


def current_cloud() -> Cloud:
    """The cloud that `AZUREML_CURRENT_CLOUD` names, as for the SDK; the public one by default."""
    return _SOVEREIGN.get(os.environ.get("AZUREML_CURRENT_CLOUD", ""), _PUBLIC)
