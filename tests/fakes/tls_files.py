"""A folder of certificates as an operator keeps them: of the relay, and of its clients.

Two authorities, one that clients trust and one that the relay does; `TlsFiles.settings` is the
`tls` section that names their files. What is renewed is written beside and moved into place.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

HOSTS = ("localhost", "127.0.0.1")


class Identity(NamedTuple):
    """A certificate with its key, both PEM, and where they are."""

    chain: bytes
    key: bytes
    cert_file: str
    key_file: str

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain)


def at(**ago: float) -> datetime:
    """So long before now; negative for after."""
    return datetime.now(UTC) - timedelta(**ago)


class TlsFiles:
    """`files.settings(...)`; `renew`, `revoke` while it serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        """Whom clients trust."""
        self.clients = trustme.CA()
        """Whom the relay trusts."""
        self._lists = 0
        (folder / "ca.pem").write_bytes(self.authority.cert_pem.bytes())
        (folder / "clients.pem").write_bytes(self.clients.cert_pem.bytes())
        self.renew()

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def settings(self, *, clients: str = "", crl: bool = False, **more: Any) -> dict[str, Any]:
        """A `tls` section.

        Args:
            clients: "required" or "optional"; "" to ask for no certificates.
        """
        found: dict[str, Any] = {"cert_file": "server.pem", "key_file": "server.key"}
        if clients:
            found |= {"client_ca_file": "clients.pem", "client_certificates": clients}
        if crl:
            found["crl_file"] = "clients.crl"
        return {**found, **more}

    def renew(self, **options: Any) -> int:
        """Another certificate for the listeners; its serial number."""
        issued = self.authority.issue_cert(*HOSTS, **options)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.put("server.key", issued.private_key_pem.bytes())
        self.put("server.pem", chain)
        return x509.load_pem_x509_certificate(chain).serial_number

    def put(self, name: str, data: bytes) -> None:
        """Move a file into place."""
        path, beside = self.folder / name, self.folder / f".{name}"
        beside.write_bytes(data)
        beside.chmod(0o600)
        beside.replace(path)

    def trust_clients_of(self, authority: trustme.CA) -> None:
        """Take the certificates of another one's clients from now on."""
        self.put("clients.pem", authority.cert_pem.bytes())

    # --- clients ----------------------------------------------------------------------------

    def client(
        self,
        name: str = "agent",
        *,
        by: trustme.CA | None = None,
        names: Iterable[x509.GeneralName] | None = None,
        ends: datetime | None = None,
    ) -> Identity:
        """A client's certificate, `DNS:NAME.test` and `CN:NAME` unless told otherwise."""
        authority = by or self.clients
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        alternatives = list(names) if names is not None else [x509.DNSName(f"{name}.test")]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at(days=2))
            .not_valid_after(ends or at(days=-2))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        if alternatives:
            extension = x509.SubjectAlternativeName(alternatives)
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(_signer(authority), hashes.SHA256())
        chain = certificate.public_bytes(Encoding.PEM)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.put(f"{name}.pem", chain)
        self.put(f"{name}.key", pem)
        where = (str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))
        return Identity(chain, pem, *where)

    def revoke(self, *revoked: Identity, runs_out: datetime | None = None) -> None:
        """Write the list of the relay's authority anew."""
        data = revocation_list(self.clients, *revoked, runs_out=runs_out, number=self._lists)
        self._lists += 1
        self.put("clients.crl", data)

    def context(
        self,
        client: Identity | None = None,
        *,
        trust: trustme.CA | None = None,
        alpn: tuple[str, ...] = (),
        only: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """Of a client in Python.

        Args:
            trust: another authority than the relay's.
            only: the one version of TLS that it speaks.
        """
        context = ssl.create_default_context()
        (trust or self.authority).configure_trust(context)
        if client is not None:
            context.load_cert_chain(client.cert_file, client.key_file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if only is not None:
            context.set_ciphers("DEFAULT@SECLEVEL=0")  # else it would not even ask for TLS 1.1
            context.minimum_version = context.maximum_version = only
        return context

    def credentials(
        self, client: Identity | None = None, *, trust: trustme.CA | None = None
    ) -> grpc.ChannelCredentials:
        """Of a gRPC client; as of `context`."""
        roots = (trust or self.authority).cert_pem.bytes()
        if client is None:
            return grpc.ssl_channel_credentials(roots)
        return grpc.ssl_channel_credentials(roots, client.key, client.chain)


def revocation_list(
    authority: trustme.CA, *revoked: Identity, runs_out: datetime | None = None, number: int = 0
) -> bytes:
    """PEM of an authority's list; the one with the higher number is newer."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    made = at(days=1, seconds=-number) if runs_out is None else runs_out - timedelta(days=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(made)
        .next_update(runs_out or at(days=-7))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for identity in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(identity.leaf.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(at(days=1)).build())
    return builder.sign(_signer(authority), hashes.SHA256()).public_bytes(Encoding.PEM)


def _signer(authority: trustme.CA) -> Any:
    return load_pem_private_key(authority.private_key_pem.bytes(), None)
