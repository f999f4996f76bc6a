"""`observability.tracing`: to whom spans are sent, and which."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.model import Model
from relay.config.providers import expand_headers, readable_file, split_url
from relay.config.reach import AllowPrivate, require_reachable
from relay.config.references import expand, surroundings
from relay.config.secret import Secret
from relay.trace_context import TraceRule

_PATH = "/v1/traces"


class TracingConfig(Model):
    endpoint: str = Field(
        "http://127.0.0.1:4318/v1/traces",
        description="of the collector, OTLP over HTTP; may hold references",
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="sent with every batch; values may hold references"
    )
    ca_file: str | None = Field(
        None, description="PEM file of the only trusted roots; relative to this file's folder"
    )
    allow_private: AllowPrivate = None
    compression: Literal["gzip", "none"] = "gzip"
    timeout_ms: int = Field(5_000, ge=100, le=60_000, description="of the collector's silence")
    share: float = Field(
        1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="of the traces that begin here, by the trace's id",
    )
    follow_parent: bool = Field(
        True, description="where the client sent a traceparent, its `sampled` decides"
    )
    keep_errors: bool = Field(True, description="generations that failed, whatever the sample")
    keep_slower_than_ms: int | None = Field(
        2_000,
        ge=1,
        description="until the first content; slower generations are kept too; null: no such rule",
    )
    content: bool = Field(False, description="prompts and answers as attributes of spans")
    max_content_chars: int = Field(
        4_096, ge=64, le=65_536, description="of a prompt, and of an answer"
    )
    service_name: str = Field("rtrelay", min_length=1, max_length=255)
    resource: dict[str, str] = Field(
        default_factory=dict,
        max_length=32,
        description="further attributes of the process, such as deployment.environment.name; values"
        " may hold references",
    )
    max_waiting: int = Field(
        2_048,
        ge=1,
        le=100_000,
        description="generations whose spans wait to be sent; what is over is dropped and counted",
    )
    interval_ms: int = Field(1_000, ge=10, le=60_000, description="between batches")
    flush_ms: int = Field(
        2_000, ge=0, le=30_000, description="to send what waits when the relay stops"
    )

    @field_validator("endpoint", mode="before")
    @classmethod
    def _address(cls, value: object, info: ValidationInfo) -> object:
        url = expand(value, surroundings(info))
        parts = split_url(url, ("http", "https"))
        if "@" in parts.netloc or parts.fragment:
            raise ValueError("user and password do not belong here; use `headers`")
        require_reachable(parts.hostname or "", None)
        if parts.path in ("", "/"):  # the address of a collector, as its own variable has it
            return f"{url.rstrip('/')}{_PATH}"
        return url

    @field_validator("headers", mode="before")
    @classmethod
    def _headers(cls, value: object, info: ValidationInfo) -> object:
        return expand_headers(value, info)

    @field_validator("resource", mode="before")
    @classmethod
    def _attributes(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, dict):
            raise ValueError("a mapping of names to values is expected")  # noqa: TRY004
        return {name: expand(given, surroundings(info)) for name, given in value.items()}

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return readable_file(value, info)

    @property
    def rule(self) -> TraceRule:
        """Which are sampled, as far as that is known before the end."""
        return TraceRule(self.share, self.follow_parent)
