"""What is asked: a model at an endpoint, at a service tier of its own or at the usual one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from relay.config.doors import zone_of
from relay.config.known import class_of
from relay.content import GenerateRequest
from relay.prices import Price
from relay.routing.endpoint import Endpoint


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
