"""From what a client asks for to where it may go: aliases, endpoints, targets.

Built once per configuration and immutable: a generation keeps the catalog it started with, a
reload makes a new one. Resolution of a client's `model`, in this order:

1. an alias of the configuration;
2. `provider/model`, split at the first `/`, of a configured provider;
3. a bare model name that exactly one provider row lists;
4. else UnknownModel with the nearest names, or with how a model is named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from relay.codecs.base import Codec, CodecFactory
from relay.codecs.registry import BUILDERS, EMBEDDERS, embedder_of
from relay.config import (
    TIMEOUT_CLASSES_MS,
    AliasConfig,
    CancelBilling,
    ChooseConfig,
    Config,
    ConfigError,
    EscalateConfig,
    HedgeConfig,
    PassthroughConfig,
    ProviderConfig,
    ProxyUrl,
    RatesConfig,
    TimeoutsConfig,
)
from relay.config.doors import zone_of
from relay.config.known import class_of
from relay.content import GenerateRequest
from relay.credentials.base import Call, Credential, Desk
from relay.credentials.build import without_desk
from relay.errors import MAX_SHOWN_CHARS, CredentialUnavailable, UnknownModel
from relay.prices import USUAL_TIERS, Price, known_price
from relay.transport.base import Headers, Origin

_DEFAULT_TIMEOUTS = TimeoutsConfig()
"""For models asked for by their own name; building one costs 20 us."""

_NO_HEDGE = HedgeConfig()
_AS_LISTED = ChooseConfig()
MAX_NEAREST = 3
"""How many names a client is told that asked for an unknown one."""

MAX_WITHIN = 64
"""Sets of zones for which a route keeps what is left of it."""


class Signed(NamedTuple):
    """Headers of a request that says who asks."""

    all: Headers
    """What is sent."""
    credential: Headers
    """Those among them that the credential gave for this request: to tell it what became of them,
    and to be masked where the provider quotes them."""

    def __repr__(self) -> str:
        return "Signed(***)"


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """Provider, address and credential: who is asked. Holds secrets, so it prints no fields."""

    provider: str
    wire: str
    origin: Origin
    base_path: str
    """Path of the `base_url`, put before the codec's path; no `/` at its end."""
    headers: Headers
    """The row's own, sent with every request; the credential is not among them."""
    credential: Credential
    make_codec: CodecFactory
    make_embedder: CodecFactory
    """For requests that want vectors; where the wire has none it refuses them by name."""
    warm_connections: int
    max_streams: int
    probe_path: str
    prices: Mapping[str, Price]
    """By model, where the operator gives his own."""
    tier_prices: Mapping[tuple[str, str], Price]
    """By model and service tier, likewise."""
    cancel_billing: CancelBilling
    """What a cancelled stream costs."""
    rpm: int | None
    """Requests a minute that the operator allows each model; None for no limit of ours."""
    tpm: int | None
    """Tokens a minute, likewise."""
    models: tuple[str, ...]
    passthrough: PassthroughConfig | None
    """What is handed through unread; None for nothing."""
    caches_prompts: bool
    """Whether sending the beginning of a prompt ahead makes the prompt cheaper and faster."""

    door: str
    """The row of the known providers that it is of; its own name for any other."""
    region: str
    data_zone: str
    """Where prompts are processed, by the operator's word; empty for unknown."""
    zoned_as: str
    """The door by whose rules names of models say their zone."""
    retention: str
    service_tier: str
    """Of requests that name none; empty for the provider's default."""
    service_tiers: tuple[str, ...]
    """That can be asked for with a request."""
    same_as: Mapping[str, str]
    """Its names of models -> the classes they are of, by the operator's word."""

    def price_of(self, model: str, tier: str = "") -> Price | None:
        """What the operator says, else what is published, else None.

        A name of the operator's own (a deployment) costs what the model does that it is said to be.

        Args:
            tier: a service tier; empty: the row's. The operator's price of a model is that of the
                usual tier and of the row's; others have the prices that he gives them.
        """
        own, tier = not tier, tier or self.service_tier
        tier = "" if tier in USUAL_TIERS else tier
        if model in self.prices:
            usual = self.prices[model]
            return self.tier_prices.get((model, tier), usual if own or not tier else None)
        found = known_price(self.door, model, tier)
        if found is None and model in self.same_as:
            found = known_price(self.door, self.same_as[model], tier)
        return found

    def signed(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        wall_s: float,
        session: str = "",
    ) -> Signed:
        """All headers of a request: these, the row's own, and the credential's.

        Args:
            path: as it is sent, the base path included.
            wall_s: seconds since 1970.
            session: see `Call`.

        Raises:
            CredentialUnavailable: there is none now; names the provider.
        """
        given = [*headers, *self.headers]
        try:
            own = self.credential.headers(
                Call(method, self.origin, path, given, body, session), wall_s
            )
        except CredentialUnavailable as error:
            raise CredentialUnavailable(
                f"providers.{self.provider}: {error.public_message}",
                retry_after_s=error.retry_after_s,
                metadata={"provider": self.provider, **error.metadata},
            ) from error
        return Signed([*given, *own], own)

    def secrets(self) -> Headers:
        """What must be masked in what the provider says: for `redact` and `forms_of`."""
        return [*self.headers, *(("", value) for value in self.credential.secrets())]

    def codec_for(self, request: GenerateRequest) -> Codec:
        """A codec for one attempt."""
        return self.make_codec() if request.embedding is None else self.make_embedder()

    @property
    def has_embeddings(self) -> bool:
        """Whether its wire gives vectors."""
        return self.wire in EMBEDDERS

    @property
    def stops_billing(self) -> bool:
        """Whether a cancelled stream is known to cost no more than what it had sent."""
        return self.cancel_billing in ("stops", "used_tokens")

    def __repr__(self) -> str:
        return f"Endpoint({self.provider} at {self.origin.url}{self.base_path})"


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint and the provider's name of a model: the key of breakers, sketches, limits."""

    endpoint: Endpoint
    model: str
    service_tier: str = ""
    """Asked for whatever the request names; empty: the request's, else the endpoint's."""
    name: str = field(init=False, compare=False)
    """`provider/model`, and `#tier` where it has one of its own: for people and metrics."""
    place: str = field(init=False, compare=False)
    """`provider/model`: where a prompt cache is, and whose prior a tier takes."""
    same: str = field(init=False, compare=False)
    """The class of models that are the same one elsewhere; empty for none."""
    zone: str = field(init=False, compare=False)
    """Where prompts are processed; empty for unknown."""
    price: Price | None = field(init=False, compare=False)
    """See `Endpoint.price_of`."""

    def __post_init__(self) -> None:
        endpoint, model, tier = self.endpoint, self.model, self.service_tier
        place = f"{endpoint.provider}/{model}"
        put = object.__setattr__
        put(self, "place", place)
        put(self, "name", f"{place}#{tier}" if tier else place)
        put(self, "same", class_of(endpoint.door, model, endpoint.same_as))
        put(self, "zone", zone_of(endpoint.zoned_as, endpoint.data_zone, model))
        put(self, "price", endpoint.price_of(model, tier))

    def tier_of(self, asked: str) -> str:
        """The service tier that a request gets here which asks for this one; empty for none."""
        return self.service_tier or asked or self.endpoint.service_tier

    def asked(self, request: GenerateRequest) -> GenerateRequest:
        """The request as it is put here: at the tier of the target, or of the endpoint. The same
        object where that changes nothing."""
        tier = self.tier_of(request.service_tier)
        if tier == request.service_tier:
            return request
        return dataclasses.replace(request, service_tier=tier)


_NONE_ESCALATED: Mapping[str, Target] = {}


def escalated(candidates: Iterable[Target], settings: EscalateConfig) -> Mapping[str, Target]:
    """See `Route.escalated`. A price that is not known is no bargain, and nor is a tier for which
    nobody publishes one: then a target is not in it."""
    tier = settings.tier
    if tier is None:
        return _NONE_ESCALATED
    found: dict[str, Target] = {}
    for target in candidates:
        endpoint = target.endpoint
        if tier not in endpoint.service_tiers or target.tier_of("") == tier:
            continue
        dearer = Target(endpoint, target.model, tier)
        price, usual = dearer.price, target.price
        if price is not None and usual is not None and _is_within(price, usual, settings):
            found[target.name] = dearer
    return found


def _is_within(price: Price, usual: Price, settings: EscalateConfig) -> bool:
    """In input and in output: which of them a request pays most for is not known here. What is
    cached costs what the budget of money says."""
    most = settings.max_price_ratio * (1 + 1e-9)
    return price.input <= most * usual.input and price.output <= most * usual.output


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, seconds."""

    connect_s: float
    first_token_s: float
    inter_token_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Route:
    """What a model name stands for."""

    alias: str
    """The alias, or the name as it was asked for."""
    candidates: tuple[Target, ...]
    """Each once."""
    fallbacks: tuple[Target, ...]
    """Each once, none that is a candidate."""
    timeouts: TimeoutsConfig
    tags: tuple[str, ...] = ()
    hedge: HedgeConfig = _NO_HEDGE
    choose: ChooseConfig = _AS_LISTED
    is_alias: bool = True
    """The operator wrote it; else `provider/model`, or a model's own name, as a caller did."""
    zones: frozenset[str] | None = None
    """All that its targets are in; None for anywhere."""
    escalated: Mapping[str, Target] = field(init=False, compare=False, repr=False)
    """By name of a candidate: the same at the dearer tier of `hedge.escalate`, where its price is
    known and not too high."""
    _narrowed: dict[frozenset[str], Route | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "escalated", escalated(self.candidates, self.hedge.escalate))

    def within(self, zones: frozenset[str] | None) -> Route | None:
        """What is left of it in these zones (and its own): targets elsewhere, or in an unknown
        zone, are gone. Where only fallbacks are left, they are its candidates.

        Returns:
            The same object for the same zones, so that what is kept by route stays; None where
            nothing is left.
        """
        if zones is None or zones == self.zones:
            return self
        if zones in self._narrowed:
            return self._narrowed[zones]
        allowed = zones if self.zones is None else zones & self.zones
        candidates = tuple(target for target in self.candidates if target.zone in allowed)
        fallbacks = tuple(target for target in self.fallbacks if target.zone in allowed)
        route = None
        if candidates or fallbacks:
            route = dataclasses.replace(
                self,
                candidates=candidates or fallbacks,
                fallbacks=fallbacks if candidates else (),
                zones=allowed,
            )
        if len(self._narrowed) >= MAX_WITHIN:
            self._narrowed.clear()
        self._narrowed[zones] = route
        return route

    @property
    def narrower(self) -> tuple[Route, ...]:
        """What `within` has made of it so far, the latest last."""
        return tuple(route for route in self._narrowed.values() if route is not None)

    def timeouts_for(self, request: GenerateRequest) -> Timeouts:
        """Limits of each attempt at this route, by its class and what the request asks."""
        timeout_class = self.timeouts.timeout_class
        if timeout_class == "auto":
            timeout_class = "reasoning" if _asks_for_reasoning(request) else "default"
        return self.timeouts_of(timeout_class)

    def timeouts_of(self, timeout_class: str) -> Timeouts:
        """The same of a class: fields left out come from it."""
        given = self.timeouts
        return _timeouts(
            timeout_class,
            given.connect_ms,
            given.first_token_ms,
            given.inter_token_ms,
            given.total_ms,
        )


@lru_cache(maxsize=1024)
def _timeouts(
    timeout_class: str,
    connect_ms: int | None,
    first_token_ms: int | None,
    inter_token_ms: int | None,
    total_ms: int | None,
) -> Timeouts:
    row = TIMEOUT_CLASSES_MS[timeout_class]
    return Timeouts(
        connect_s=(connect_ms or row["connect_ms"]) / 1000,
        first_token_s=(first_token_ms or row["first_token_ms"]) / 1000,
        inter_token_s=(inter_token_ms or row["inter_token_ms"]) / 1000,
        total_s=(total_ms or row["total_ms"]) / 1000,
    )


def _asks_for_reasoning(request: GenerateRequest) -> bool:
    effort = request.reasoning.effort
    return effort not in ("", "none", "minimal") or bool(request.reasoning.budget_tokens)


class Catalog:
    """Every endpoint and alias of one configuration.

    Raises:
        ConfigError: a wire that does not exist, a quirk that its codec does not know, a credential
            that cannot be used, an alias whose zones leave no candidate.
    """

    def __init__(self, config: Config, desk: Desk | None = None) -> None:
        """
        Args:
            desk: who keeps credentials that must be fetched. None: nobody does, so that only keys
                of the configuration serve, and all others wait.
        """
        self.endpoints: dict[str, Endpoint] = {
            name: _endpoint(name, row, desk) for name, row in config.providers.items()
        }
        self._routes: dict[str, Route] = {
            alias: self._route(alias, row) for alias, row in config.models.items()
        }
        listed: dict[str, list[str]] = {}
        for name, endpoint in self.endpoints.items():
            for model in endpoint.models:
                listed.setdefault(model, []).append(name)
        self._bare: Mapping[str, str] = {
            model: names[0] for model, names in listed.items() if len(names) == 1
        }
        self._ambiguous = {model: names for model, names in listed.items() if len(names) > 1}
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
                if c not in candidates and _is_inside(target, zones)
            ),
            timeouts=row.timeouts,
            tags=row.tags,
            hedge=row.hedge,
            choose=row.choose,
            zones=zones,
        )

    def _target(self, provider: str, model: str) -> Target:
        return Target(self.endpoints[provider], model)

    def resolve(self, model: str) -> Route:
        """The route of a client's `model`.

        Raises:
            UnknownModel: nothing has this name.
        """
        route = self._routes.get(model)
        if route is not None:
            return route
        provider, separator, name = model.partition("/")
        if not (separator and name and provider in self.endpoints):
            provider, name = self._bare.get(model, ""), model
        if not provider:
            if model in self._ambiguous:
                raise UnknownModel(model, [f"{p}/{model}" for p in self._ambiguous[model]])
            raise UnknownModel(model, self._nearest(model), list(self.endpoints)[:MAX_NEAREST])
        return Route(
            alias=model,
            candidates=(self._target(provider, name),),
            fallbacks=(),
            timeouts=_DEFAULT_TIMEOUTS,
            is_alias=False,
        )

    def _nearest(self, model: str) -> list[str]:
        """Names like this one, whatever its case, and with or without a provider before it."""
        asked = model[:MAX_SHOWN_CHARS].lower()  # comparing a megabyte would stop the loop
        found = difflib.get_close_matches(asked, self._near, MAX_NEAREST, 0.5)
        names = dict.fromkeys(name for text in found for name in self._near[text])
        return list(names)[:MAX_NEAREST]

    def names(self) -> list[str]:
        """Everything that `resolve` knows by name: aliases first, then `provider/model`."""
        return [*self._routes] + [
            f"{name}/{model}" for name, e in self.endpoints.items() for model in e.models
        ]

    @property
    def routes(self) -> Mapping[str, Route]:
        """The aliases."""
        return self._routes


def _is_inside(target: Target, zones: frozenset[str] | None) -> bool:
    return zones is None or target.zone in zones


def _inside(
    targets: Iterable[Target], zones: frozenset[str] | None, alias: str
) -> tuple[Target, ...]:
    """
    Raises:
        ConfigError: none is.
    """
    found = tuple(target for target in targets if _is_inside(target, zones))
    if not found:
        known = ", ".join(f"{target.name} ({target.zone or 'unknown'})" for target in targets)
        raise ConfigError(
            f"models.{alias}.zones: no candidate is in {', '.join(sorted(zones or ()))}: {known}"
        )
    return found


def _endpoint(name: str, row: ProviderConfig, desk: Desk | None) -> Endpoint:
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
        ca_digest=_digest_of(row.ca_file),
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


def _digest_of(ca_file: str | None) -> str:
    """Another one when the file holds other roots: a reload then connects anew."""
    if ca_file is not None:
        with contextlib.suppress(OSError):  # gone since it was checked; the dial says so
            return hashlib.sha256(Path(ca_file).read_bytes()).hexdigest()
    return ""
