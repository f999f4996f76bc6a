"""`cache`: answers that are given again."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from relay.config.model import Model
from relay.config.semantic_cache import SemanticCacheConfig

_A_WEEK_S = 7 * 86_400


class ExactCacheConfig(Model):
    """The same request again, to the last character that a model sees."""

    UNTIL_RESTART: ClassVar[tuple[str, ...]] = ("redis", "redis_timeout_ms")
    """What a worker's connection to Redis is made with."""

    models: tuple[str, ...] = Field(
        (),
        description="names that clients ask for (aliases, cascades, panels, PROVIDER/MODEL) whose"
        " answers are kept; empty: all",
    )
    not_models: tuple[str, ...] = Field((), description="names whose answers are never kept")
    share: Literal["tenant", "key", "everyone"] = Field(
        "tenant",
        description="with whom an answer is shared: the team's keys, the same key, or all. With"
        " `everyone` the time an answer takes tells one team what another has asked",
    )
    only_deterministic: bool = Field(
        False, description="nothing but temperature 0, a `seed`, or embeddings"
    )
    ttl_s: int = Field(300, ge=1, le=_A_WEEK_S, description="how old a kept answer may be")
    max_ttl_s: int | None = Field(
        None,
        ge=1,
        le=_A_WEEK_S,
        description="what `x-relay-cache-ttl-s` may ask for at most; null: `ttl_s`",
    )
    max_entries: int = Field(10_000, ge=1, le=10_000_000, description="in each worker's memory")
    max_bytes: int = Field(
        64 * 1024 * 1024,
        ge=64 * 1024,
        le=1 << 40,
        description="in each worker's memory; what was used longest ago goes first",
    )
    max_answer_bytes: int = Field(
        256 * 1024,
        ge=1024,
        le=16 * 1024 * 1024,
        description="a larger answer is not kept; events count with what they hold in memory",
    )
    max_request_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="of a larger request, images included, no answer is kept or looked for",
    )
    replay: Literal["instant", "paced"] = Field(
        "instant", description="`paced`: with the pauses of the first time"
    )
    max_gap_ms: int = Field(
        1000, ge=0, le=30_000, description="the longest pause of a paced answer"
    )
    wait_ms: int = Field(
        3000,
        ge=0,
        le=600_000,
        description="how long a request waits for an equal one that is being answered, before it"
        " asks by itself; at most half of its own first-token budget. 0: never",
    )
    redis: bool = Field(True, description="keep them in `store.redis` too, where there is one")
    redis_timeout_ms: int = Field(
        50, ge=1, le=5000, description="the longest that a look-up waits for Redis"
    )
    memory_ttl_s: int = Field(
        10,
        ge=0,
        le=_A_WEEK_S,
        description="with Redis: how long a worker gives an answer out of its own memory, and does"
        " not see that it was refreshed elsewhere",
    )
    epoch: int = Field(0, ge=0, description="another one forgets all that was kept before")

    @model_validator(mode="after")
    def _max_ttl(self) -> ExactCacheConfig:
        if self.max_ttl_s is not None and self.max_ttl_s < self.ttl_s:
            raise ValueError(f"max_ttl_s: {self.max_ttl_s} is below ttl_s, {self.ttl_s}")
        return self

    @model_validator(mode="after")
    def _fits(self) -> ExactCacheConfig:
        if self.max_answer_bytes > self.max_bytes:
            raise ValueError(
                f"max_answer_bytes: {self.max_answer_bytes} would not fit into max_bytes,"
                f" {self.max_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _either(self) -> ExactCacheConfig:
        for name in self.not_models:
            if name in self.models:
                raise ValueError(f"not_models: {name!r} is in models too")
        return self


class CacheConfig(Model):
    """Both caches; each is off where it is not there."""

    exact: ExactCacheConfig | None = None
    semantic: SemanticCacheConfig | None = None
