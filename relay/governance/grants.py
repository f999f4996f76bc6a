"""What a key may ask for, of one request: its model, its tags, its hedges.

A model that a key may not use is refused before it is looked up: whether there is one of the name
is not told, since names of aliases are the operator's own words. (OpenAI answers 404 for a model
that does not exist *or* may not be used, with one text; and 403 where a project's list leaves a
model out. Here the list is what is known to be there, so it is 403 with one text for both; a name
within the list that nothing has is 404.)

Here, and nowhere else, a route is narrowed to the data zones that its alias and the key have in
common, and the set is written into the request's policy: what is planned, hedged, tried next or
sent ahead has no target elsewhere to choose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple
from urllib.parse import unquote

from relay.config.doors import zones_of_path
from relay.content import GenerateRequest, HedgeWish
from relay.errors import PermissionDenied, UnknownModel, shown
from relay.governance.gate import Gate
from relay.governance.key_view import KeyView
from relay.governance.scopes import EVERYTHING, Scopes, shown_zones
from relay.routing.catalog import Catalog
from relay.routing.endpoint import Endpoint
from relay.routing.route import Route

MAY_NOT_HEDGE: Final = "the key may not hedge"
_OTHER_MODELS: Final = ("models", "fallbacks", "preset")
"""Fields of a body by which hosts of many models (OpenRouter, LiteLLM) take another one than the
request's `model`."""
_OTHER_PLACES: Final = (*_OTHER_MODELS, "provider", "inference_geo")
"""And by which another host behind them is taken, or another place (Anthropic): what the row says
of its zone holds no more."""


def scopes_of(gate: Gate, key_id: str) -> Scopes:
    """
    Raises:
        Unauthenticated, StoreDown: as `Gate.view`.
    """
    view = gate.view(key_id)
    return EVERYTHING if view is None else view.scopes


def allows(scopes: Scopes, catalog: Catalog, name: str) -> bool:
    """Whether a model may be asked for by this name. One provider's model may be named without the
    provider where no other lists it: then `provider/model` counts as well."""
    if scopes.is_for_every_model:
        return True
    alias = catalog.routes.get(name)
    if alias is not None:
        return scopes.allows_model(name, alias.tags)
    if scopes.allows_model(name):
        return True
    if name in catalog.composed:  # it comes to models that the key may not ask for by themselves
        return False
    try:
        return scopes.allows_model(catalog.resolve(name).candidates[0].name)
    except UnknownModel:
        return False


def routes_for(scopes: Scopes, catalog: Catalog) -> list[Route]:
    """Of every name in the catalog that may be asked for, what is in the zones of the key."""
    zones = scopes.data_zones
    names = (name for name in catalog.names() if allows(scopes, catalog, name))
    routes = (catalog.resolve(name).within(zones) for name in names)
    return [route for route in routes if route is not None]


def check_handed_through(scopes: Scopes, endpoint: Endpoint, path: str) -> None:
    """
    Args:
        path: that is to be asked for there, as it is sent.

    Raises:
        PermissionDenied: the key may not go there, by the zone of the row, or by that which the
            path claims: a model's name at Bedrock, a location at Vertex.
    """
    zones = scopes.data_zones
    if zones is None:
        return
    provider, zone = endpoint.provider, endpoint.data_zone
    scopes.check_zone(provider, zone)
    names = unquote(path).split("/")
    for claimed in zones_of_path(endpoint.zoned_as, endpoint.region, zone, names):
        scopes.check_zone(provider, claimed)


def route_of(scopes: Scopes, catalog: Catalog, name: str) -> Route:
    """The route of a name that may be asked for, as far as it is in the zones of the key.

    Raises:
        PermissionDenied: it may not, whether or not there is such a model; or all of it is in
            other zones.
        UnknownModel: there is none; names that come near are told if they may be asked for.
    """
    if not allows(scopes, catalog, name):
        scopes.check_model(name)
    try:
        return _narrowed(catalog.resolve(name), scopes.data_zones, name)
    except UnknownModel as error:
        if scopes.is_for_every_model:
            raise
        nearest = [near for near in error.nearest if allows(scopes, catalog, near)]
        raise UnknownModel(name, nearest) from None


def _zones_of(scopes: Scopes, catalog: Catalog, name: str) -> frozenset[str] | None:
    """Of a name in whose place another is asked. It may be one that nothing has: rules can be for
    all names of a kind (`gpt-4-*`).

    Raises:
        PermissionDenied: as `route_of`.
    """
    try:
        return route_of(scopes, catalog, name).zones
    except UnknownModel:
        return scopes.data_zones


def _narrowed(route: Route, zones: frozenset[str] | None, asked: str) -> Route:
    """
    Raises:
        PermissionDenied: nothing is left of it; tells what the caller may know, the zones of its
            own key and what it asked for, and not where the operator's targets are.
    """
    left = route.within(zones)
    if left is None:
        raise PermissionDenied(
            f"no target of the model {shown(asked)!r} is in the data zones of this key"
            f" ({shown_zones(zones or ())}); a target whose zone is not known is in none",
            metadata={"field": "zones", "zones": shown_zones(zones or ())},
        )
    return left


class Grant(NamedTuple):
    """What a key allows of a request."""

    request: GenerateRequest
    """As it may go on: with the key's own tags, without hedges where it may have none."""
    route: Route
    """Where it may go."""
    view: KeyView | None
    """Of the key, for limits and budgets; None where there are no keys."""


def granted(gate: Gate, catalog: Catalog, request: GenerateRequest) -> Grant:
    """Asked for each generation, so that what was changed of a key holds for the next one.

    Raises:
        Unauthenticated: the key was revoked since.
        StoreDown: that cannot be told.
        PermissionDenied: the key does not go so far; the message names what is not allowed.
        UnknownModel: as `route_of`.
    """
    view = gate.view(request.policy.key_id)
    if view is None and not request.asked_as and request.policy.zones is None:
        route = catalog.resolve(request.model)
        if route.zones is None:  # no key, no zones: nothing to narrow and nothing to refuse
            return Grant(request, route, None)
    scopes = EVERYTHING if view is None else view.scopes
    if request.asked_as:  # the relay put another name in place of the one that was asked for
        # Of `provider/model`, which has no zones of its own, those of the alias hold.
        zones = _zones_of(scopes, catalog, request.asked_as)
        route = _narrowed(catalog.resolve(request.model), zones, request.asked_as)
    else:
        route = route_of(scopes, catalog, request.model)
    if request.policy.zones is not None:  # it has been narrowed before, and is never widened
        route = _narrowed(route, request.policy.zones, request.model)
    if route.zones is not None:
        _check_other_places(request, route.zones)
        if request.policy.zones != route.zones:
            request = replace(request, policy=replace(request.policy, zones=route.zones))
    if view is None:
        return Grant(request, route, None)
    _check_other_models(view, request)
    return Grant(_as_granted(view, request), route, view)


def lost_its_hedges(grant: Grant, asked: GenerateRequest) -> bool:
    """Whether there would have been hedges, had the key leave for them.

    Args:
        asked: the request as it came.
    """
    view = grant.view
    return view is not None and not view.scopes.may_hedge and at_once(grant.route, asked) > 1


def at_once(route: Route, request: GenerateRequest) -> int:
    """How many attempts may run beside each other."""
    wish = request.policy.hedge
    if route.hedge.mode != "active" or wish.mode == "off":
        return 1
    most = route.hedge.max_attempts
    return most if wish.max_attempts is None else max(1, min(most, wish.max_attempts))


def _check_other_models(view: KeyView, request: GenerateRequest) -> None:
    """
    Raises:
        PermissionDenied: as `check_other_models`.
    """
    scopes = view.scopes
    if scopes.is_for_every_model and scopes.max_cost_micro is None and not view.budgets:
        return
    check_other_models(request)


def check_other_models(request: GenerateRequest) -> None:
    """
    Raises:
        PermissionDenied: the provider might ask another model than the one that was allowed, and
            that the cost was told of.
    """
    name = _named(request, _OTHER_MODELS)
    if name:
        raise PermissionDenied(
            f"this key may not name other models beside the request's own ({name})",
            metadata={"field": name},
        )


def _check_other_places(request: GenerateRequest, zones: frozenset[str]) -> None:
    """
    Raises:
        PermissionDenied: the provider might answer from elsewhere than its row says.
    """
    name = _named(request, _OTHER_PLACES)
    if name:
        raise PermissionDenied(
            f"this request is to stay in {shown_zones(zones)}, and {name} may send it elsewhere",
            metadata={"field": name, "zones": shown_zones(zones)},
        )


def _named(request: GenerateRequest, names: tuple[str, ...]) -> str:
    """The first of these fields that a body of the request has; empty for none. In any case: Go's
    JSON, which hosts of many models are written with, reads `Models` as `models`."""
    for body in (request.extra, *request.native.values()):
        if body:
            folded = {name.casefold() for name in body}
            for name in names:
                if name in folded:
                    return name
    return ""


def _as_granted(view: KeyView, request: GenerateRequest) -> GenerateRequest:
    policy, scopes = request.policy, view.scopes
    if scopes.request_tags is not None:
        given = policy.tags_of_rules.union(view.tags)
        scopes.check_tags([tag for tag in policy.tags if tag not in given])
    must_not_hedge = not scopes.may_hedge and policy.hedge.mode != "off"
    if not view.tags and not must_not_hedge:
        return request
    return replace(
        request,
        policy=replace(
            policy,
            tags=tuple(dict.fromkeys((*policy.tags, *view.tags))),
            hedge=HedgeWish(mode="off") if must_not_hedge else policy.hedge,
        ),
    )
