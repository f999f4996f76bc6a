"""Who is asked: a provider's row as requests see it, with its address, credential and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from relay.codecs.base import Codec, CodecFactory
from relay.codecs.registry import EMBEDDERS
from relay.config import CancelBilling, PassthroughConfig
from relay.content import GenerateRequest
from relay.credentials.base import Call, Credential
from relay.errors import CredentialUnavailable
from relay.prices import USUAL_TIERS, Price, known_price
from relay.transport.base import Headers, Origin


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

    tells_trace: bool
    """Whether requests say which trace they belong to."""
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
