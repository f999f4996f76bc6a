"""What `relay check` shows of providers: by which door each is asked, who the relay is there, where
prompts go, and which targets are one model."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from relay.commands.table import table
from relay.config import Config, ProviderConfig, same_models
from relay.prices import Price
from relay.routing.catalog import Catalog
from relay.routing.target import Target


def providers_table(config: Config, catalog: Catalog) -> Table:
    """One row a provider."""
    found = table("providers", "provider", "wire", "address", "http", "warm", "credential")
    for name, endpoint in catalog.endpoints.items():
        row = config.providers[name]
        found.add_row(
            name,
            endpoint.wire,
            escape(row.base_url),
            row.http,
            str(row.warm_connections),
            credential_of(row),
        )
    return found


def places_table(config: Config, catalog: Catalog) -> Table | None:
    """Where each provider's prompts go, as the operator says; None where nothing is said."""
    found = table("where prompts go", "provider", "door", "region", "data zone", "kept", "tier")
    is_told = False
    for name, endpoint in catalog.endpoints.items():
        row = config.providers[name]
        is_told |= bool(row.door or row.region or row.data_zone or row.service_tier)
        is_told |= row.retention != "unknown"
        found.add_row(
            name,
            endpoint.door,
            endpoint.region or "-",
            endpoint.data_zone or "unknown",
            endpoint.retention,
            endpoint.service_tier or "-",
        )
    return found if is_told else None


def credential_of(row: ProviderConfig) -> str:
    """In few words, without a secret."""
    config = row.credentials
    if config.kind == "static":
        count = len(config.api_keys)
        return "none" if count == 0 else "1 key" if count == 1 else f"{count} keys"
    return f"{config.kind} ({config.source})"


def same_models_table(config: Config, catalog: Catalog) -> Table | None:
    """The targets that are one model by `same_models` or by the operator's word; None if no two
    are."""
    found = table(
        "the same model",
        *("class", "doors and names", "zone", "$ in / out per million", "looked up, source"),
    )
    classes: dict[str, dict[str, Target]] = {}
    for target in named_targets(config, catalog):
        if target.same:
            classes.setdefault(target.same, {})[target.name] = target
    for name, targets in sorted(classes.items()):
        if len(targets) < 2:
            continue
        for at, target in enumerate(targets.values()):
            found.add_row(
                "" if at else escape(name),
                escape(f"{target.name} ({target.endpoint.door})"),
                target.zone or "unknown",
                _shown(target.price),
                escape(_source(target)),
                end_section=at == len(targets) - 1,
            )
    return found if found.row_count else None


def named_targets(config: Config, catalog: Catalog) -> Iterator[Target]:
    """All that the file names, those too that an alias's zones leave out."""
    places = [
        (candidate.provider, candidate.model)
        for row in config.models.values()
        for candidate in (*row.candidates, *row.fallbacks)
    ]
    places += [(name, model) for name, row in config.providers.items() for model in row.models]
    places += [(name, model) for name, row in config.providers.items() for model in row.same_as]
    for provider, model in dict.fromkeys(places):
        yield catalog.resolve(f"{provider}/{model}").candidates[0]


def _shown(price: Price | None) -> str:
    return "unknown" if price is None else f"{price.input:g} / {price.output:g}"


def _source(target: Target) -> str:
    """Who says of which class it is."""
    if target.model in target.endpoint.same_as:
        return f"same_as of {target.endpoint.provider}"
    entry = same_models()[target.same]
    return f"{entry.looked_up}, {entry.source}"
