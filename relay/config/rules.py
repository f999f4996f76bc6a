"""`policies.rules`: which name a request becomes, by what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from relay.config.model import Model
from relay.config.rule_values import (
    FlagOrTexts,
    Languages,
    Range,
    Surfaces,
    Texts,
    days_of,
    hours_of,
    zone_of_name,
)

TAG: Final = "tag:"
"""Before a tag, where a model is asked for: any alias that carries it."""

_NOT_OF_VECTORS: Final = (
    "tools",
    "images",
    "audio",
    "files",
    "json",
    "reasoning",
    "effort",
    "language",
    "messages",
)
"""Conditions that a request for vectors cannot meet, unless they are `false`."""


class TimeConfig(Model):
    """A span of the week, by the clock on a wall somewhere."""

    zone: str = Field("UTC", description="IANA name of the time zone, such as Europe/Berlin")
    days: Texts | None = Field(
        None,
        description="`mon` to `sun`, or spans as `mon-fri`, of the day on which the hours begin;"
        " unset: all",
    )
    hours: str | None = Field(
        None,
        description="`08:00-18:30`, the end excluded; `22:00-06:00` ends on the next day; unset:"
        " the whole day",
    )

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        zone_of_name(value)
        return value

    @field_validator("days")
    @classmethod
    def _days(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            days_of(value)
        return value

    @field_validator("hours")
    @classmethod
    def _hours(cls, value: str | None) -> str | None:
        if value is not None:
            hours_of(value)
        return value

    @model_validator(mode="after")
    def _says_something(self) -> TimeConfig:
        if self.days is None and self.hours is None:
            raise ValueError("days, hours or both are expected")
        return self


class LatencyConfig(Model):
    """How an alias does at present, by what was learnt of its time to first token."""

    of: str = Field(description="an alias")
    quantile: Literal["p50", "p95"] = Field("p95", description="of times to first token")
    above_ms: int | None = Field(
        None, ge=1, description="it is slower; not where nothing is known of it yet"
    )
    below_ms: int | None = Field(None, ge=1, description="instead: it is faster, and known to be")

    @model_validator(mode="after")
    def _one_bound(self) -> LatencyConfig:
        if (self.above_ms is None) == (self.below_ms is None):
            raise ValueError("either above_ms or below_ms is expected")
        return self


class WhenConfig(Model):
    """What a request must be: all that is given here. Of a list, one is enough."""

    model: Texts | None = Field(
        None,
        description="names as the client asks for them; `*` stands for any characters, for a `/`"
        " only in a pattern that has one itself or is nothing but `*`",
    )
    tags: Texts | None = Field(None, description="that the request carries (`x-relay-tags`)")
    surface: Surfaces | None = Field(None, description="the way in that it came by")
    embeddings: bool | None = Field(
        None,
        description="vectors are wanted, and no answer; unset: a rule with `use` or `pick` is for"
        " answers alone",
    )
    tools: FlagOrTexts | None = Field(
        None, description="there are tools, there are none, or one has such a name (`*` as above)"
    )
    images: bool | None = Field(None, description="in any message")
    audio: bool | None = Field(None, description="in any message")
    files: bool | None = Field(None, description="in any message")
    json_output: bool | Literal["object", "schema"] | None = Field(
        None, alias="json", description="JSON is wanted; `schema`: by a schema"
    )
    reasoning: bool | None = Field(
        None, description="an effort above minimal, or a budget to think, is asked for"
    )
    effort: Texts | None = Field(None, description="of reasoning, in the client's word")
    language: Languages | None = Field(
        None,
        description="of the last user turn; where it may be one of two (Danish, Norwegian), both"
        " must be named",
    )
    prompt_tokens: Range | None = Field(None, description="estimated from bytes")
    messages: Range | None = Field(None, description="how many")
    labels: dict[str, Texts] | None = Field(
        None,
        min_length=1,
        description="by name: of the request's labels, or else of its body's `metadata`"
        " (`*` as above)",
    )
    user: Texts | None = Field(None, description="the body's `user` (`*` as above)")
    session: FlagOrTexts | None = Field(
        None, description="it is a turn of a session, it is none, or of such a one (`*` as above)"
    )
    tenant: Texts | None = Field(
        None, description="who pays: a team's id; where there are no keys, the bearer's name"
    )
    key: Texts | None = Field(None, description="ids of keys")
    time: TimeConfig | None = Field(None, description="when it is received")
    latency: LatencyConfig | None = Field(None, description="how an alias does at present")

    @field_validator("json_output", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        if isinstance(value, bool) or value is None or value in ("object", "schema"):
            return value
        raise ValueError("true, false, object or schema is expected")

    @property
    def given(self) -> dict[str, Any]:
        """The conditions, by the names that the file has for them."""
        return {
            field.alias or name: value
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) is not None
        }

    @model_validator(mode="after")
    def _is_possible(self) -> WhenConfig:
        given = self.given
        if self.embeddings:
            for name in _NOT_OF_VECTORS:
                if given.get(name, False) is not False:
                    raise ValueError(f"{name}: a request for embeddings has none of it")
        if self.reasoning is False and self.effort is not None:
            least = {"none", "minimal"}
            if least.isdisjoint(self.effort):
                raise ValueError(
                    f"effort: without reasoning it is never {' or '.join(self.effort)}"
                )
        if self.embeddings is False and self.surface == ("embeddings",):
            raise ValueError("surface: embeddings are asked for there, and nothing else")
        if self.embeddings and self.surface is not None and "embeddings" not in self.surface:
            raise ValueError("surface: embeddings are not asked for there")
        return self


class PickConfig(Model):
    """One of several, by what they cost or how they do at present."""

    among: Texts | None = Field(
        None, alias="from", description="names; of equals the first is taken"
    )
    tag: str | None = Field(
        None, min_length=1, description="instead: all aliases with it, in the file's order"
    )
    by: Literal["order", "price", "latency"] = Field(
        "order",
        description="order: the first that is within the bounds; price: what this request would"
        " cost; latency: time to first token",
    )
    quantile: Literal["p50", "p95"] = Field("p50", description="of `by: latency`")
    max_p50_ms: int | None = Field(
        None, ge=1, description="of learnt time to first token; what is not known passes"
    )
    max_p95_ms: int | None = Field(None, ge=1, description="the same at the 95th percentile")
    min_input_usd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="per million tokens"
    )
    max_input_usd: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="per million tokens; what has no known price does not pass",
    )
    min_output_usd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="per million tokens"
    )
    max_output_usd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="per million tokens"
    )
    explore: float = Field(
        0.02,
        ge=0,
        le=0.5,
        allow_inf_nan=False,
        description="share of requests (sessions, where there are) that go to one of the others,"
        " so that their latency stays known; where latency is looked at",
    )

    @property
    def has_price_bounds(self) -> bool:
        """Whether prices are held to anything."""
        return any(
            bound is not None
            for bound in (
                self.min_input_usd,
                self.max_input_usd,
                self.min_output_usd,
                self.max_output_usd,
            )
        )

    @property
    def looks_at_latency(self) -> bool:
        """Whether what was learnt of latencies matters."""
        bounds = (self.max_p50_ms, self.max_p95_ms)
        return self.by == "latency" or any(bound is not None for bound in bounds)

    @property
    def is_sure(self) -> bool:
        """Whether it always comes to a name, whatever prices and latencies are."""
        return not self.has_price_bounds and self.max_p50_ms is None and self.max_p95_ms is None

    @model_validator(mode="after")
    def _is_possible(self) -> PickConfig:
        if (self.among is None) == (self.tag is None):
            raise ValueError("either from or tag is expected")
        for kind in ("input", "output"):
            least, most = getattr(self, f"min_{kind}_usd"), getattr(self, f"max_{kind}_usd")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{kind}_usd is over max_{kind}_usd: nothing is in between")
        return self


class SetConfig(Model):
    """What is changed of the request beside its name."""

    hedge: Literal["off", "auto", "race"] | None = Field(
        None, description="instead of the client's wish, within what the alias and the key allow"
    )
    first_token_ms: int | None = Field(None, ge=1, description="at most; from receipt")
    first_segment_ms: int | None = Field(None, ge=1, description="at most; from receipt")
    inter_token_ms: int | None = Field(None, ge=1, description="at most")
    total_ms: int | None = Field(None, ge=1, description="at most; from receipt")
    max_output_tokens: int | None = Field(None, ge=1, description="at most")
    effort: str | None = Field(
        None, min_length=1, description="of reasoning, instead of the client's"
    )
    service_tier: str | None = Field(None, min_length=1, description="instead of the client's")
    prompt_cache: Literal["auto", "off"] | None = Field(None, description="instead of the client's")
    cache: Literal["off", "refresh"] | None = Field(
        None, description="of kept answers, instead of the client's wish"
    )
    tags: Texts = Field(
        (), max_length=32, description="added to the request's; no key needs leave for them"
    )

    @field_validator("hedge", "prompt_cache", "cache", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads `off` so

    @model_validator(mode="after")
    def _says_something(self) -> SetConfig:
        if self == SetConfig.model_construct():
            raise ValueError("is empty")
        return self


class RuleConfig(Model):
    """One rule; the first that matches decides."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="in logs, accounts and errors of this file; default: `rule-N`, counted from 1",
    )
    when: WhenConfig = Field(WhenConfig(), description="empty: always")
    unless: WhenConfig | None = Field(None, description="not if all of this holds")
    use: str | None = Field(
        None,
        min_length=1,
        description="the name that the request becomes: an alias, cascade, panel or"
        " `provider/model`",
    )
    pick: PickConfig | None = Field(
        None, description="instead: one of several; where none is left, the next rule is tried"
    )
    refuse: str | None = Field(
        None, min_length=1, max_length=500, description="instead: the message of the refusal (403)"
    )
    overrides: SetConfig | None = Field(
        None, alias="set", description="what is changed of the request beside its name"
    )

    @property
    def is_sure(self) -> bool:
        """Whether it decides whenever its conditions hold."""
        return self.pick is None or self.pick.is_sure

    @property
    def is_for_answers_alone(self) -> bool:
        """Whether requests for vectors pass it by: its names would answer them otherwise."""
        return self.when.embeddings is None and (self.use is not None or self.pick is not None)

    @property
    def decides_all_for_a_name(self) -> bool:
        """Whether every request for an answer that asks for one of its names is decided by it, or
        by a rule before it."""
        return self.when.given.keys() <= {"model"} and self.unless is None and self.is_sure

    @model_validator(mode="after")
    def _does_one_thing(self) -> RuleConfig:
        ways = [name for name in ("use", "pick", "refuse") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)}: one of them is expected")
        if not ways and self.overrides is None:
            raise ValueError("does nothing: use, pick, refuse or set is expected")
        if self.refuse is not None and self.overrides is not None:
            raise ValueError("set: nothing is left to be changed of a request that is refused")
        return self

    @model_validator(mode="after")
    def _can_match(self) -> RuleConfig:
        if self.unless is None:
            return self
        wanted, unwanted = self.when.given, self.unless.given
        if not unwanted:
            raise ValueError("unless: is empty, which always holds: the rule would never match")
        if all(name in wanted and wanted[name] == unwanted[name] for name in unwanted):
            raise ValueError("unless: always holds where `when` does: the rule would never match")
        return self


def named(rules: Sequence[RuleConfig]) -> Iterator[tuple[str, RuleConfig]]:
    """Each rule with the name that it has, or is given by its place."""
    for number, rule in enumerate(rules, 1):
        yield rule.name or f"rule-{number}", rule
