"""What is wrong, or will be soon, with files of credentials, and still serves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from relay.config.client_certificate import FILE, client_certificate
from relay.config.credentials import AzureEntraConfig
from relay.config.pem_files import read
from relay.config.tls_warnings import of_dates
from relay.config.whole import Config


def credential_warnings(config: Config, at: datetime) -> Iterator[str]:
    """One line each. Reads the files; one that cannot be used is left to who uses it."""
    for name, row in config.providers.items():
        credential = row.credential
        if not isinstance(credential, AzureEntraConfig) or credential.certificate_file is None:
            continue
        path, password = credential.certificate_file, credential.certificate_password
        text = None if password is None else password.get_secret_value()
        try:
            leaf = client_certificate(read(path), path, text).leaf
        except ValueError:
            continue
        field = f"providers.{name}.credential.{FILE}"
        yield from of_dates(field, "the certificate", leaf, at)
