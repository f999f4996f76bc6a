"""A throw-away certificate authority and the server certificate it signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LEFT = timedelta(days=1)
"""A certificate that ends sooner is not used again: the emulator may run for some time."""


@dataclass(frozen=True, slots=True)
class CertFiles:
    """PEM files in one directory."""

    ca: Path
    """What a client trusts: the relay's `ca_file`."""
    chain: Path
    key: Path


def make_certs(
    directory: Path, names: tuple[str, ...] = (), *, is_expired: bool = False
) -> CertFiles:
    """`ca.pem`, `cert.pem` and `key.pem` in the directory; names default to the loopback ones.

    What an earlier call has left there is kept if it is as wanted and still valid, since clients
    that run have read its `ca.pem`; else it is written anew, with another authority.

    Args:
        is_expired: the certificate ended yesterday.

    Raises:
        OSError: the directory or a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = CertFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    names = names or _LOOPBACK
    if _is_usable(files, names, is_expired=is_expired):
        return files
    authority = trustme.CA()
    issued = authority.issue_cert(
        *names, not_after=datetime.now(UTC) - timedelta(days=1) if is_expired else None
    )
    authority.cert_pem.write_to_path(str(files.ca))
    files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    files.key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(files.key))
    return files


def _is_usable(files: CertFiles, names: tuple[str, ...], *, is_expired: bool) -> bool:
    """Whether the files are there, belong together and say what is wanted."""
    try:
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        issued = x509.load_pem_x509_certificate(files.chain.read_bytes())
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        issued.verify_directly_issued_by(authority)
        found = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    now = datetime.now(UTC)
    is_dated = (
        issued.not_valid_after_utc < now if is_expired else issued.not_valid_after_utc > now + _LEFT
    )
    spoken = {str(name.value) for name in found}
    return (
        is_dated
        and authority.not_valid_after_utc > now + _LEFT
        and issued.public_key() == key.public_key()
        and spoken == set(names)
    )
