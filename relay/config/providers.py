"""`providers`: whom the relay may ask, and by which credentials."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from relay.config.credentials import AnyCredentialConfig, CredentialConfig, StaticConfig
from relay.config.doors import text_of, zone_of_region
from relay.config.model import Model
from relay.config.reach import AllowPrivate, require_reachable
from relay.config.references import expand, resolve_secret, surroundings
from relay.config.secret import Secret
from relay.transport.base import HttpMode


class ProxyUrl(str):
    """Address of an egress proxy, with its user and password: a text that has no repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


_HOSTS_OF_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def split_url(value: str, schemes: tuple[str, ...]) -> SplitResult:
    """
    Raises:
        ValueError: it is no such address. The standard library's own messages quote parts of it,
            and a password may be among them.
    """
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or not value.isprintable() or " " in value:
        raise ValueError(f"an {wanted} address is expected")
    return parts


def expand_headers(value: object, info: ValidationInfo) -> dict[str, Secret]:
    """Headers whose values may hold references, names in lower case.

    Raises:
        ValueError: a name or a value is none that may be sent; the header is named, no value is.
    """
    if not isinstance(value, dict):
        raise ValueError("a mapping of names to values is expected")  # noqa: TRY004
    around = surroundings(info)
    headers: dict[str, Secret] = {}
    for name, given in value.items():
        # No more than the part that can be a name is shown: `{Authorization:Bearer x}` without
        # its blank makes a name of the whole.
        shown = _HEADER_NAME.match(str(name))
        called = repr(shown[0]) if shown else "a name"
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{called} is not a header name, or more than one")
        try:
            text = expand(given, around)
        except ValueError as error:
            raise ValueError(f"{called}: {error}") from None
        if not text.isprintable() or not text.isascii():
            raise ValueError(f"the value of {called} has characters that no header may carry")
        headers[name.lower()] = Secret(text)
    return headers


def readable_file(value: str | None, info: ValidationInfo) -> str | None:
    """The path from here; what cannot be read now would fail every connection later."""
    if value is None:
        return None
    path = surroundings(info).folder / value
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return str(path)


AuthStyle = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]


CancelBilling = Literal["stops", "used_tokens", "full", "unknown"]

ServiceTier = Literal[
    "",
    "auto",
    "default",
    "fast",
    "flex",
    "performance",
    "priority",
    "reserved",
    "scale",
    "standard",
]
"""Words of the providers': `scale` and `fast` are OpenAI's, `reserved` Bedrock's, `performance`
Groq's, `standard` is Google's for what others call `default`."""

ZONE_PATTERN = r"^[a-z][a-z0-9-]{0,31}$"
RETENTION_PATTERN = r"^(\d{1,5}d|unknown)$"

Zone = Annotated[str, Field(pattern=ZONE_PATTERN)]
"""A word of the operator's: `eu`, `us`, `global`, ... Zones are equal or strangers."""


class WebSocketConfig(Model):
    """Bounds of one WebSocket that is handed through."""

    max_message_bytes: int = Field(
        24 * 1024 * 1024,
        ge=1024,
        description="one message: OpenAI takes 15 MiB of sound in one, which base64 makes 20",
    )
    waiting_bytes: int = Field(
        256 * 1024,
        ge=1024,
        description="what may wait for a side that does not read, beside the message at hand",
    )
    connect_ms: int = Field(10_000, ge=1, description="until the provider has taken it")
    ping_ms: int = Field(
        20_000,
        ge=100,
        description="between our pings; a side that answers none for so long is gone",
    )
    idle_ms: int = Field(600_000, ge=1, description="without a message either way")
    total_ms: int = Field(7_200_000, ge=1)


class PassthroughConfig(Model):
    """What is handed through to a provider unread, and its bounds."""

    max_request_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, description="one body, which is held while it is sent"
    )
    connect_ms: int = Field(3_000, ge=1)
    first_byte_ms: int = Field(
        120_000, ge=1, description="until the answer begins: pictures take a minute"
    )
    idle_ms: int = Field(60_000, ge=1, description="the provider's longest silence after that")
    total_ms: int = Field(900_000, ge=1)
    websocket: WebSocketConfig = WebSocketConfig()


class ProviderConfig(Model):
    """One account at one provider. A known name brings its wire, address and quirks along."""

    door: str = Field(
        "", description="row of the known providers that this is one of; default: its own name"
    )
    wire: str
    base_url: str
    resource: str | None = Field(None, description="of Azure: the resource's name")
    project: str | None = Field(None, description="of Google Cloud: the project's id")
    api_version: str | None = Field(None, description="of Azure's deployment paths")
    region: str = Field("", description="part of addresses and signatures where the door has one")
    data_zone: Zone | None = Field(
        None,
        description="where prompts may be processed, as agreed with the provider; never guessed"
        " from the region; unset: unknown, which is in no zone",
    )
    retention: str = Field(
        "unknown",
        pattern=RETENTION_PATTERN,
        description="how long the provider keeps prompts, in days (`30d`); told, not enforced",
    )
    service_tier: ServiceTier = Field("", description="of requests that name none themselves")
    service_tiers: tuple[ServiceTier, ...] = Field(
        (), description="that can be asked for with a request, beside the usual one"
    )
    same_as: dict[str, str] = Field(
        default_factory=dict,
        description="this provider's name of a model -> the class of `same_models` that it is of,"
        " or a word of the operator's own",
    )
    api_key: Secret | None = None
    api_keys: tuple[Secret, ...] = ()
    spread_keys: bool = Field(
        False, description="sessions are spread over `api_keys`; else the first serves"
    )
    credential: CredentialConfig | None = Field(
        None, description="in the place of api_key: tokens and signatures that the relay renews"
    )
    auth: AuthStyle = "bearer"
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="sent with every request; values may hold references"
    )
    http: HttpMode = "auto"
    ca_file: str | None = Field(
        None, description="PEM file of the only trusted roots; relative to this file's folder"
    )
    allow_private: AllowPrivate = None
    egress_proxy: Secret | None = Field(
        None, description="http, https or socks5 URL; its password should be a reference"
    )
    warm_connections: int = Field(2, ge=0, le=64, description="open before the first request")
    max_streams: int = Field(
        100, ge=1, le=10_000, description="per connection; the usual limit of HTTP/2 servers"
    )
    rpm: int | None = Field(
        None, ge=1, description="requests a minute of each model; more go to other candidates"
    )
    tpm: int | None = Field(None, ge=1, description="tokens a minute of each model, likewise")
    probe_path: str | None = Field(
        None, description="asked to keep a connection warm; default: the list of models"
    )
    models: tuple[str, ...] = ()
    prices: dict[str, PriceConfig] = Field(
        default_factory=dict, description="by model, where the published ones are not yours"
    )
    quirks: dict[str, Any] = Field(default_factory=dict)
    cancel_billing: CancelBilling = "unknown"
    caches_prompts: bool = Field(
        False, description="keeps prefixes of prompts, so that a session's is sent ahead"
    )
    trace_context: bool = Field(
        False,
        description="tells the provider of the trace that a request belongs to: `traceparent`, and"
        " the client's `tracestate`",
    )
    passthrough: PassthroughConfig | None = Field(
        None,
        description="hands through what the relay does not translate (files, images, sound, ...):"
        " true, or bounds",
    )

    @field_validator("api_version", mode="before")
    @classmethod
    def _version(cls, value: object) -> object:
        return text_of(value)

    @field_validator("passthrough", mode="before")
    @classmethod
    def _passthrough(cls, value: object) -> object:
        if value is True:
            return {}
        return None if value is False else value

    @field_validator("api_key", mode="before")
    @classmethod
    def _one_secret(cls, value: object, info: ValidationInfo) -> object:
        return None if value is None else resolve_secret(value, surroundings(info))

    @field_validator("api_keys", mode="before")
    @classmethod
    def _secrets(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("a list of secrets is expected")  # noqa: TRY004 - pydantic's protocol
        around = surroundings(info)
        return tuple(resolve_secret(item, around) for item in value)

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = split_url(value, ("http", "https"))
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("only scheme, host, port and path belong here")
        return value.rstrip("/")

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return readable_file(value, info)

    @field_validator("egress_proxy", mode="before")
    @classmethod
    def _proxy(cls, value: object, info: ValidationInfo) -> object:
        if value is None:
            return None
        url = expand(value, surroundings(info))
        split_url(url, ("http", "https", "socks5", "socks5h"))
        return Secret(url)

    @field_validator("headers", mode="before")
    @classmethod
    def _headers(cls, value: object, info: ValidationInfo) -> object:
        return expand_headers(value, info)

    @model_validator(mode="after")
    def _reachable(self) -> ProviderConfig:
        try:
            require_reachable(urlsplit(self.base_url).hostname or "", self.allow_private)
        except ValueError as error:
            raise ValueError(f"base_url: {error}") from None
        return self

    @model_validator(mode="after")
    def _one_credential(self) -> ProviderConfig:
        if self.credential is not None and self.keys:
            raise ValueError("credential: there is an api_key as well; give one of the two")
        if self.credential is not None and self.credential.kind == "aws_sigv4" and not self.region:
            raise ValueError("region: is required for signatures of AWS")
        return self

    @property
    def credentials(self) -> AnyCredentialConfig:
        """How it is asked: `credential`, or the row's keys as one."""
        if self.credential is not None:
            return self.credential
        return StaticConfig(api_keys=self.keys, spread_keys=self.spread_keys)

    def zone_at(self, door: str) -> str:
        """Where its models answer, save those whose names say otherwise; empty for unknown."""
        return zone_of_region(door, self.region, self.data_zone)

    def zoned_as(self, door: str) -> str:
        """The door by whose rules names of models say their zone: Bedrock's wherever Bedrock is
        asked, also by a row that names no door."""
        host = (urlsplit(self.base_url).hostname or "").lower()
        credential = self.credential
        is_aws = (
            self.wire == "bedrock_converse"
            or (credential is not None and credential.kind == "aws_sigv4")
            or host.endswith(_HOSTS_OF_AWS)
        )
        return "bedrock" if is_aws else door

    @property
    def keys(self) -> tuple[Secret, ...]:
        """All credentials of the row, `api_key` first."""
        return ((self.api_key,) if self.api_key else ()) + self.api_keys


class RatesConfig(Model):
    """US dollars per million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="default: as `input`"
    )
    cache_write: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="of what is put into the provider's cache; default: as `input`",
    )
    output: float = Field(ge=0, allow_inf_nan=False)


class PriceConfig(RatesConfig):
    """Of a model, and of its service tiers where they cost otherwise."""

    tiers: dict[ServiceTier, RatesConfig] = Field(
        default_factory=dict, description="of requests at a service tier, such as `priority`"
    )
