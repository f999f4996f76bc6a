"""Test certificates: one throw-away authority a test session, made by trustme.

`TestAuthority.server_context(...)` is what a fake server listens with; `ca_file(directory)` is
the PEM that `Origin.ca_file` names.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import pytest
import trustme

BROKEN_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
"""Looks like a certificate and is none."""


class CertAuthority:
    """A certificate authority of its own, and what servers and clients need of it."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def server_context(
        self,
        *names: str,
        alpn: tuple[str, ...] = ("h2", "http/1.1"),
        not_after: datetime | None = None,
    ) -> ssl.SSLContext:
        """A server-side context with a certificate for `names`.

        Args:
            names: host names and addresses; loopback by name and address when none is given.
            alpn: protocols offered, best first; empty for a server that knows no ALPN.
            not_after: when the certificate ends; far from now when None.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued = self._ca.issue_cert(
            *(names or ("localhost", "127.0.0.1", "::1")), not_after=not_after
        )
        issued.configure_cert(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def key_and_chain(self) -> tuple[bytes, bytes]:
        """Of a server on loopback, both as PEM."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1", "::1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return issued.private_key_pem.bytes(), chain

    def ca_file(self, directory: Path) -> str:
        """Write the authority's certificate into `directory`; the path of the PEM file."""
        path = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(path))
        return str(path)


class Machine:
    """What the machine trusts, for one test: nothing until `file` or `directory` is filled."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = root / "machine.pem"
        self.directory = root / "machine"
        paths = ssl.DefaultVerifyPaths(
            "", "", "SSL_CERT_FILE", str(self.file), "SSL_CERT_DIR", str(self.directory)
        )
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
