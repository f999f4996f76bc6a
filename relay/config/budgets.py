"""`budgets`: what holds for every budget. Budgets themselves are in the store, where administrators
make and change them (`relay budgets`)."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.model import Model
from relay.config.providers import split_url
from relay.config.reach import AllowPrivate, require_reachable
from relay.config.references import expand_secret, resolve_secret, surroundings
from relay.config.secret import Secret

LEAST_SECRET_CHARS = 32


class AlertsConfig(Model):
    """Where it is told that so much of a budget is spent."""

    url: Secret = Field(description="https; http for this machine alone")
    secret: Secret = Field(
        description="signs what is sent: at least 32 characters, as ${NAME} or ${file:PATH}"
    )
    allow_private: AllowPrivate = None
    timeout_ms: int = Field(10_000, ge=100, le=60_000, description="of one delivery")
    give_up_h: float = Field(
        24.0, gt=0, le=24 * 14, allow_inf_nan=False, description="after it was noticed"
    )

    @field_validator("url", mode="before")
    @classmethod
    def _references(cls, value: object, info: ValidationInfo) -> object:
        return expand_secret(value, info)

    @field_validator("url")
    @classmethod
    def _url(cls, value: Secret) -> Secret:
        return signed_address(value)

    @field_validator("secret", mode="before")
    @classmethod
    def _look_up(cls, value: object, info: ValidationInfo) -> object:
        return resolve_secret(value, surroundings(info))

    @field_validator("secret")
    @classmethod
    def _secret(cls, value: Secret) -> Secret:
        if len(value.get_secret_value()) < LEAST_SECRET_CHARS:
            raise ValueError(f"at least {LEAST_SECRET_CHARS} characters are needed")
        return value


class BudgetsConfig(Model):
    unset_max_tokens: Literal["set", "refuse"] = Field(
        "set",
        description="what a request without a limit for its answer gets where a hard budget"
        " applies: default_max_tokens, or a refusal that names the field",
    )
    default_max_tokens: int = Field(4096, ge=1, le=1_000_000)
    lease_s: int = Field(
        30,
        ge=2,
        le=3600,
        description="how long after its worker's last sign of life a reservation stays; then it is"
        " settled at the most that it can have cost",
    )
    alerts: AlertsConfig | None = None


def signed_address(value: Secret) -> Secret:
    """An address to which signed messages go.

    Raises:
        ValueError: it is neither https nor http of this machine, or has more than an address.
    """
    parts = split_url(value.get_secret_value(), ("https", "http"))
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("an https:// address is expected; http:// for this machine alone")
    if "@" in parts.netloc:
        raise ValueError("no user or password belongs here: the signature tells who sends")
    if parts.fragment:
        raise ValueError("no #fragment belongs here")
    require_reachable(parts.hostname or "", None)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
