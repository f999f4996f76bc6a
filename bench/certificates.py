"""A certificate for a relay of the bench, by an authority of its own (P-256)."""

from __future__ import annotations

from pathlib import Path

import trustme


def issue(directory: Path, name: str) -> tuple[dict[str, str], Path]:
    """For loopback: the `tls` section of a configuration in that directory, and whom clients are to
    trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    ca_file = directory / f"{name}-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    issued.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    (directory / f"{name}.pem").write_bytes(chain)
    return {"cert_file": f"{name}.pem", "key_file": f"{name}.key"}, ca_file
