"""`guardrails`: what may not be asked, and what may not be answered."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from relay.config.guardrail_scans import (
    AnyScan,
    AskingConfig,
    InjectionConfig,
    JudgeScanConfig,
    ModerationConfig,
    PresidioConfig,
)
from relay.config.model import Model, near

Side = Literal["input", "output"]
Action = Literal["block", "redact", "mask", "flag"]

SURFACES = (
    "chat_completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "generate",
    "converse",
    "count_tokens",
    "prewarm",
    "playground",
)
"""What a request came by, as `where.surfaces` calls it."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]


class Meaning(NamedTuple):
    """What a guardrail is worth."""

    kind: Literal["signal", "barrier"]
    why: str
    """In words for people: what it holds, or why it holds nothing."""


class WhereConfig(Model):
    """Every word that is given must fit; of one word's list any."""

    models: Names | None = Field(
        None,
        description="names that clients ask for, or that a rule or an experiment made of them;"
        " unset: all",
    )
    tenants: Names | None = Field(None, description="ids of teams; unset: all")
    tags: Names | None = Field(
        None, description="of the caller's key, or of the request; unset: whatever it has"
    )
    surfaces: tuple[Name, ...] | None = Field(
        None, min_length=1, description=f"of {', '.join(SURFACES)}; unset: all"
    )

    @field_validator("surfaces")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name not in SURFACES:
                raise ValueError(f"{name!r} is none of {', '.join(SURFACES)}{near(name, SURFACES)}")
        return value


class ExceptConfig(Model):
    """Who is spared. Tags are none of it: a request may name its own."""

    models: Names | None = None
    tenants: Names | None = Field(None, description="ids of teams")


class GuardrailConfig(Model):
    """One guardrail. It holds for every request that it is not told to leave alone: no caller can
    switch it off."""

    scan: Annotated[AnyScan, Field(discriminator="kind")]
    sides: tuple[Side, ...] = Field(("input", "output"), min_length=1)
    action: Action = Field(
        "block",
        description="redact: `[label]` in its place; mask: its form without its letters; flag: it"
        " is told in ledger, log and metrics, and goes on",
    )
    fail: Literal["closed", "open"] = Field(
        "closed", description="what becomes of a text that could not be looked at: open: it goes on"
    )
    timeout_ms: int = Field(
        1_500, ge=10, le=60_000, description="of one question to somebody else, waiting included"
    )
    message: str = Field(
        "", max_length=500, description="what a caller is told of a block; unset: its name"
    )
    where: WhereConfig = WhereConfig()
    spared: ExceptConfig = Field(ExceptConfig(), alias="except")
    tools: bool = Field(
        True, description="look at tools too: definitions, arguments of calls, results"
    )
    reasoning: bool = Field(True, description="look at a model's reasoning too")
    unreadable: Literal["pass", "block"] = Field(
        "pass", description="images, sound, files and tokens, in which nothing can be found"
    )
    means: Literal["signal", "barrier"] | None = Field(
        None, description="what is wanted of it: a barrier that cannot be one is refused"
    )

    @model_validator(mode="after")
    def _can_do_it(self) -> GuardrailConfig:
        asks = isinstance(self.scan, AskingConfig)
        if asks and self.action in ("redact", "mask"):
            raise ValueError(
                f"action: {self.scan.kind} says of a text whether it is right, not what in it is"
                " not; block or flag is expected"
            )
        if isinstance(self.scan, InjectionConfig) and self.action in ("redact", "mask"):
            raise ValueError("action: an injection is a whole text; block or flag is expected")
        if self.means == "barrier" and (meaning := self.meaning).kind != "barrier":
            raise ValueError(f"means: it can be no barrier: {meaning.why}")
        return self

    @property
    def meaning(self) -> Meaning:
        """What it is worth, whatever is wanted of it."""
        if self.action == "flag":
            return Meaning("signal", "what it finds is told and goes on")
        scan = self.scan
        if isinstance(scan, InjectionConfig):
            return Meaning(
                "signal", "an attack need not use any known words; those who do are found"
            )
        if isinstance(scan, AskingConfig):
            if scan.when == "after" and "output" in self.sides:
                return Meaning("signal", "an answer is out before it is looked at")
            if self.fail == "open":
                return Meaning("signal", "a text goes on where nobody could say in time")
            if scan.messages == "new" and "input" in self.sides:
                return Meaning("signal", "a text in front of a made-up turn is not looked at")
            if scan.kind == "webhook" and (left := self._left_out) is not None:
                return left
            if scan.kind == "webhook":
                return Meaning("barrier", "nothing goes on without its owner's consent")
            who = "a model" if scan.kind == "judge" else "a classifier"
            return Meaning("signal", f"it is the opinion of {who}, which can be talked over")
        if isinstance(scan, PresidioConfig):
            return Meaning("signal", "it is the opinion of a language model")
        if self.fail == "open":
            return Meaning("signal", "a text goes on where it could not be looked at")
        if (left := self._left_out) is not None:
            return left
        return Meaning(
            "barrier",
            "what it knows by its letters does not pass; other spellings, base64, other languages,"
            " pictures and sound pass",
        )

    @property
    def _left_out(self) -> Meaning | None:
        """What it is worth where it does not look at everything."""
        for word, is_read in (("tools", self.tools), ("reasoning", self.reasoning)):
            if not is_read:
                return Meaning("signal", f"it does not look at {word}")
        return None

    @property
    def is_barrier(self) -> bool:
        """Whether what it finds stays here, and it is not declared as less."""
        return self.means != "signal" and self.meaning.kind == "barrier"


class GuardrailsConfig(Model):
    """All guardrails, and where each applies."""

    rails: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], GuardrailConfig
    ] = Field(default_factory=dict, description="in the order in which texts go through them")
    passthrough: Literal["auto", "allow", "refuse"] = Field(
        "auto",
        description="what is handed through to a provider unread: auto: refused to whom a barrier"
        " applies; allow: guardrails do not hold there; refuse: to everybody",
    )
    max_held_chars: int = Field(
        1_000_000,
        ge=4_096,
        le=20_000_000,
        description="of one answer held back at once; one that needs more is blocked",
    )
    idle_ms: int = Field(
        10_000,
        ge=100,
        le=600_000,
        description="how long somebody who has failed three times in a row is not asked",
    )

    def faults(
        self, providers: Collection[str], models: Collection[str], listed: Collection[str]
    ) -> Iterator[str]:
        """What does not fit the rest of the file, one line each.

        Args:
            providers: names of rows.
            models: aliases, cascades, panels: what a client may ask for.
            listed: further names of models.
        """
        for name, rail in self.rails.items():
            path = f"guardrails.rails.{name}"
            scan = rail.scan
            if isinstance(scan, ModerationConfig) and scan.provider not in providers:
                hint = near(scan.provider, providers)
                yield f"{path}.scan.provider: there is no provider {scan.provider!r}{hint}"
            if isinstance(scan, JudgeScanConfig):
                row, slash, _ = scan.model.partition("/")
                if scan.model not in {*models, *listed} and not (slash and row in providers):
                    hint = near(scan.model, [*models, *listed])
                    yield f"{path}.scan.model: nobody can ask for {scan.model!r}{hint}"
            for key, given in (("where", rail.where.models), ("except", rail.spared.models)):
                for model in given or ():
                    row, slash, _ = model.partition("/")
                    if model in models or model in listed or (slash and row in providers):
                        continue
                    hint = near(model, [*models, *listed])
                    yield f"{path}.{key}.models: nobody can ask for {model!r}{hint}"
