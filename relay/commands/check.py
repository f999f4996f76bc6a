"""`relay check`: validate a configuration, print what each name resolves to, and try the way there.

With `--probe` every provider is asked for its models over each HTTP version it offers, through the
same engine that serves requests: status, version, time to a first answer on a cold and on a warm
connection. Some endpoints and egress paths speak HTTP/1.1 only, and on some it is faster: this is
where an operator sees it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from relay.config import Config
from relay.errors import RelayError
from relay.routing.catalog import Catalog, Endpoint
from relay.server import transport_settings
from relay.transport import make_transport
from relay.transport.base import HttpMode, Transport, UpstreamRequest

PROBE_TIMEOUT_S = 10.0
WARM_REQUESTS = 5


def print_routes(console: Console, config: Config, catalog: Catalog) -> None:
    """Providers, aliases with their targets in order, and warnings."""
    providers = Table("provider", "wire", "address", "http", "warm", "keys", title="providers")
    for name, endpoint in catalog.endpoints.items():
        row = config.providers[name]
        providers.add_row(
            name,
            endpoint.wire,
            row.base_url,
            row.http,
            str(row.warm_connections),
            str(len(row.keys)),
        )
    console.print(providers)
    models = Table("model", "candidates, then fallbacks", "limits of an attempt", title="models")
    for alias, route in catalog.routes.items():
        targets = [target.name for target in route.candidates]
        targets += [f"{target.name} (fallback)" for target in route.fallbacks]
        limits = route.timeouts
        given = {
            "connect": limits.connect_ms,
            "first token": limits.first_token_ms,
            "inter-token": limits.inter_token_ms,
            "total": limits.total_ms,
        }
        text = ", ".join(f"{name} {value} ms" for name, value in given.items() if value)
        models.add_row(alias, "\n".join(targets), text or f"class {limits.timeout_class}")
    console.print(models)
    listed = [name for name in catalog.names() if name not in catalog.routes]
    if listed:
        console.print(f"also by name: {', '.join(listed)}", highlight=False)
    for warning in config.warnings():
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False)


class ProbeResult(NamedTuple):
    """One provider over one HTTP version."""

    provider: str
    http: str
    status: str
    cold_ms: float | None
    """Connect, TLS and one answer."""
    warm_ms: float | None
    """Median of further answers on the connection."""

    @property
    def is_reachable(self) -> bool:
        return self.cold_ms is not None


async def probe(config: Config, catalog: Catalog) -> list[ProbeResult]:
    """Ask every provider over each HTTP version; never raises for one that does not answer.

    Connections are made by the settings of the file, as a worker makes them.
    """
    settings = transport_settings(config)
    results: list[ProbeResult] = []
    for name, endpoint in catalog.endpoints.items():
        modes: tuple[HttpMode, ...] = (
            ("h2", "h1") if endpoint.origin.http == "auto" else (endpoint.origin.http,)
        )
        for mode in modes:
            transport = make_transport(config.transport.engine, settings)
            try:
                results.append(await _probe_one(transport, name, endpoint, mode))
            finally:
                await transport.aclose()
    return results


async def _probe_one(
    transport: Transport, name: str, endpoint: Endpoint, mode: HttpMode
) -> ProbeResult:
    origin = endpoint.origin._replace(http=mode)
    request = UpstreamRequest("GET", endpoint.probe_path, list(endpoint.headers), b"")
    times_ms: list[float] = []
    try:
        for _ in range(1 + WARM_REQUESTS):
            began_s = time.monotonic()
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                stream = await transport.open(origin, request, connect_timeout_s=PROBE_TIMEOUT_S)
                try:
                    async for _chunk in stream.chunks():
                        pass
                finally:
                    await stream.aclose()
            times_ms.append((time.monotonic() - began_s) * 1000)
    except RelayError as error:
        return ProbeResult(name, mode, error.public_message, None, None)
    except TimeoutError:
        return ProbeResult(name, mode, f"no answer in {PROBE_TIMEOUT_S:g} s", None, None)
    status = _describe_status(stream.status)
    version = f"HTTP/{stream.http_version}"
    return ProbeResult(name, version, status, times_ms[0], statistics.median(times_ms[1:]))


def _describe_status(status: int) -> str:
    if status in (401, 403):
        return f"{status}: the key is refused"
    if status < 400:
        return f"{status}"
    return f"{status} (reachable; the list of models is not served there)"


def print_probe(console: Console, results: list[ProbeResult]) -> None:
    """One row a provider and HTTP version."""
    table = Table("provider", "http", "answer", "cold ms", "warm ms", title="probe")
    for row in results:
        table.add_row(
            row.provider,
            row.http,
            row.status,
            "-" if row.cold_ms is None else f"{row.cold_ms:.1f}",
            "-" if row.warm_ms is None else f"{row.warm_ms:.1f}",
        )
    console.print(table)
