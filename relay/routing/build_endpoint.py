"""From a provider's row to its endpoint: codec, origin, credential."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from relay.codecs.registry import BUILDERS, embedder_of
from relay.config import ConfigError, ProviderConfig, ProxyUrl, RatesConfig
from relay.config.file_digest import digest_of
from relay.credentials.base import Desk
from relay.credentials.build import without_desk
from relay.prices import Price
from relay.routing.endpoint import Endpoint
from relay.transport.base import Origin


def endpoint_of(name: str, row: ProviderConfig, desk: Desk | None) -> Endpoint:
    builder = BUILDERS.get(row.wire)
    if builder is None:
        known = ", ".join(sorted(BUILDERS))
        raise ConfigError(
            f"providers.{name}.wire: {row.wire!r} is not spoken by this version (known: {known})"
        )
    try:
        make_codec = builder(row.quirks, name)
        make_embedder = embedder_of(row.wire)(row.quirks, name)
    except ValueError as error:
        raise ConfigError(f"providers.{name}.quirks: {error}") from error
    url = urlsplit(row.base_url)
    scheme: Literal["https", "http"] = "https" if url.scheme == "https" else "http"
    origin = Origin(
        scheme=scheme,
        host=url.hostname or "",
        port=url.port or (443 if scheme == "https" else 80),
        http=row.http,
        ca_file=row.ca_file,
        egress_proxy=ProxyUrl(row.egress_proxy.get_secret_value()) if row.egress_proxy else None,
        ca_digest=digest_of(row.ca_file),
        private=row.allow_private,
    )
    try:
        credential = without_desk(row) if desk is None else desk.of(row)
    except ValueError as error:
        raise ConfigError(f"providers.{name}.{error}") from error
    base_path = url.path.rstrip("/")
    return Endpoint(
        provider=name,
        wire=row.wire,
        origin=origin,
        base_path=base_path,
        headers=[(key, value.get_secret_value()) for key, value in row.headers.items()],
        credential=credential,
        make_codec=make_codec,
        make_embedder=make_embedder,
        warm_connections=row.warm_connections,
        max_streams=row.max_streams,
        probe_path=row.probe_path or f"{base_path}/models",
        prices={model: _price(rates) for model, rates in row.prices.items()},
        tier_prices={
            (model, tier): _price(rates)
            for model, price in row.prices.items()
            for tier, rates in price.tiers.items()
        },
        cancel_billing=row.cancel_billing,
        rpm=row.rpm,
        tpm=row.tpm,
        models=row.models,
        passthrough=row.passthrough,
        tells_trace=row.trace_context,
        caches_prompts=row.caches_prompts,
        door=row.door or name,
        region=row.region,
        data_zone=row.zone_at(row.door or name),
        zoned_as=row.zoned_as(row.door or name),
        retention=row.retention,
        service_tier=row.service_tier,
        service_tiers=row.service_tiers,
        same_as=row.same_as,
    )


def _price(rates: RatesConfig) -> Price:
    cached = rates.input if rates.cached_input is None else rates.cached_input
    return Price(rates.input, cached, rates.output)
