"""What a key may ask for, of one request: its model, its tags, its hedges.

A model that a key may not use is refused before it is looked up: whether there is one of the name
is not told, since names of aliases are the operator's own words. (OpenAI answers 404 for a model
that does not exist *or* may not be used, with one text; and 403 where a project's list leaves a
model out. Here the list is what is known to be there, so it is 403 with one text for both; a name
within the list that nothing has is 404.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from relay.content import GenerateRequest, HedgeWish
from relay.errors import PermissionDenied, UnknownModel
from relay.governance.gate import Gate
from relay.governance.key_view import KeyView
from relay.governance.scopes import EVERYTHING, Scopes
from relay.routing.catalog import Catalog, Route

MAY_NOT_HEDGE: Final = "the key may not hedge"
_OTHER_MODELS: Final = ("models", "fallbacks", "preset")
"""Fields of a body by which hosts of many models (OpenRouter, LiteLLM) take another one than the
request's `model`."""


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
    try:
        return scopes.allows_model(catalog.resolve(name).candidates[0].name)
    except UnknownModel:
        return False


def route_of(scopes: Scopes, catalog: Catalog, name: str) -> Route:
    """The route of a name that may be asked for.

    Raises:
        PermissionDenied: it may not, whether or not there is such a model.
        UnknownModel: there is none; names that come near are told if they may be asked for.
    """
    if not allows(scopes, catalog, name):
        scopes.check_model(name)
    try:
        return catalog.resolve(name)
    except UnknownModel as error:
        if scopes.is_for_every_model:
            raise
        nearest = [near for near in error.nearest if allows(scopes, catalog, near)]
        raise UnknownModel(name, nearest) from None


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
    if view is None:
        return Grant(request, catalog.resolve(request.model), None)
    scopes = view.scopes
    if request.asked_as:  # the relay put another name in place of the one that was asked for
        route_of(scopes, catalog, request.asked_as)
        route = catalog.resolve(request.model)
    else:
        route = route_of(scopes, catalog, request.model)
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
    for body in (request.extra, *request.native.values()):
        for name in _OTHER_MODELS:
            if name in body:
                raise PermissionDenied(
                    f"this key may not name other models beside the request's own ({name})",
                    metadata={"field": name},
                )


def _as_granted(view: KeyView, request: GenerateRequest) -> GenerateRequest:
    policy, scopes = request.policy, view.scopes
    if scopes.request_tags is not None:
        scopes.check_tags([tag for tag in policy.tags if tag not in view.tags])
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
