"""`GET /v1/models` and `/v1/models/{id}`: what can be asked for, who answers, and at what price.

The rows are OpenAI's; what only the relay knows is in their `x_relay`. All of it comes from memory,
since clients warm their connections with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay.prices import context_window
from relay.routing.catalog import Catalog
from relay.routing.route import Route
from relay.routing.target import Target


def model_row(catalog: Catalog, route: Route, created_s: int) -> dict[str, Any]:
    """One model, by any name that a request may have.

    Args:
        route: as far as whoever asks may use it.
        created_s: seconds since the epoch; of the relay's start, as providers' own are not known.
    """
    name = route.alias
    first = route.candidates[0]
    targets = (*route.candidates, *route.fallbacks)
    is_ours = name in catalog.routes or name in catalog.composed
    return {
        "id": name,
        "object": "model",
        "created": created_s,
        "owned_by": "rtrelay" if is_ours else first.endpoint.provider,
        "x_relay": {
            "tags": list(route.tags),
            # Cascades and panels give none, whoever their members are.
            "embeddings": route.legs_at_once == 1
            and any(target.endpoint.has_embeddings for target in targets),
            "context_window": context_window(first.endpoint.door, first.model),
            "targets": [
                {**_target(target), "fallback": target in route.fallbacks} for target in targets
            ],
        },
    }


def model_list(catalog: Catalog, routes: Iterable[Route], created_s: int) -> dict[str, Any]:
    """These, by the names that they were asked for by."""
    rows = [model_row(catalog, route, created_s) for route in routes]
    return {"object": "list", "data": rows}


def _target(target: Target) -> dict[str, Any]:
    price = target.price
    return {
        "provider": target.endpoint.provider,
        "model": target.model,
        "wire": target.endpoint.wire,
        "data_zone": target.zone or None,
        "same_model": target.same or None,
        "usd_per_million_tokens": None
        if price is None
        else {
            "input": price.input,
            "cached_input": price.cached_input,
            "output": price.output,
        },
    }
