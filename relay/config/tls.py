"""`tls`: certificates of the listeners, and which certificates of clients they take.

The files are read when the configuration is, so that what would fail every handshake is told by
its field at once. They are read again while the relay serves: see `relay.tls`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from relay.config.model import Model
from relay.config.pem_files import (
    certificates,
    is_key_of,
    is_signed_by_one_of,
    private_key,
    read,
    revocation_lists,
)
from relay.config.references import surroundings


def _or_number(schema: dict[str, Any]) -> None:
    """YAML takes 1.2 for a number."""
    schema["enum"] = [*schema["enum"], *(float(text) for text in schema["enum"])]
    del schema["type"]


class TlsConfig(Model):
    """Of all listeners or of one. Paths are relative to the configuration file's folder."""

    cert_file: str = Field(
        description="PEM: the listener's certificate, then those between it and its root"
    )
    key_file: str = Field(description="PEM: its private key, not encrypted")
    client_ca_file: str | None = Field(
        None,
        description="PEM: who signs certificates of clients (mTLS); without it none are asked for",
    )
    client_certificates: Literal["required", "optional"] = Field(
        "required",
        description="of `client_ca_file`: optional also lets clients in that have none; gRPC can"
        " only require them",
    )
    crl_file: str | None = Field(
        None, description="PEM: revocation lists, one of each authority that signs for clients"
    )
    min_version: Literal["1.2", "1.3"] = Field(
        "1.2",
        description="of TLS; older ones are broken",
        json_schema_extra=_or_number,
    )
    handshake_timeout_ms: int = Field(
        10_000, ge=10, description="a client that takes longer is cut off"
    )
    check_files_ms: int = Field(
        2_000,
        ge=0,
        description="how often is looked for new files; 0: only on SIGHUP",
    )

    @field_validator("cert_file")
    @classmethod
    def _certificate(cls, value: str, info: ValidationInfo) -> str:
        path = _path(value, info)
        certificates(read(path), path)
        return path

    @field_validator("key_file")
    @classmethod
    def _key(cls, value: str, info: ValidationInfo) -> str:
        path = _path(value, info)
        key = private_key(read(path), path)
        if (cert_file := info.data.get("cert_file")) is not None:
            certificate = certificates(read(cert_file), cert_file)[0]
            if not is_key_of(key, certificate):
                raise ValueError(f"{path} is not the key of the first certificate in {cert_file}")
        return path

    @field_validator("client_ca_file")
    @classmethod
    def _client_authorities(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        path = _path(value, info)
        certificates(read(path), path)
        return path

    @field_validator("client_certificates")
    @classmethod
    def _of_an_authority(cls, value: str, info: ValidationInfo) -> str:
        """Runs only where it is given."""
        if info.data.get("client_ca_file", "") is None:
            raise ValueError("needs a client_ca_file, which says whose certificates are taken")
        return value

    @field_validator("crl_file")
    @classmethod
    def _lists(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        path = _path(value, info)
        lists = revocation_lists(read(path), path)
        if "client_ca_file" not in info.data:
            return path  # which is at fault itself
        ca_file = info.data["client_ca_file"]
        if ca_file is None:
            raise ValueError("needs a client_ca_file, whose certificates it takes back")
        authorities = certificates(read(ca_file), ca_file)
        for each in lists:
            if not is_signed_by_one_of(each, authorities):
                raise ValueError(
                    f"the list of {each.issuer.rfc4514_string()!r} is signed by no certificate in"
                    f" {ca_file}; add its authority there"
                )
        return path

    @field_validator("min_version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, float) else value

    @property
    def asks_clients(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.client_ca_file is not None

    @property
    def requires_clients(self) -> bool:
        """Whether nobody gets in without one (mTLS)."""
        return self.asks_clients and self.client_certificates == "required"


_PATHS = ("cert_file", "key_file", "client_ca_file", "crl_file")


def is_like(one: TlsConfig | None, other: TlsConfig | None) -> bool:
    """Whether they differ in nothing but where files are, so that a listener can go from one to the
    other while it serves."""
    if one is None or other is None:
        return one is other
    moved = {name: getattr(other, name) for name in _PATHS}
    return one.model_copy(update=moved) == other and one.asks_clients == other.asks_clients


def _path(value: str, info: ValidationInfo) -> str:
    return str(surroundings(info).folder / value)


PLAIN = TlsConfig.model_construct(cert_file="", key_file="")
"""What `tls: false` of a listener stands for."""


def _plain(value: object) -> object:
    return PLAIN if value is False else value


def _with_false(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(1, {"const": False})


OneListenersTls = Annotated[
    TlsConfig | None,
    BeforeValidator(_plain),
    Field(
        description="goes before `tls` of the whole file; false: none on this listener",
        json_schema_extra=_with_false,
    ),
]
"""None where the listener says nothing of it."""
