"""`kind: google`: which of Google's credentials a row has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relay.credentials.base import Credential
from relay.credentials.google_file import file_object, is_token_address
from relay.credentials.google_library import LibraryCredential
from relay.credentials.google_metadata import MetadataCredential
from relay.credentials.google_service_account import ServiceAccountCredential
from relay.credentials.google_user import UserCredential

if TYPE_CHECKING:
    from relay.config.credentials import GoogleConfig
    from relay.config.providers import ProviderConfig


def build(config: GoogleConfig, row: ProviderConfig) -> Credential:
    """`default` is the file where there is one (the configuration has looked where Google's
    libraries do), else the metadata server.

    Raises:
        ValueError: the file is not what it should be, or `library` is not installed.
    """
    if config.token_uri is not None and not is_token_address(config.token_uri):
        raise ValueError("credential.token_uri: an https:// address is expected")
    if config.source == "library":
        return LibraryCredential(config.file, config.scopes, config.quota_project)
    if config.source == "metadata" or config.file is None:
        return MetadataCredential(
            config.metadata_host, config.service_account, config.scopes, config.quota_project
        )
    try:
        return _of_file(config, config.file)
    except ValueError as error:
        raise ValueError(f"credential.file: {error}") from None


def _of_file(config: GoogleConfig, path: str) -> Credential:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    kind = file_object(content, path).get("type")
    wanted = {"service_account": "service_account", "user": "authorized_user"}.get(config.source)
    if wanted is not None and kind != wanted:
        raise ValueError(f"{path}: type: `source: {config.source}` needs {wanted}")
    if kind == "service_account":
        return ServiceAccountCredential(
            path, content, config.scopes, config.token_uri, config.quota_project
        )
    if kind == "authorized_user":
        return UserCredential(path, content, config.token_uri, config.quota_project)
    raise ValueError(f"{path}: type: this one is read by `source: library` alone")
