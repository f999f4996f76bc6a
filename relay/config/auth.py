"""`auth`: callers need keys. Without it anybody who can connect is let in."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from relay.config.model import Model
from relay.config.references import resolve_secret, surroundings
from relay.config.secret import Secret
from relay.governance.pepper import MIN_CHARACTERS, check_strength


def _resolved(value: object, info: ValidationInfo) -> object:
    return resolve_secret(value, surroundings(info))


def _strong(value: Secret) -> Secret:
    check_strength(value.get_secret_value())
    return value


PepperText = Annotated[Secret, BeforeValidator(_resolved), AfterValidator(_strong)]


class AuthConfig(Model):
    pepper: PepperText = Field(
        description=f"at least {MIN_CHARACTERS} random characters, from ${{ENV_NAME}} or"
        " ${file:PATH}: what the store keeps of keys is made with it and is of no use without it;"
        " when it is lost, so is every key",
    )
    old_peppers: tuple[PepperText, ...] = Field(
        (), max_length=8, description="keys that were made with these still hold"
    )
    sync_ms: int = Field(
        250, ge=50, le=900, description="between looks at the store for keys that were changed"
    )
    stale_s: int = Field(
        60, ge=5, le=3600, description="how long known keys hold while the store cannot be read"
    )
