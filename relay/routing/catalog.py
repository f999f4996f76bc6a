"""From what a client asks for to where it may go: aliases, endpoints, targets.

Built once per configuration and immutable: a generation keeps the catalog it started with, a
reload makes a new one. Resolution of a client's `model`, in this order:

1. an alias of the configuration, or a name that its policies make one of several aliases;
2. `provider/model`, split at the first `/`, of a configured provider;
3. a bare model name that exactly one provider row lists;
4. else UnknownModel with the nearest names, or with how a model is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from relay.config import AliasConfig, Config, ConfigError, HedgeConfig, TimeoutsConfig
from relay.credentials.base import Desk
from relay.errors import MAX_SHOWN_CHARS, UnknownModel
from relay.routing.build_endpoint import endpoint_of
from relay.routing.endpoint import Endpoint
from relay.routing.route import Route, is_inside
from relay.routing.target import Target

_DEFAULT_TIMEOUTS = TimeoutsConfig()
"""For models asked for by their own name; building one costs 20 us."""

MAX_NEAREST = 3
MAX_DIRECT = 4096
"""Routes of single models that are kept once made."""
"""How many names a client is told that asked for an unknown one."""


class Composed(NamedTuple):
    """A name behind which policies ask more than one alias."""

    aliases: tuple[str, ...]
    """That it may come to, those that are always asked first."""
    legs_at_once: int = 1
    """Of them, so many beside each other."""


class Catalog:
    """Every endpoint and alias of one configuration.

    Raises:
        ConfigError: a wire that does not exist, a quirk that its codec does not know, a credential
            that cannot be used, an alias whose zones leave no candidate.
    """

    def __init__(
        self,
        config: Config,
        desk: Desk | None = None,
        composed: Mapping[str, Composed] | None = None,
    ) -> None:
        """
        Args:
            composed: names of cascades, panels and rules, none of which is an alias.
            desk: who keeps credentials that must be fetched. None: nobody does, so that only keys
                of the configuration serve, and all others wait.
        """
        self.endpoints: dict[str, Endpoint] = {
            name: endpoint_of(name, row, desk) for name, row in config.providers.items()
        }
        self._routes: dict[str, Route] = {
            alias: self._route(alias, row) for alias, row in config.models.items()
        }
        self.composed: dict[str, Route] = {}
        """Of each such name everything that it may come to, for whoever must know of all of it:
        what it may cost, which zones it may go to. Nobody races them."""
        listed: dict[str, list[str]] = {}
        for name, endpoint in self.endpoints.items():
            for model in endpoint.models:
                listed.setdefault(model, []).append(name)
        self._bare: Mapping[str, str] = {
            model: names[0] for model, names in listed.items() if len(names) == 1
        }
        self._ambiguous = {model: names for model, names in listed.items() if len(names) > 1}
        self._direct: dict[str, Route] = {}
        """Routes of models that no alias stands for, by the name that was asked for."""
        self._compose(composed or {})
        self._near: dict[str, list[str]] = {}
        """In lower case what people may have meant -> what to ask for."""
        for name in self.names():
            self._near.setdefault(name.lower(), []).append(name)
        named = [
            target
            for route in self._routes.values()
            for target in (*route.candidates, *route.fallbacks)
        ] + [self._target(p, model) for model, providers in listed.items() for p in providers]
        for target in named:
            for text in (target.name, target.model):
                self._near.setdefault(text.lower(), []).append(target.name)

    def _route(self, alias: str, row: AliasConfig) -> Route:
        candidates = {c: self._target(c.provider, c.model) for c in row.candidates}
        fallbacks = {c: self._target(c.provider, c.model) for c in row.fallbacks}
        zones = None if row.zones is None else frozenset(row.zones)
        return Route(
            alias=alias,
            candidates=_inside(candidates.values(), zones, alias),
            fallbacks=tuple(
                target
                for c, target in fallbacks.items()
                if c not in candidates and is_inside(target, zones)
            ),
            timeouts=row.timeouts,
            tags=row.tags,
            hedge=row.hedge,
            choose=row.choose,
            zones=zones,
        )

    def _compose(self, composed: Mapping[str, Composed]) -> None:
        """Rules may name cascades and panels: those that need none first."""
        waiting = dict(composed)
        while waiting:
            ready = {
                name: one for name, one in waiting.items() if not waiting.keys() & {*one.aliases}
            }
            if not ready:
                raise ConfigError(f"policies: {', '.join(sorted(waiting))} ask for each other")
            for name, one in ready.items():
                routes = [self.resolve(alias) for alias in one.aliases]
                candidates = {t.name: t for each in routes for t in each.candidates}
                fallbacks = {t.name: t for each in routes for t in each.fallbacks}
                hedged = max(routes, key=lambda each: _hedged(each.hedge))
                self.composed[name] = Route(
                    alias=name,
                    candidates=tuple(candidates.values()),
                    fallbacks=tuple(t for name, t in fallbacks.items() if name not in candidates),
                    timeouts=_DEFAULT_TIMEOUTS,
                    hedge=hedged.hedge,
                    legs_at_once=one.legs_at_once * max(each.legs_at_once for each in routes),
                )
                del waiting[name]

    def _target(self, provider: str, model: str) -> Target:
        return Target(self.endpoints[provider], model)

    def resolve(self, model: str) -> Route:
        """The route of a client's `model`.

        Raises:
            UnknownModel: nothing has this name.
        """
        route = self._routes.get(model) or self._direct.get(model) or self.composed.get(model)
        if route is not None:
            return route
        provider, separator, name = model.partition("/")
        if not (separator and name and provider in self.endpoints):
            provider, name = self._bare.get(model, ""), model
        if not provider:
            if model in self._ambiguous:
                raise UnknownModel(model, [f"{p}/{model}" for p in self._ambiguous[model]])
            raise UnknownModel(model, self._nearest(model), list(self.endpoints)[:MAX_NEAREST])
        route = Route(
            alias=model,
            candidates=(self._target(provider, name),),
            fallbacks=(),
            timeouts=_DEFAULT_TIMEOUTS,
            is_alias=False,
        )
        if len(model) <= MAX_SHOWN_CHARS:  # names come from callers
            if len(self._direct) >= MAX_DIRECT:
                self._direct.clear()
            self._direct[model] = route
        return route

    def _nearest(self, model: str) -> list[str]:
        """Names like this one, whatever its case, and with or without a provider before it."""
        asked = model[:MAX_SHOWN_CHARS].lower()  # comparing a megabyte would stop the loop
        found = difflib.get_close_matches(asked, self._near, MAX_NEAREST, 0.5)
        names = dict.fromkeys(name for text in found for name in self._near[text])
        return list(names)[:MAX_NEAREST]

    def names(self) -> list[str]:
        """Everything that `resolve` knows by name: aliases first, then what policies name, then
        `provider/model`."""
        return [*self._routes, *self.composed] + [
            f"{name}/{model}" for name, e in self.endpoints.items() for model in e.models
        ]

    @property
    def routes(self) -> Mapping[str, Route]:
        """The aliases."""
        return self._routes

    def has_name(self, model: str) -> bool:
        """Whether the file has made this name up: an alias, a cascade, a panel or a rule's own."""
        return model in self._routes or model in self.composed


def _hedged(hedge: HedgeConfig) -> int:
    return hedge.max_attempts if hedge.mode == "active" else 1


def _inside(
    targets: Iterable[Target], zones: frozenset[str] | None, alias: str
) -> tuple[Target, ...]:
    """
    Raises:
        ConfigError: none is.
    """
    found = tuple(target for target in targets if is_inside(target, zones))
    if not found:
        known = ", ".join(f"{target.name} ({target.zone or 'unknown'})" for target in targets)
        raise ConfigError(
            f"models.{alias}.zones: no candidate is in {', '.join(sorted(zones or ()))}: {known}"
        )
    return found
