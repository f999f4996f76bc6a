"""A worker whose listeners speak TLS, and what its clients see of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx2
from cryptography import x509

from relay.config import parse
from relay.server import Worker
from tests.fakes.tls_files import Identity, TlsFiles

Document = dict[str, Any]


class TlsRelay:
    """A started worker; made by `tls_relay`."""

    def __init__(self, worker: Worker, files: TlsFiles) -> None:
        self.worker = worker
        self.files = files

    def port(self, name: str) -> int:
        """Of a listener."""
        port: int = getattr(self.worker, f"{name}_port")
        return port

    def http(
        self, client: Identity | None = None, *, name: str = "http", **options: Any
    ) -> httpx2.AsyncClient:
        """An HTTPS client, to be used in `async with`."""
        return httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{self.port(name)}",
            verify=self.files.context(client, **options),
            trust_env=False,
            timeout=10,
        )

    def channel(self, client: Identity | None = None, **options: Any) -> grpc.aio.Channel:
        """A gRPC channel of its own connection, to be used in `async with`."""
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.port('grpc')}",
            self.files.credentials(client, **options),
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )

    async def handshake(
        self, name: str, client: Identity | None = None, **options: Any
    ) -> tuple[str | None, str | None, int]:
        """A new connection of Python's: TLS version, ALPN, serial number of the listener.

        With TLS 1.3 a client may only learn that it was refused when it reads: so it reads.

        Raises:
            OSError: it was refused.
        """
        context = self.files.context(client, **options)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port(name), ssl=context, server_hostname="localhost"
        )
        try:
            connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
            data = connection.getpeercert(binary_form=True)
            assert data is not None
            serial = x509.load_der_x509_certificate(data).serial_number
            try:
                async with asyncio.timeout(0.05):
                    if not await reader.read(1):
                        raise ConnectionResetError("closed")
            except TimeoutError:
                pass
            return connection.version(), connection.selected_alpn_protocol(), serial
        finally:
            writer.transport.abort()


@asynccontextmanager
async def tls_relay(
    files: TlsFiles, tls: Document | None, document: Document | None = None, **server: Any
) -> AsyncIterator[TlsRelay]:
    """Start a worker with `tls` for all listeners and what else is said; ports are filled in."""
    free: Document = {
        name: {"address": "127.0.0.1:0", **server.get(name, {})}
        for name in ("grpc", "http", "admin")
    }
    free = {**server, **free}
    whole: Document = {**(document or {}), "server": free}
    if tls is not None:
        whole["tls"] = tls
    worker = Worker(parse(whole, folder=files.folder))
    try:
        await worker.start()
        yield TlsRelay(worker, files)
    finally:
        await worker.aclose()
