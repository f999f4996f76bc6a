"""How a command of ours speaks TLS with a relay: what its options say, as gRPC takes it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import grpc


class ClientTlsError(Exception):
    """An option cannot be right; the message names it."""


class ClientTls(NamedTuple):
    """Options of the command line."""

    is_on: bool = False
    """`--tls`; any of the others implies it."""
    ca_file: Path | None = None
    """Whom to trust; public authorities without it."""
    cert_file: Path | None = None
    """Certificate of this client, for mTLS; with `key_file`."""
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plain text.

        Raises:
            ClientTlsError: a file cannot be read, or one of two is missing.
        """
        if not (self.is_on or self.ca_file or self.cert_file or self.key_file):
            return None
        if (self.cert_file is None) != (self.key_file is None):
            raise ClientTlsError("--cert-file and --key-file go together")
        return grpc.ssl_channel_credentials(
            _read("--ca-file", self.ca_file),
            _read("--key-file", self.key_file),
            _read("--cert-file", self.cert_file),
        )


def _read(option: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientTlsError(f"{option}: cannot read {path}: {error.strerror}") from error
