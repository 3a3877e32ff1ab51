"""A certificate authority made for the occasion: its key lives in memory, and only as long as the twin."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Authority"]


class Authority:
    """Issues the certificates of one rehearsal.

    Raises:
        BackendNotInstalled: the extra `rehearse` is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError:
            from mmlu_pipe.errors import BackendNotInstalled

            raise BackendNotInstalled(
                "a rehearsal needs trustme, which is not installed; install it with: pip install 'mmlu-pipe[rehearse]'",
                extra="rehearse",
            ) from None
        self._ca = trustme.CA(organization_name="mmlu_pipe rehearsal")

    def server_context(self, hosts: Iterable[str]) -> ssl.SSLContext:
        """TLS for a server that answers under these names (a leading `*.` stands for any one label)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*hosts).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """TLS for a client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context

    def write_trust(self, path: Path) -> None:
        """Write the authority's certificate (no key) as PEM, for `SSL_CERT_FILE` and its like."""
        self._ca.cert_pem.write_to_path(str(path))

    def write_server_pair(self, hosts: Iterable[str], certificate: Path, key: Path) -> None:
        """Write a certificate and its key as PEM, for a server in another process; the key file is the user's alone."""
        issued = self._ca.issue_cert(*hosts)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(issued.private_key_pem.bytes())
