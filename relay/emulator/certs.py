"""A throw-away certificate authority and the server certificate it signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


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
    """Write `ca.pem`, `cert.pem` and `key.pem`; names default to the loopback ones.

    Args:
        is_expired: the certificate ended yesterday.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = CertFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert(
        *(names or ("localhost", "127.0.0.1", "::1")),
        not_after=datetime.now(UTC) - timedelta(days=1) if is_expired else None,
    )
    authority.cert_pem.write_to_path(str(files.ca))
    files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    files.key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(files.key))
    return files
