"""`audit`: the log of who did what and who was refused; needs a store."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic import field_validator as validator

from relay.config.model import Model
from relay.config.references import resolve_secret, surroundings
from relay.config.secret import Secret
from relay.governance.audit_chain import MIN_KEY_CHARS
from relay.governance.audit_syslog import parse_address


def _resolved(value: object, info: ValidationInfo) -> object:
    return None if value is None else resolve_secret(value, surroundings(info))


def _long_enough(value: Secret) -> Secret:
    text = value.get_secret_value()
    if len(text) < MIN_KEY_CHARS or len(set(text)) < 8:
        raise ValueError(f"at least {MIN_KEY_CHARS} characters are needed, made at random")
    return value


KeyText = Annotated[Secret, BeforeValidator(_resolved), AfterValidator(_long_enough)]


class AuditConfig(Model):
    key: KeyText | None = Field(
        None,
        description=f"at least {MIN_KEY_CHARS} random characters that entries are signed with, from"
        " ${ENV_NAME} or ${file:PATH}; default: made from auth.pepper",
    )
    old_keys: tuple[KeyText, ...] = Field(
        (), max_length=8, description="of entries that were signed before; to verify them"
    )
    anchor: str | None = Field(
        "audit.anchor",
        validate_default=True,
        description="file that the end of the log is written to, relative to this file's folder;"
        " keep it where the database's owner cannot write; null: none",
    )
    checkpoint_s: int = Field(
        60, ge=1, le=86_400, description="between anchors, while there is something new"
    )
    syslog: str | None = Field(
        None, description="udp://HOST:PORT or unix:///PATH that gets every anchor too"
    )
    max_waiting: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="entries of the data path that are kept while the store cannot be written",
    )

    @validator("anchor")
    @classmethod
    def _in_a_folder(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The path from here."""
        if value is None:
            return None
        path = surroundings(info).folder / value
        if not value or path.is_dir():
            raise ValueError("a file is expected")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        return str(path)

    @validator("syslog")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            parse_address(value)
        return value
