"""`server`: where the relay listens, and its bounds there."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from relay.config.model import Address, Model
from relay.config.overload import OverloadConfig
from relay.config.tls import PLAIN, OneListenersTls, TlsConfig


class Listener(Model):
    """Where one server listens."""

    address: Address
    tls: OneListenersTls = None
    proxy_terminates_tls: bool = Field(
        False,
        description="a proxy in front speaks TLS with clients, and nobody reaches this address but"
        " by it",
    )

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
    max_connections: int = Field(
        16_384, ge=1, description="open at once in one worker; more are closed as they come"
    )
    max_streams: int = Field(
        1000,
        ge=1,
        description="of one connection at once: a client holds a session for each of its calls, and"
        " one too many would wait in silence",
    )
    session_idle_ms: int = Field(
        600_000,
        ge=0,
        description="a session without a frame and without a generation for so long ends; 0: never",
    )


class ResponsesStoreConfig(Model):
    max_responses: int = Field(10_000, ge=1, description="the longest unused goes first")
    max_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="of all that is kept")
    ttl_s: int = Field(3600, ge=1, description="since its last use")


class IdempotencyConfig(Model):
    max_answers: int = Field(1000, ge=1, description="the oldest goes first")
    max_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="of all that is kept; one answer a fourth of it"
    )
    ttl_s: int = Field(3600, ge=1, description="since the answer")


class HttpListener(Listener):
    address: Address = "127.0.0.1:8080"
    max_request_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="one request body")
    max_connections_per_address: int | None = Field(
        None,
        ge=0,
        description="open at once; null: 256 of an address of another machine (of IPv6: 64 bits of"
        " it), any number of this one and behind proxy_terminates_tls; 0: any number",
    )
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


class ServerConfig(Model):
    grpc: GrpcListener = GrpcListener()
    http: HttpListener = HttpListener()
    admin: AdminListener = AdminListener()
    overload: OverloadConfig = OverloadConfig()
    drain_grace_ms: int = Field(30_000, ge=0, description="running generations may finish in it")
    slow_consumer_ms: int = Field(
        30_000, ge=100, description="a client that reads nothing for so long loses its generation"
    )
    worker_hang_ms: int = Field(
        10_000,
        ge=0,
        description="with --workers: one whose loop is stuck for so long is replaced; 0: never",
    )
    lane_bytes: int = Field(
        65_536, ge=1024, description="output held for one generation while its client is slow"
    )

    @property
    def listeners(self) -> dict[str, Listener]:
        """By their names here."""
        return {"grpc": self.grpc, "http": self.http, "admin": self.admin}

    def tls_of(self, name: str, of_all: TlsConfig | None) -> TlsConfig | None:
        """What a listener does; None for plain text.

        Args:
            of_all: `tls` of the whole file.
        """
        own = self.listeners[name].tls
        if own is PLAIN:
            return None
        return of_all if own is None else own

    def exposed(self, of_all: TlsConfig | None, *, has_keys: bool) -> list[str]:
        """A line for each listener that other machines can reach and strangers could use: nobody
        may start with one.

        Args:
            of_all: `tls` of the whole file.
            has_keys: whether callers of gRPC and HTTP need a key, and administrators a token
                (`auth`).
        """
        found: list[str] = []
        for name, listener in self.listeners.items():
            if listener.is_loopback:
                continue
            tls = self.tls_of(name, of_all)
            path = f"server.{name}"
            reachable = f"{path}.address {listener.address} is reachable from outside"
            if name == "admin":
                if tls is None or not (tls.requires_clients or has_keys):
                    found.append(
                        f"{reachable}, where it takes TLS and tokens of administrators (auth), or"
                        f" mTLS: bind to a loopback address, or give {path} `tls`, and the file"
                        f" `auth`; or {path}.tls a client_ca_file with client_certificates:"
                        " required"
                    )
                continue
            missing: list[str] = []
            if tls is None and not listener.proxy_terminates_tls:
                missing.append(
                    f"TLS (tls or {path}.tls; {path}.proxy_terminates_tls: true if a proxy in"
                    " front does it)"
                )
            if not has_keys:
                missing.append("keys of callers (auth)")
            if missing:
                found.append(
                    f"{reachable}, which takes {' and '.join(missing)}; else bind to a loopback"
                    " address"
                )
        return found
