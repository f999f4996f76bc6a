"""`relay check`: validate a configuration, print what each name resolves to, and try the way there.

It refuses what `relay serve` would refuse, and starts nothing: without a file and without keys the
emulator's configuration is shown as it would be.

With `--probe` every provider is asked for its models over each HTTP version it offers, through the
same engine that serves requests, and with a token where the row wants one: status, version, time to
a first answer on a cold and on a warm connection. Some endpoints and egress paths speak HTTP/1.1
only, and on some it is faster: this is where an operator sees it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.cache.semantic_shelf import missing_packages
from relay.commands.doors_view import places_table, providers_table, same_models_table
from relay.commands.guardrails_view import check_guardrails, guardrails_table
from relay.commands.listeners_view import listeners_table
from relay.commands.own_credentials import catalog_with_credentials
from relay.commands.policies_view import policies_table
from relay.commands.rules_view import rules_table
from relay.commands.table import table as _table
from relay.compositions import catalog_of
from relay.config import Config, ConfigError, HedgeConfig, from_environment, load, unspoken_keys
from relay.config_warnings import warnings
from relay.emulated import emulated_config, why_emulated
from relay.errors import RelayError
from relay.routing.catalog import Catalog
from relay.routing.endpoint import Endpoint
from relay.routing.route import Route
from relay.server import transport_settings
from relay.tls.doors import Doors
from relay.tls.loaded import TlsError
from relay.transport import TransportSettings, make_transport
from relay.transport.base import HttpMode, Transport, UpstreamRequest

PROBE_TIMEOUT_S = 10.0
WARM_REQUESTS = 5


_VERSIONS: Mapping[HttpMode, str] = {"h2": "HTTP/2", "h1": "HTTP/1.1"}
_EMULATOR_PORT = 9443
"""Stands for the free one that an emulator would be given."""


class Found(NamedTuple):
    """What `relay serve` would serve with."""

    config: Config
    catalog: Catalog
    note: str = ""
    """Where it comes from, when there is no file."""
    is_emulated: bool = False


def find(path: Path | None, environment: Mapping[str, str]) -> Found:
    """The file, the keys in the environment, or the emulator's configuration.

    Raises:
        ConfigError: `relay serve` would not start with it.
    """
    note, is_emulated = "", False
    if path is not None:
        config = load(path)
    elif (from_keys := from_environment(environment)) is not None:
        config = from_keys
        keys = f"provider keys in the environment: {', '.join(config.providers)}"
        note = "\n".join([keys, *unspoken_keys(environment)])
    else:
        is_emulated = True
        config = emulated_config(_EMULATOR_PORT, None)
        note = f"{why_emulated(environment)} (on a free port, shown as {_EMULATOR_PORT})"
    # As by a worker, which looks when it is about to listen.
    if exposed := config.exposed:
        raise ConfigError("\n".join(exposed))
    check_guardrails(config)
    try:
        Doors(config)
    except TlsError as error:
        raise ConfigError(str(error)) from error
    return Found(config, catalog_of(config), note, is_emulated)


def print_routes(console: Console, config: Config, catalog: Catalog) -> None:
    """Listeners, providers, aliases with their targets in order, their zones, limits and hedging;
    which targets are the same model; warnings."""
    console.print(listeners_table(config))
    console.print(providers_table(config, catalog))
    if (places := places_table(config, catalog)) is not None:
        console.print(places)
    limits = "limits: connect / first token / silence / total"
    models = _table("models", "model", "candidates, then fallbacks", "zones", limits)
    for alias, route in catalog.routes.items():
        targets = [target.name for target in route.candidates]
        targets += [f"{target.name} (fallback)" for target in route.fallbacks]
        zones = "any" if route.zones is None else ", ".join(sorted(route.zones))
        models.add_row(alias, escape("\n".join(targets)), zones, "\n".join(_limits(route)))
    if catalog.routes:
        console.print(models)
        console.print(_hedging(catalog))
    else:
        console.print("no aliases: clients ask for PROVIDER/MODEL")
    if (rules := rules_table(config)) is not None:
        console.print(rules)
    if (policies := policies_table(config)) is not None:
        console.print(policies)
    if (guardrails := guardrails_table(config)) is not None:
        console.print(guardrails)
    if (same := same_models_table(config, catalog)) is not None:
        console.print(same)
    listed = [name for name in catalog.names() if name not in catalog.routes]
    if listed:
        console.print(f"also by name: {escape(', '.join(listed))}", highlight=False)
    for warning in (*warnings(config), *_not_here(config)):
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)


def _not_here(config: Config) -> list[str]:
    """What a relay would not start without on this machine, which another may have."""
    semantic = config.cache.semantic if config.cache is not None else None
    found = missing_packages(semantic) if semantic is not None else ""
    return [found] if found else []


def _hedging(catalog: Catalog) -> Table:
    """When and within what each alias is hedged, and who is asked first."""
    table = _table(
        "hedging and choice",
        *("model", "hedge", "delay", "attempts", "extra requests", "extra cost", "asked first"),
    )
    for alias, route in catalog.routes.items():
        hedge, choose = route.hedge, route.choose
        first = f"ordered: {choose.sort}" if choose.mode == "ordered" else choose.mode
        cells = ["-"] * 4
        if hedge.mode != "disabled":
            is_auto = hedge.delay == "auto"
            cells = [
                f"auto ({hedge.default_delay_ms} ms until learned)"
                if is_auto
                else f"{hedge.delay} ms",
                _attempts(hedge),
                f"{100 * hedge.max_extra_requests:g} %",
                f"{100 * hedge.max_extra_cost:g} %",
            ]
        table.add_row(alias, hedge.mode, *cells, first)
    return table


def _attempts(hedge: HedgeConfig) -> str:
    """How many, and what the second may be beside another candidate."""
    found = [str(hedge.max_attempts)]
    if hedge.escalate.tier is not None:
        found.append(f"or at {hedge.escalate.tier}, up to {hedge.escalate.max_price_ratio:g} x")
    if hedge.keep_second_warm == "auto":
        found.append("second kept warm")
    return "\n".join(found)


def _limits(route: Route) -> list[str]:
    """The limits of a route by the class that a request may get."""
    given = route.timeouts.timeout_class
    classes = ("default", "reasoning") if given == "auto" else (given,)
    lines: list[str] = []
    for name in classes:
        row = route.timeouts_of(name)
        limits_s = (row.connect_s, row.first_token_s, row.inter_token_s, row.total_s)
        lines.append(f"{name}: {' / '.join(f'{limit_s:g}' for limit_s in limits_s)} s")
    return lines


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


async def probe(config: Config) -> list[ProbeResult]:
    """Ask every provider over each HTTP version; never raises for one that does not answer, or for
    which no token is to be had.

    Connections are made by the settings of the file, as a worker makes them, and so are tokens.

    Raises:
        ConfigError: as `Catalog`.
    """
    settings = transport_settings(config)
    for_tokens = make_transport(config.transport.engine, settings)
    try:
        async with catalog_with_credentials(config, for_tokens) as catalog:
            return await _probe_all(config, catalog, settings)
    finally:
        await for_tokens.aclose()


async def _probe_all(
    config: Config, catalog: Catalog, settings: TransportSettings
) -> list[ProbeResult]:
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
    request = UpstreamRequest("GET", endpoint.probe_path, [], b"")
    times_ms: list[float] = []
    try:
        signed = endpoint.signed("GET", endpoint.probe_path, [], b"", time.time())
        request = request._replace(headers=signed.all)
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
        return ProbeResult(name, _VERSIONS[mode], error.public_message, None, None)
    except TimeoutError:
        why = f"no answer in {PROBE_TIMEOUT_S:g} s"
        return ProbeResult(name, _VERSIONS[mode], why, None, None)
    status = _describe_status(stream.status)
    version = f"HTTP/{stream.http_version}"
    return ProbeResult(name, version, status, times_ms[0], statistics.median(times_ms[1:]))


def _describe_status(status: int) -> str:
    if status in (401, 403):
        return f"{status}: the credential is refused"
    if status < 400:
        return f"{status}"
    return f"{status} (reachable; this does not tell whether the credential is taken)"


def print_probe(console: Console, results: list[ProbeResult]) -> None:
    """One row a provider and HTTP version."""
    table = _table("probe", "provider", "http", "answer", "cold ms", "warm ms")
    for row in results:
        table.add_row(
            row.provider,
            row.http,
            escape(row.status),
            "-" if row.cold_ms is None else f"{row.cold_ms:.1f}",
            "-" if row.warm_ms is None else f"{row.warm_ms:.1f}",
        )
    console.print(table)
