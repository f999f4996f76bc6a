"""Which targets are measured, from what the operator names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.config import same_models
from relay.config.doors import family_of
from relay.measuring.samples import Door
from relay.prices import USUAL_TIERS
from relay.routing.catalog import Catalog
from relay.routing.endpoint import Endpoint
from relay.routing.target import Target


class Named(NamedTuple):
    """What is asked for. Every name may be given more than once."""

    providers: Sequence[str] = ()
    models: Sequence[str] = ()
    classes: Sequence[str] = ()
    tiers: Sequence[str] = ()
    """Service tiers; `default` is what the row says. None given: that alone."""


class ChoiceError(Exception):
    """Nothing, or not one thing, has these names; the message says which and why."""


def doors_of(catalog: Catalog, listed: Sequence[Target], named: Named) -> list[Door]:
    """Each once, in the order in which they are named.

    - A model with providers: at each of them, by the name that the model has there, if one of them
      or the model's class is given.
    - A model alone: as clients name one; an alias is all its candidates and fallbacks.
    - A class (`same_models`, `same_as`): every door of the file that has it, or of the providers.

    Args:
        listed: every target that the file names.

    Raises:
        ChoiceError
        UnknownModel: a model alone that is none.
    """
    if not named.models and not named.classes:
        raise ChoiceError("say what to measure: --model M (with --provider P), or --same CLASS")
    for provider in named.providers:
        if provider not in catalog.endpoints:
            known = ", ".join(catalog.endpoints)
            raise ChoiceError(f"--provider {provider}: the file has no such row (it has: {known})")
    targets: list[Target] = []
    for model in named.models:
        targets += _of_model(catalog, listed, model, named.providers)
    for name in named.classes:
        targets += _of_class(catalog, listed, name, named.providers)
    found: dict[str, Door] = {}
    for target in targets:
        for tiered in _tiers(target, named.tiers):
            price = tiered.endpoint.price_of(tiered.model, tiered.tier_of(""))
            found[tiered.name] = Door(tiered, price)
    return list(found.values())


def _of_model(
    catalog: Catalog, listed: Sequence[Target], model: str, providers: Sequence[str]
) -> Iterator[Target]:
    if not providers or model in catalog.routes:
        route = catalog.resolve(model)
        for target in (*route.candidates, *route.fallbacks):
            if not providers or target.endpoint.provider in providers:
                yield target
        return
    ends = [catalog.endpoints[name] for name in providers]
    classes = {Target(end, model).same for end in ends} - {""}
    if len(classes) > 1:
        raise ChoiceError(f"--model {model} is of several classes: {', '.join(sorted(classes))}")
    same = next(iter(classes), model)
    for end in ends:
        here = list(_names_at(end, listed, same))
        yield Target(end, model if model in here or not here else here[0])


def _of_class(
    catalog: Catalog, listed: Sequence[Target], name: str, providers: Sequence[str]
) -> Iterator[Target]:
    is_found = False
    for end in catalog.endpoints.values():
        if providers and end.provider not in providers:
            continue
        for model in _names_at(end, listed, name):
            is_found = True
            yield Target(end, model)
    if not is_found:
        classes = {
            target.same
            for end in catalog.endpoints.values()
            for target in (*listed, *(Target(end, model) for model in (*end.same_as, *end.models)))
            if target.same
        }
        has = f"; it has {', '.join(sorted(classes))}" if classes else ""
        raise ChoiceError(f"--same {name}: no provider of the file has a model of this class{has}")


def _names_at(end: Endpoint, listed: Sequence[Target], same: str) -> Iterator[str]:
    """What the models of a class are called at a provider: as the file has it, else as it is known
    of the door."""
    told = {target.model for target in listed if target.endpoint is end and target.same == same}
    if told:
        yield from sorted(told)
        return
    entry = same_models().get(same)
    if entry is not None:
        yield from entry.doors.get(family_of(end.door), ())[:1]


def _tiers(target: Target, tiers: Sequence[str]) -> Iterator[Target]:
    """
    Raises:
        ChoiceError: the door has no such tier.
    """
    for tier in tiers or ("default",):
        if tier in USUAL_TIERS:
            yield Target(target.endpoint, target.model)
        elif tier in target.endpoint.service_tiers:
            yield Target(target.endpoint, target.model, tier)
        else:
            has = ", ".join(target.endpoint.service_tiers) or "none"
            raise ChoiceError(f"--tier {tier}: {target.endpoint.provider} has no such tier ({has})")
