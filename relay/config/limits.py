"""`limits`: what callers, models and providers' keys may do at most."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from relay.config.model import Model

MAX_LIMIT = 1_000_000_000
"""What every store of limits counts exactly."""

_A_MINUTE = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class RateLimits(Model):
    """A minute, and at once. A bucket holds a minute's worth: so much may come in one burst."""

    rpm: _A_MINUTE | None = Field(None, description="requests a minute")
    input_tpm: _A_MINUTE | None = Field(
        None,
        description="tokens of prompts a minute; a larger prompt is never admitted",
    )
    output_tpm: _A_MINUTE | None = Field(
        None, description="tokens of answers a minute, reasoning included"
    )
    generations: _A_MINUTE | None = Field(None, description="at once")


class CallerLimits(RateLimits):
    """The same for who asks, whose sessions are counted too."""

    sessions: _A_MINUTE | None = Field(
        None, description="at once: Converse streams and WebSockets that are handed through"
    )


class LimitsConfig(Model):
    """Defaults for callers, and limits that all callers share."""

    UNTIL_RESTART: ClassVar[tuple[str, ...]] = ("when_redis_is_down", "redis_timeout_ms", "lease_s")
    """What a worker's connection to the shared place is made with."""

    key: CallerLimits = Field(
        CallerLimits(), description="of every key, where it has none of its own"
    )
    team: CallerLimits = Field(CallerLimits(), description="of every team, likewise")
    organisation: CallerLimits = Field(
        CallerLimits(), description="of every organisation, likewise"
    )
    models: dict[str, RateLimits] = Field(
        default_factory=dict,
        description="by the name that callers ask for: an alias, PROVIDER/MODEL, or a model that"
        " one provider lists; all callers together",
    )
    providers: dict[str, RateLimits] = Field(
        default_factory=dict,
        description="by row, which is a key there: all models, callers and workers together; an"
        " attempt over it goes to the next candidate",
    )
    when_redis_is_down: Literal["local", "refuse"] = Field(
        "local",
        description="`local`: each worker decides by its share, the limit over the workers last"
        " seen; `refuse`: 503. Also for the file that workers of one machine share",
    )
    redis_timeout_ms: int = Field(
        250,
        ge=10,
        le=10_000,
        description="the longest that an admission waits for Redis or the shared file; then it is"
        " left alone and tried again every second in the background",
    )
    lease_s: int = Field(
        15,
        ge=3,
        le=600,
        description="after so long without a word from a worker, generations and sessions that it"
        " held count no more",
    )
