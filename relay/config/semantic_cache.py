"""`cache.semantic`: answers to requests that mean the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from relay.config.model import Model, near

_A_WEEK_S = 7 * 86_400
_GUARD = (
    "`strict`: every word with content must have its like in the kept turn. `loose`: one side may"
    " have one word more (5 % false hits on such pairs as docs/semantic-cache.md has them)"
)


class SemanticRouteConfig(Model):
    """Of one route; what is null is as the cache has it."""

    threshold: float | None = Field(
        None, ge=0.5, le=1.0, description="cosine from which on two turns may mean the same"
    )
    ttl_s: int | None = Field(None, ge=1, le=_A_WEEK_S, description="how old a kept answer may be")
    guard: Literal["strict", "loose"] | None = Field(None, description=_GUARD)


class SemanticCacheConfig(Model):
    """A request whose last user turn means the same as one before, and whose rest is the same."""

    UNTIL_RESTART: ClassVar[tuple[str, ...]] = ("redis", "redis_timeout_ms")

    routes: dict[str, SemanticRouteConfig] = Field(
        min_length=1,
        description="names that clients ask for (aliases, cascades, panels) whose answers may be"
        " given to turns that mean the same; no others are. `{}` for the cache's own settings",
    )
    embeddings: Literal["provider", "wordllama", "onnx"] = Field(
        "provider",
        description="who makes vectors of turns: a provider's embeddings (`model`), the table of"
        " the package `wordllama`, or a sentence model in `directory`",
    )
    model: str = Field(
        "",
        description="with `embeddings: provider`, which needs it: an alias or PROVIDER/MODEL; its"
        " cost is the request's",
    )
    dimensions: int | None = Field(
        None, ge=16, le=4096, description="that the provider is asked for; null: the model's own"
    )
    directory: str = Field(
        "",
        description="with `embeddings: onnx`, which needs it: where `model.onnx` and"
        " `tokenizer.json` are",
    )
    embedding_timeout_ms: int = Field(
        200,
        ge=1,
        le=10_000,
        description="the longest that a request waits for its vector; then it is asked as if there"
        " were no semantic cache",
    )
    threshold: float | None = Field(
        None,
        ge=0.5,
        le=1.0,
        description="cosine from which on two turns may mean the same; null: the embedder's own"
        " (wordllama 0.80, onnx 0.80, provider 0.85)",
    )
    guard: Literal["strict", "loose"] = Field("strict", description=_GUARD)
    neighbours: int = Field(
        8, ge=1, le=64, description="kept turns that are looked at, the nearest first"
    )
    share: Literal["tenant", "key", "everyone"] = Field(
        "tenant",
        description="with whom an answer is shared: the team's keys, the same key, or all."
        " `everyone` lets one team choose what another is answered",
    )
    max_chars: int = Field(
        500, ge=1, le=8000, description="a longer turn is not looked up and not kept"
    )
    ttl_s: int = Field(3600, ge=1, le=_A_WEEK_S, description="how old a kept answer may be")
    max_entries: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="in each worker's memory; in Redis of one partition",
    )
    max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=64 * 1024,
        le=1 << 40,
        description="in each worker's memory; what was used longest ago goes first",
    )
    max_answer_bytes: int = Field(
        64 * 1024, ge=1024, le=16 * 1024 * 1024, description="a larger answer is not kept"
    )
    redis: bool = Field(
        True,
        description="keep them in `store.redis` instead of memory, where there is one; it must have"
        " vector sets (Redis 8)",
    )
    redis_timeout_ms: int = Field(
        50, ge=1, le=5000, description="the longest that each of two look-ups waits for Redis"
    )
    epoch: int = Field(0, ge=0, description="another one forgets all that was kept before")

    def faults(
        self, names: Collection[str], aliases: Collection[str], providers: Collection[str]
    ) -> Iterator[str]:
        """What is wrong beside the rest of the file, each beginning with its field.

        Args:
            names: that clients may ask for.
            aliases: those among them that are one.
        """
        for name in self.routes:
            provider, slash, _ = name.partition("/")
            if name not in names and not (slash and provider in providers):
                yield f"cache.semantic.routes: nobody can ask for {name!r}{near(name, names)}"
        if self.embeddings == "provider" and self.model not in aliases:
            provider, slash, model = self.model.partition("/")
            if not slash or not model or provider not in providers:
                known = [*aliases, *(f"{one}/{model}" for one in providers)]
                yield (
                    f"cache.semantic.model: {self.model!r} is no alias and no PROVIDER/MODEL"
                    f"{near(self.model, known)}"
                )

    @model_validator(mode="after")
    def _embedder_has_what_it_needs(self) -> SemanticCacheConfig:
        if self.embeddings == "provider" and not self.model:
            raise ValueError(
                "model: needed with `embeddings: provider`, as an alias or PROVIDER/MODEL of an"
                " embedding model"
            )
        if self.embeddings == "onnx" and not self.directory:
            raise ValueError("directory: needed with `embeddings: onnx`")
        if self.embeddings != "provider":
            for name in ("model", "dimensions"):
                if getattr(self, name):
                    raise ValueError(f"{name}: only with `embeddings: provider`")
        if self.embeddings != "onnx" and self.directory:
            raise ValueError("directory: only with `embeddings: onnx`")
        return self
