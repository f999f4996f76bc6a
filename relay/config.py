"""The configuration file as frozen models, validated once at load.

Unknown keys are refused with the nearest known name, keys of later capabilities as not yet there;
API keys come only as `${ENV_NAME}` or `${file:path}`. Headers, proxies and stores may hold such
references among other text. None of these values is in a repr, a log line or a `ConfigError`.
Relative paths, those of `ca_file` too, start from the file's folder.

With no file at all the providers come from the well-known environment variables, and with none of
those set the caller starts the emulator.

Every default has a unit in its name and a reason in its description; `json_schema()`, which
`relay check --schema` prints, publishes them. Times are milliseconds here, as people write them,
and seconds everywhere behind.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from relay.codecs.registry import BUILDERS
from relay.transport.base import HttpMode

RESERVED_KEYS = (
    "auth",
    "limits",
    "budgets",
    "policies",
    "cache",
    "guardrails",
    "telemetry",
    "tls",
)
"""Top-level keys of capabilities that are not there yet: refused, never ignored."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names every field at fault."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _split_address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not HOST:PORT")
    return value


Address = Annotated[str, AfterValidator(_split_address)]


class Listener(_Model):
    """Where one server listens."""

    address: Address

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class GrpcListener(Listener):
    address: Address = "127.0.0.1:50051"
    unix_socket: str | None = Field(None, description="a second, local door for sidecars")
    reflection: bool = Field(False, description="lets grpc tools list the service; off by default")
    max_request_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="one message of a client")
    max_live_generations: int = Field(
        8, ge=1, description="per session: one spoken, some speculative, some beside the call"
    )
    session_idle_ms: int = Field(
        3_600_000,
        ge=0,
        description="a session without a frame and without a generation for so long ends; 0: never",
    )


class ResponsesStoreConfig(_Model):
    max_responses: int = Field(10_000, ge=1, description="the longest unused goes first")
    max_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="of all that is kept")
    ttl_s: int = Field(3600, ge=1, description="since its last use")


class IdempotencyConfig(_Model):
    max_answers: int = Field(1000, ge=1, description="the oldest goes first")
    max_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="of all that is kept; one answer a fourth of it"
    )
    ttl_s: int = Field(3600, ge=1, description="since the answer")


class HttpListener(Listener):
    address: Address = "127.0.0.1:8080"
    max_request_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="one request body")
    commit_headers_after_ms: int = Field(
        15_000, ge=0, description="then 200 and comments, so that slow models survive proxies"
    )
    comment_interval_ms: int = Field(
        15_000, ge=100, description="between keep-alive comments while nothing has come"
    )
    responses_store: ResponsesStoreConfig | None = Field(
        None,
        description="keeps responses for previous_response_id, each worker in its own memory;"
        " {} turns it on, without it nothing is kept",
    )
    idempotency: IdempotencyConfig = Field(
        IdempotencyConfig(),
        description="keeps answers of requests that carry an idempotency key, each worker in its"
        " own memory, so that a repeat is not asked and paid for again",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='pages that may read answers, as `https://app.test`; "*" for all'
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _one_origin(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            url = urlsplit(origin)
            is_plain = f"{url.scheme}://{url.netloc}" == origin and "@" not in origin
            if origin != "*" and not (is_plain and url.scheme in ("http", "https") and url.netloc):
                raise ValueError(f"{origin!r} is no origin such as https://app.test, and not *")
        return value


class AdminListener(Listener):
    address: Address = "127.0.0.1:8081"


class ServerConfig(_Model):
    grpc: GrpcListener = GrpcListener()
    http: HttpListener = HttpListener()
    admin: AdminListener = AdminListener()
    drain_grace_ms: int = Field(30_000, ge=0, description="running generations may finish in it")
    slow_consumer_ms: int = Field(
        30_000, ge=100, description="a client that reads nothing for so long loses its generation"
    )
    lane_bytes: int = Field(
        65_536, ge=1024, description="output held for one generation while its client is slow"
    )

    @property
    def listeners(self) -> dict[str, Listener]:
        """By their names here."""
        return {"grpc": self.grpc, "http": self.http, "admin": self.admin}

    @property
    def exposed(self) -> list[str]:
        """A line for each listener that other machines can reach: without client keys nobody may
        start with one."""
        return [
            f"server.{name}.address {listener.address} is reachable from outside, and this version"
            " has no client keys yet: bind to a loopback address and put an authenticating proxy"
            " in front"
            for name, listener in self.listeners.items()
            if not listener.is_loopback
        ]


class TransportConfig(_Model):
    engine: Literal["wreq", "pyqwest", "httpx"] = Field("wreq", description="upstream HTTP client")
    probe_interval_ms: int = Field(
        30_000, ge=1000, description="a cheap request of our own keeps idle connections warm"
    )
    max_connection_age_ms: int = Field(
        600_000, ge=10_000, description="then a new one takes over before the old one goes"
    )
    max_connections: int = Field(
        8, ge=1, le=256, description="HTTP/2, per provider address; beyond their streams is waited"
    )
    max_http1_connections: int = Field(
        64, ge=1, le=4096, description="HTTP/1.1, per provider address; each carries one request"
    )
    dial_timeout_ms: int = Field(
        3_000, ge=50, le=60_000, description="TCP and TLS of one new connection"
    )


_REFERENCE = re.compile(r"\$\{(?:(?P<env>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<file>[^}]+))\}")


class _Surroundings(NamedTuple):
    """Where the references of a file lead."""

    environment: Mapping[str, str]
    """What `${NAME}` is looked up in."""
    folder: Path
    """Where relative paths start: the file's own folder, so that they mean the same from
    wherever the relay is started."""


def _surroundings(info: ValidationInfo) -> _Surroundings:
    """As given to `parse`; of this process where a model is validated by itself."""
    given: _Surroundings | None = info.context
    return _Surroundings(os.environ, Path()) if given is None else given


def _look_up(reference: re.Match[str], around: _Surroundings) -> str:
    """
    Raises:
        ValueError: there is nothing behind the reference; it is named, no value is.
    """
    if (name := reference["env"]) is not None:
        secret = around.environment.get(name, "")
        if not secret:
            raise ValueError(f"the environment variable {name} is not set")
        return secret
    path = around.folder / reference["file"]
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None  # its bytes are the secret
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


def _resolve_secret(value: object, around: _Surroundings) -> object:
    """`${NAME}` from the environment, `${file:PATH}` from a file; anything else is refused."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or (match := _REFERENCE.fullmatch(value)) is None:
        raise ValueError("a secret is given as ${ENV_NAME} or ${file:PATH}, never in the file")
    secret = _look_up(match, around)
    if not secret.isascii() or any(c.isspace() or not c.isprintable() for c in secret):
        raise ValueError("the secret has white space or characters that no header may carry")
    return SecretStr(secret)


def _expand(value: object, around: _Surroundings) -> str:
    """A text with every reference in it replaced.

    Raises:
        ValueError: it is no text, a reference is malformed or leads nowhere.
    """
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if not isinstance(value, str):
        raise ValueError("a text is expected")  # noqa: TRY004 - pydantic's protocol
    if "${" in _REFERENCE.sub("", value):
        raise ValueError("a reference is ${ENV_NAME} or ${file:PATH}")
    return _REFERENCE.sub(lambda match: _look_up(match, around), value)


def _expand_secret(value: object, info: ValidationInfo) -> object:
    """`_expand`, and never shown again."""
    return None if value is None else SecretStr(_expand(value, _surroundings(info)))


class StoreConfig(_Model):
    url: SecretStr = Field(
        SecretStr("sqlite:///relay.db"), json_schema_extra={"default": "sqlite:///relay.db"}
    )
    redis: SecretStr | None = None

    _secrets = field_validator("url", "redis", mode="before")(_expand_secret)


class ProxyUrl(str):
    """Address of an egress proxy, with its user and password: a text that has no repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _split_url(value: str, schemes: tuple[str, ...]) -> SplitResult:
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


AuthStyle = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]


CancelBilling = Literal["stops", "used_tokens", "full", "unknown"]


class WebSocketConfig(_Model):
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


class PassthroughConfig(_Model):
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


class ProviderConfig(_Model):
    """One account at one provider. A known name brings its wire, address and quirks along."""

    wire: str
    base_url: str
    api_key: SecretStr | None = None
    api_keys: tuple[SecretStr, ...] = ()
    auth: AuthStyle = "bearer"
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="sent with every request; values may hold references"
    )
    http: HttpMode = "auto"
    ca_file: str | None = Field(
        None, description="PEM file of the only trusted roots; relative to this file's folder"
    )
    egress_proxy: SecretStr | None = Field(
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
    passthrough: PassthroughConfig | None = Field(
        None,
        description="hands through what the relay does not translate (files, images, sound, ...):"
        " true, or bounds",
    )

    @field_validator("passthrough", mode="before")
    @classmethod
    def _passthrough(cls, value: object) -> object:
        if value is True:
            return {}
        return None if value is False else value

    @field_validator("api_key", mode="before")
    @classmethod
    def _one_secret(cls, value: object, info: ValidationInfo) -> object:
        return None if value is None else _resolve_secret(value, _surroundings(info))

    @field_validator("api_keys", mode="before")
    @classmethod
    def _secrets(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("a list of secrets is expected")  # noqa: TRY004 - pydantic's protocol
        around = _surroundings(info)
        return tuple(_resolve_secret(item, around) for item in value)

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = _split_url(value, ("http", "https"))
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("only scheme, host, port and path belong here")
        return value.rstrip("/")

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The path from here; what cannot be read now would fail every connection later."""
        if value is None:
            return None
        path = _surroundings(info).folder / value
        try:
            path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        return str(path)

    @field_validator("egress_proxy", mode="before")
    @classmethod
    def _proxy(cls, value: object, info: ValidationInfo) -> object:
        if value is None:
            return None
        url = _expand(value, _surroundings(info))
        _split_url(url, ("http", "https", "socks5", "socks5h"))
        return SecretStr(url)

    @field_validator("headers", mode="before")
    @classmethod
    def _headers(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, dict):
            raise ValueError("a mapping of names to values is expected")  # noqa: TRY004
        around = _surroundings(info)
        headers: dict[str, SecretStr] = {}
        for name, given in value.items():
            # No more than the part that can be a name is shown: `{Authorization:Bearer x}` without
            # its blank makes a name of the whole.
            shown = _HEADER_NAME.match(str(name))
            called = repr(shown[0]) if shown else "a name"
            if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{called} is not a header name, or more than one")
            try:
                text = _expand(given, around)
            except ValueError as error:
                raise ValueError(f"{called}: {error}") from None
            if not text.isprintable() or not text.isascii():
                raise ValueError(f"the value of {called} has characters that no header may carry")
            headers[name.lower()] = SecretStr(text)
        return headers

    @property
    def keys(self) -> tuple[SecretStr, ...]:
        """All credentials of the row, `api_key` first."""
        return ((self.api_key,) if self.api_key else ()) + self.api_keys


class TimeoutsConfig(_Model):
    """Limits of one attempt. Fields left out come from the class."""

    timeout_class: Literal["auto", "default", "reasoning"] = Field(
        "auto",
        alias="class",
        description="auto: reasoning when the request asks for reasoning effort or budget",
    )
    connect_ms: int | None = Field(None, ge=1)
    first_token_ms: int | None = Field(None, ge=1)
    inter_token_ms: int | None = Field(None, ge=1)
    total_ms: int | None = Field(None, ge=1)


TIMEOUT_CLASSES_MS: Mapping[str, Mapping[str, int]] = {
    # First token: the slowest p99 of the published non-reasoning models is near 10 s.
    "default": {
        "connect_ms": 1_000,
        "first_token_ms": 10_000,
        "inter_token_ms": 10_000,
        "total_ms": 120_000,
    },
    # Reasoning models are silent for minutes before and between their words.
    "reasoning": {
        "connect_ms": 1_000,
        "first_token_ms": 120_000,
        "inter_token_ms": 60_000,
        "total_ms": 900_000,
    },
}


class PriceConfig(_Model):
    """US dollars per million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="default: as `input`"
    )
    output: float = Field(ge=0, allow_inf_nan=False)


class CandidateConfig(_Model):
    provider: str
    model: str


def _as_said(value: object, handler: ValidatorFunctionWrapHandler, wanted: str) -> object:
    """
    Raises:
        ValueError: the field does not take it; says what it does take.
    """
    if not isinstance(value, bool):  # which would be 1 or 0
        with contextlib.suppress(ValidationError):
            return handler(value)
    raise ValueError(wanted)


class HedgeConfig(_Model):
    """When a second attempt is started beside a slow one, and what that may cost."""

    mode: Literal["active", "shadow", "disabled"] = Field(
        "disabled", description="shadow: decide and record, send nothing"
    )
    delay: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="milliseconds after the first attempt; auto: learned from its latency"
    )
    default_delay_ms: int = Field(
        2_000, ge=1, description="of `auto` while a target has too few samples"
    )
    max_attempts: int = Field(2, ge=1, le=5, description="beside each other, the first included")
    max_extra_requests: float = Field(
        0.05, ge=0, le=1, description="hedges, as a share of requests"
    )
    max_extra_cost: float = Field(0.20, ge=0, le=10, description="as a share of what requests cost")
    tenant_max_extra_requests: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of one tenant (a bearer), as a share of its own requests, within"
        " max_extra_requests of all; unset: the same share",
    )
    tenant_max_extra_cost: float | None = Field(
        None, ge=0, le=10, description="the same, of what its own requests cost"
    )

    @field_validator("delay", mode="wrap")
    @classmethod
    def _delay(cls, value: object, handler: ValidatorFunctionWrapHandler) -> Literal["auto"] | int:
        """One line for a wrong one, where each member of the union would say its own."""
        wanted = "auto, or whole milliseconds such as 250"
        return cast("Literal['auto'] | int", _as_said(value, handler, wanted))

    @field_validator(
        "max_extra_requests",
        "max_extra_cost",
        "tenant_max_extra_requests",
        "tenant_max_extra_cost",
        mode="wrap",
    )
    @classmethod
    def _share(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> float | None:
        is_requests = str(info.field_name).endswith("max_extra_requests")
        wanted = f"a share such as {'0.05, from 0 to 1' if is_requests else '0.20, from 0 to 10'}"
        return cast("float | None", _as_said(value, handler, wanted))


class ChooseConfig(_Model):
    """Who is asked first."""

    mode: Literal["ordered", "balanced", "tail"] = Field(
        "ordered",
        description="ordered: as listed; balanced: by present latency and load; tail: by the p99 of"
        " first and second together (experimental)",
    )
    sort: Literal["configured", "cheapest", "fastest"] = Field(
        "configured", description="the order of `ordered`"
    )
    sticky: bool = Field(
        True, description="a session stays where its prompt cache is, while that target is well"
    )


class AliasConfig(_Model):
    """A name that clients ask for, and who may answer to it."""

    tags: tuple[str, ...] = ()
    candidates: tuple[CandidateConfig, ...] = Field(min_length=1)
    fallbacks: tuple[CandidateConfig, ...] = ()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    hedge: HedgeConfig = HedgeConfig()
    choose: ChooseConfig = ChooseConfig()


class Config(_Model):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    transport: TransportConfig = TransportConfig()
    store: StoreConfig | None = None
    providers: dict[str, ProviderConfig] = Field(default_factory=dict)
    models: dict[str, AliasConfig] = Field(default_factory=dict)

    @field_validator("providers", "models")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
                raise ValueError(f"{name!r} is not a name (letters, digits, '.', '_', '-', no '/')")
        return value

    @model_validator(mode="after")
    def _references(self) -> Config:
        for alias, row in self.models.items():
            for kind in ("candidates", "fallbacks"):
                for index, candidate in enumerate(getattr(row, kind)):
                    if candidate.provider not in self.providers:
                        near = difflib.get_close_matches(candidate.provider, self.providers, 1)
                        hint = f"; did you mean {near[0]!r}?" if near else ""
                        raise ValueError(
                            f"models.{alias}.{kind}[{index}].provider:"
                            f" there is no provider {candidate.provider!r}{hint}"
                        )
        return self

    def needing_restart(self, other: Config) -> list[str]:
        """The keys of `other` that a worker which was started with this one cannot take up:
        listeners are open and connections made by then."""
        return [
            path
            for section in ("server", "transport")
            for path in _differing(getattr(self, section), getattr(other, section), section)
            if path != "server.drain_grace_ms"
        ]


def _differing(one: BaseModel, other: BaseModel, path: str) -> list[str]:
    """Paths of the fields whose values are not the same."""
    found: list[str] = []
    for name in type(one).model_fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, BaseModel) and isinstance(theirs, BaseModel):
            found += _differing(mine, theirs, f"{path}.{name}")
        elif mine != theirs:
            found.append(f"{path}.{name}")
    return found


@cache
def known_providers() -> dict[str, dict[str, Any]]:
    """The rows of `providers.yaml` by name."""
    text = (Path(__file__).parent / "providers.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return rows


_ROW_FIELDS = (
    "wire",
    "base_url",
    "auth",
    "models",
    "cancel_billing",
    "headers",
    "probe_path",
    "caches_prompts",
)


def _with_known_rows(providers: object) -> object:
    """Fill a known provider's missing fields from its row; quirks merge one by one, the file wins.

    The name says whose dialect is spoken, `base_url` only where: a gateway in front of OpenAI
    still needs what OpenAI needs, so a row with another address keeps the quirks. When the row
    names another wire, whose codec does not know them, those of `other_wires` take their place, and
    what else is different there. A host that merely speaks OpenAI's wire gets a name of its own and
    no quirks.
    """
    if not isinstance(providers, dict):
        return providers
    filled: dict[object, object] = {}
    for name, given in providers.items():
        row = known_providers().get(name) if isinstance(name, str) else None
        if row is None or not isinstance(given, dict | None):
            filled[name] = given
            continue
        given = given or {}
        wire = given.get("wire", row["wire"])
        if wire != row["wire"]:
            others = row.get("other_wires", {})
            other = others.get(wire, {}) if isinstance(wire, str) else {}
            row = {**row, "quirks": {}, **other, "wire": wire}
        merged = {key: row[key] for key in _ROW_FIELDS if key in row}
        merged.update(given)
        quirks = given.get("quirks") or {}
        if isinstance(quirks, dict):
            merged["quirks"] = {**row.get("quirks", {}), **quirks}
        filled[name] = merged
    return filled


def parse(
    document: object,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Config:
    """Validate a parsed YAML document.

    Args:
        environment: what `${NAME}` is looked up in; the environment of the process if None.
        folder: where relative paths of `ca_file` and `${file:PATH}` start; the working
            directory if None.

    Raises:
        ConfigError: one line a fault, each naming its field.
    """
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError("the file holds no mapping of keys")
    for key in RESERVED_KEYS:
        if key in document:
            raise ConfigError(f"{key}: not there yet in this version; remove the key")
    prepared = dict(document)
    if "providers" in prepared:
        prepared["providers"] = _with_known_rows(prepared["providers"])
    around = _Surroundings(os.environ if environment is None else environment, folder or Path())
    try:
        return Config.model_validate(prepared, context=around)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(fault) for fault in error.errors())) from None


MAX_FILE_BYTES = 256 * 1024
"""Some two thousand providers. A reload is read in the loop, so it must not take long."""
MAX_FILE_DEPTH = 32
MAX_FILE_EVENTS = 40_000
"""Keys, values, and ends of lists and mappings."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where there is one: a tenth of the time."""


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and validate a file. Relative paths in it start from its folder.

    Args:
        environment: as of `parse`.

    Raises:
        ConfigError: it cannot be read, is empty, too large or no YAML, or has faults. An empty file
            is one that is being written, as a rule; `{}` says that there is nothing.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path.name}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
        _check_shape(text, path.name)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - both are safe
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: no UTF-8, or an impossible date.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path.name} is no valid YAML{where}") from error
    if document is None:
        raise ConfigError(f"{path.name} is empty; write {{}} for a configuration of nothing")
    return parse(document, environment, folder=path.parent)


def _check_shape(text: str, name: str) -> None:
    """Look through the events of a text, which takes no stack, before it is loaded, which does.

    Raises:
        ConfigError: it is nested too deep, or holds too much.
        yaml.YAMLError: it is no YAML.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if count > MAX_FILE_EVENTS:
            raise ConfigError(f"{name} holds more than {MAX_FILE_EVENTS} keys and values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_FILE_DEPTH:
                where = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
                raise ConfigError(f"{name} is nested too deep{where}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def from_environment(environment: Mapping[str, str]) -> Config | None:
    """A configuration of every provider whose well-known key variable is set; None if none is.

    The alias `fast` asks the first of them (in the order of `providers.yaml`) for its first known
    model, and falls back to the others.

    Args:
        environment: the only place where variables are looked up.

    Raises:
        ConfigError: a key has characters that no header may carry.
    """
    providers: dict[str, Any] = {}
    candidates: list[dict[str, str]] = []
    for name, row in known_providers().items():
        variable = row.get("api_key_env")
        if not variable or not environment.get(variable) or row["wire"] not in BUILDERS:
            continue
        providers[name] = {"api_key": f"${{{variable}}}"}
        if row.get("models"):
            candidates.append({"provider": name, "model": row["models"][0]})
    if not providers:
        return None
    document: dict[str, Any] = {"providers": providers}
    if candidates:
        document["models"] = {"fast": {"candidates": candidates[:1], "fallbacks": candidates[1:]}}
    return parse(document, environment)


def key_variables() -> list[str]:
    """The well-known key variables of the providers that this version can ask."""
    rows = known_providers().values()
    return [row["api_key_env"] for row in rows if row["wire"] in BUILDERS and "api_key_env" in row]


def unspoken_keys(environment: Mapping[str, str]) -> list[str]:
    """A warning for every well-known key that is set for a wire this version does not speak."""
    return [
        f"{row['api_key_env']} is set, but this version does not speak {row['wire']} yet"
        for row in known_providers().values()
        if row["wire"] not in BUILDERS and environment.get(row.get("api_key_env") or "")
    ]


def _describe(fault: Any) -> str:
    """One line for one fault: path, what is wrong, the nearest known name for an unknown key."""
    path = ""
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, _known_keys(fault["loc"][:-1]), 1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif fault["type"] == "missing":
        message = "is required"
    else:
        message = _PLAIN_WORDS.get(fault["type"], message)
    return f"{path}: {message}" if path else message


_PLAIN_WORDS: Mapping[str, str] = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
}
"""Of kinds of fault that pydantic tells in words of Python's."""


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    """The keys of the model at a path of the file."""
    model: Any = Config
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if annotation is None:
            continue  # a name inside a mapping, or an index: the model stays
        model = next(
            (
                inner
                for inner in (annotation, *getattr(annotation, "__args__", ()))
                if isinstance(inner, type) and issubclass(inner, BaseModel)
            ),
            model,
        )
    return [field.alias or name for name, field in model.model_fields.items()]


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file as people write it, for editors: `relay check --schema` prints it.

    The rows of `providers.yaml` bring wire and address along, so under their names nothing is
    required, not even a value. What no schema can say is left to `parse`: where references lead,
    and whether a candidate's provider is there.
    """
    schema = Config.model_json_schema(by_alias=True)
    known = {**schema["$defs"]["ProviderConfig"], "title": "KnownProviderConfig"}
    del known["required"]
    schema["$defs"]["KnownProviderConfig"] = known
    either = [{"$ref": "#/$defs/KnownProviderConfig"}, {"type": "null"}]
    schema["properties"]["providers"]["properties"] = {
        name: {"anyOf": either} for name in known_providers()
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
