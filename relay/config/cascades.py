"""`policies.cascades`: a small model first, a large one where that is not enough."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from pydantic import Field, StrictInt, field_validator, model_validator

from relay.config.model import Model, near

MAX_PHRASES = 200
MAX_PHRASE_CHARS = 200


class CascadeRuleConfig(Model):
    """A kind of request that the large model is asked for at once; all that is named must hold."""

    name: str = Field("", max_length=64, description="for logs; may be left out")
    prompt_tokens_over: int | None = Field(None, ge=0, description="estimated from its bytes")
    messages_over: int | None = Field(None, ge=0, description="of the conversation")
    tools: bool | None = Field(None, description="whether it offers any")
    images: bool | None = Field(None, description="whether it holds any")
    structured: bool | None = Field(None, description="whether it asks for JSON")
    reasoning: bool | None = Field(None, description="whether it asks for an effort or a budget")
    tags: tuple[str, ...] = Field((), description="it has one of these")
    words: tuple[str, ...] = Field(
        (), description="its last message of the user holds one of these, whole and in any case"
    )

    @model_validator(mode="after")
    def _says_something(self) -> CascadeRuleConfig:
        if not self.model_fields_set - {"name"}:
            raise ValueError("a rule needs a condition, such as prompt_tokens_over or tools")
        for word in self.words:
            if not word.strip() or len(word) > MAX_PHRASE_CHARS:
                raise ValueError(f"words: 1 to {MAX_PHRASE_CHARS} characters each, not blank")
        return self


class ClassifierConfig(Model):
    """One short question before the answer: is this one for the large model?"""

    model: str = Field(description="an alias, or provider/model")
    instruction: str = Field(
        "Decide which model should answer the user's request below. Simple requests (small talk,"
        " facts, short rewrites, one-step questions) are for the small one. Requests that need"
        " several steps, exact calculation, code or expert knowledge are for the large one. Do not"
        " answer the request. Reply with one word: small or large.",
        min_length=1,
        max_length=8000,
        description="the system message of the question",
    )
    escalate_on: tuple[str, ...] = Field(
        ("large",), min_length=1, description="first words of its reply, in any case"
    )
    stay_on: tuple[str, ...] = Field(
        ("small",), min_length=1, description="the other ones; any third word is a failure"
    )
    beside_small: bool = Field(
        True,
        description="the small model is asked at the same time, and its answer held: no time is"
        " lost, and its tokens are where the large one is chosen",
    )
    timeout_ms: int = Field(800, ge=1, le=60_000)
    on_failure: Literal["small", "large"] = Field(
        "small", description="who is asked where it fails, takes too long or says something else"
    )
    max_chars: int = Field(
        4000, ge=100, le=100_000, description="of the user's last message that it is shown"
    )
    max_output_tokens: int = Field(8, ge=1, le=4096)

    @field_validator("escalate_on", "stay_on")
    @classmethod
    def _one_word(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if not word or len(word.split()) != 1:
                raise ValueError(f"{word!r} is not one word")
        return value

    @model_validator(mode="after")
    def _apart(self) -> ClassifierConfig:
        both = {w.casefold() for w in self.escalate_on} & {w.casefold() for w in self.stay_on}
        if both:
            raise ValueError(f"{min(both)!r} is in escalate_on and in stay_on")
        return self


class LogprobsConfig(Model):
    """How sure the small model was of its own words. Its provider is asked for log probabilities,
    and they are left out again where the client did not ask for them."""

    tokens: StrictInt | Literal["all"] = Field(
        16, description="the first so many decide; all: the whole answer, which is held until then"
    )
    mean_below: float | None = Field(
        None, lt=0, ge=-20, description="escalate where their mean is lower, such as -0.6"
    )
    min_below: float | None = Field(
        None, lt=0, ge=-20, description="escalate where one of them is lower, such as -4"
    )
    on_missing: Literal["small", "large"] = Field(
        "large", description="who answers where the provider gives none"
    )

    @field_validator("tokens")
    @classmethod
    def _some(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 4096:
            raise ValueError("from 1 to 4096, or all")
        return value

    @model_validator(mode="after")
    def _has_a_limit(self) -> LogprobsConfig:
        if self.mean_below is None and self.min_below is None:
            raise ValueError("set mean_below, min_below or both")
        return self


class SelfCheckConfig(Model):
    """A second, short question: is this answer right? Holds the whole answer."""

    model: str | None = Field(
        None, description="an alias, or provider/model; unset: the small model itself"
    )
    instruction: str = Field(
        "Is the proposed answer correct and complete? Reply with one word: yes or no.",
        min_length=1,
        max_length=8000,
        description="put behind the user's question and the answer to it",
    )
    below: float = Field(
        0.5,
        gt=0,
        le=1,
        description="escalate where yes is less probable than this, by log probabilities of the"
        " reply where there are any, else 1 for yes and 0 for no",
    )
    timeout_ms: int = Field(1500, ge=1, le=60_000)
    on_failure: Literal["small", "large"] = Field(
        "large", description="who answers where it fails, takes too long or says neither"
    )
    max_chars: int = Field(
        8000,
        ge=100,
        le=100_000,
        description="of an answer; a longer one is not checked: on_failure",
    )
    max_output_tokens: int = Field(4, ge=1, le=4096)


class CascadeEscalateConfig(Model):
    """Why the large model is asked. Where none of these applies the small one's answer is it."""

    rules: tuple[CascadeRuleConfig, ...] = Field(
        (), description="before anything is asked; one that matches is enough"
    )
    classifier: ClassifierConfig | None = None
    logprobs: LogprobsConfig | None = None
    refusal: bool = Field(
        True, description="it refuses: by the wire's own word, or in how its text opens"
    )
    phrases: tuple[str, ...] = Field(
        (),
        max_length=MAX_PHRASES,
        description="further openings that count as a refusal, in any case",
    )
    empty: bool = Field(True, description="it has neither text nor a tool call")
    length: bool = Field(
        False, description="it was cut off by its length; to know, the whole answer is held"
    )
    schema_: bool = Field(
        True,
        alias="schema",
        description="JSON was asked for (response_format), and it is none or breaks the schema;"
        " such answers are held whole",
    )
    tool_arguments: bool = Field(
        True,
        description="it calls a tool that was not offered, or with arguments that break its schema;"
        " an answer that opens with a tool call is held whole",
    )
    self_check: SelfCheckConfig | None = None

    @field_validator("phrases")
    @classmethod
    def _phrases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in value:
            if not phrase.strip() or len(phrase) > MAX_PHRASE_CHARS:
                raise ValueError(f"1 to {MAX_PHRASE_CHARS} characters each, not blank")
        return value


class SpeculateConfig(Model):
    """The large model is started before the small one's verdict, within a budget."""

    after_ms: int | None = Field(
        None, ge=0, le=600_000, description="after the small one's start; 0: with it"
    )
    unsure_below: float | None = Field(
        None,
        lt=0,
        ge=-20,
        description="as soon as the mean log probability of the first tokens (four and more) is"
        " lower; needs escalate.logprobs",
    )
    max_share: float = Field(
        0.1, ge=0, le=1, description="speculative starts, as a share of the cascade's requests"
    )
    max_extra_cost: float = Field(
        0.1,
        ge=0,
        le=10,
        description="what those cost that were not needed, as a share of what the large model alone"
        " would have cost",
    )

    @model_validator(mode="after")
    def _has_a_moment(self) -> SpeculateConfig:
        if self.after_ms is None and self.unsure_below is None:
            raise ValueError("set after_ms, unsure_below or both")
        return self


class CascadeConfig(Model):
    """A name that clients ask for: two tiers. The user sees the answer of one of them."""

    small: str = Field(description="asked first: an alias, or provider/model")
    large: str = Field(description="asked where that is not enough: likewise")
    escalate: CascadeEscalateConfig = CascadeEscalateConfig()
    commit_after_tokens: StrictInt | Literal["all"] = Field(
        16,
        description="the small model's answer is released after so many tokens where no check needs"
        " more of it (escalate.logprobs.tokens, or the whole); all: never before its end",
    )
    speculate: SpeculateConfig | None = None
    on_large_failure: Literal["small", "fail"] = Field(
        "small",
        description="small: where the large model fails, the small one's answer is given after all,"
        " if it is complete and no refusal",
    )
    small_within_ms: int | None = Field(
        None,
        ge=1,
        le=600_000,
        description="from the receipt; where the small model is not accepted by then, the large one"
        " is started beside it, whatever the budget, and the first that may be released is",
    )
    first_token_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="the same, as a part of a request's own budget for its first token",
    )

    @field_validator("commit_after_tokens")
    @classmethod
    def _some(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 4096:
            raise ValueError("from 1 to 4096, or all")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CascadeConfig:
        if self.small == self.large:
            raise ValueError("small and large are the same model")
        if (
            self.speculate is not None
            and self.speculate.unsure_below is not None
            and self.escalate.logprobs is None
        ):
            raise ValueError("speculate.unsure_below: needs escalate.logprobs")
        return self

    @property
    def asked(self) -> Mapping[str, str]:
        """Every model that it may ask, by the field that names it."""
        found = {"small": self.small, "large": self.large}
        if self.escalate.classifier is not None:
            found["escalate.classifier.model"] = self.escalate.classifier.model
        if self.escalate.self_check is not None and self.escalate.self_check.model is not None:
            found["escalate.self_check.model"] = self.escalate.self_check.model
        return found


def cascade_faults(
    cascades: Mapping[str, CascadeConfig],
    aliases: Collection[str],
    providers: Collection[str],
) -> Iterator[str]:
    """What is wrong between cascades and the rest of the file, one line each."""
    for name, row in cascades.items():
        if name in aliases:
            yield f"policies.cascades.{name}: an alias of `models` has this name"
        for field, model in row.asked.items():
            path = f"policies.cascades.{name}.{field}"
            provider, slash, _ = model.partition("/")
            if model in cascades:
                yield f"{path}: {model!r} is a cascade; a tier is an alias or provider/model"
            elif slash:
                if provider not in providers:
                    yield f"{path}: there is no provider {provider!r}{near(provider, providers)}"
            elif model not in aliases:
                yield f"{path}: there is no alias {model!r}{near(model, aliases)}"
