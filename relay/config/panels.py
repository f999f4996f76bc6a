"""`policies.panels`: several models asked at once, one answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import re2
from pydantic import Field, field_validator, model_validator

from relay.config.model import Model, near

MAX_MEMBERS: Final = 9
"""Each is a whole answer, and paid for."""
MAX_PAIRWISE: Final = 4
"""Members whose answers a judge may compare in pairs: six pairs, each asked twice."""
MAX_PATTERN_CHARS: Final = 1024
MAX_POINTER_CHARS: Final = 256

_WAYS: Final = "exact, normalised, {json_field: PATH} or {number: {...}}"

TieRule = Literal["first", "soonest", "cheapest", "fail"]
"""first: of the member that is listed first; soonest: the one that was whole first; cheapest: by
its estimated cost; fail: an error."""


class PanelMemberConfig(Model):
    """A model that is asked, and how its request differs from the client's."""

    model: str = Field(min_length=1, description="an alias, or provider/model")
    times: int = Field(
        1,
        ge=1,
        le=MAX_MEMBERS,
        description="so many members alike (self-consistency); each further one's seed is one more",
    )
    weight: float = Field(
        1.0,
        ge=0.001,
        le=1000,
        multiple_of=0.001,
        allow_inf_nan=False,
        description="of its vote in a majority",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="unset: the request's own"
    )
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False, description="likewise")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="likewise")
    max_output_tokens: int | None = Field(
        None, ge=1, description="likewise; an answer that is cut by it agrees with no other"
    )


class NumberEqualityConfig(Model):
    """The last number in the text is compared."""

    tolerance_abs: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of two numbers, the larger tolerance counts"
    )
    tolerance_rel: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="of the larger of the two, such as 0.01"
    )
    decimal: Literal["auto", "point", "comma"] = Field(
        "auto",
        description="the decimal mark; auto: by how the number is written, where 1,234 is a"
        " thousand and 1.234 is one and a bit",
    )


class EqualityConfig(Model):
    """When two answers say the same, in one of these ways."""

    json_field: str | None = Field(
        None,
        max_length=MAX_POINTER_CHARS,
        description="a value inside a JSON answer: a pointer (RFC 6901) such as /items/0/id, or"
        " items.0.id; empty for the whole",
    )
    number: NumberEqualityConfig | None = Field(None, description="`{}` for exactly the same")

    @model_validator(mode="after")
    def _is_one(self) -> EqualityConfig:
        if (self.json_field is None) == (self.number is None):
            raise ValueError(_WAYS)
        return self

    @field_validator("json_field")
    @classmethod
    def _pointer(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("/"):
            bare = value.replace("~0", "").replace("~1", "")
            if "~" in bare:
                raise ValueError("in a pointer ~ is written ~0, and / inside a name ~1 (RFC 6901)")
        return value


class JudgeConfig(Model):
    """A model that compares answers, and is not told who gave them."""

    model: str = Field(min_length=1, description="an alias, or provider/model")
    rubric: str = Field(
        "The better answer is correct, complete, and does what the user asked for, no more. Length"
        " and style count only where everything else is equal.",
        min_length=1,
        max_length=8000,
        description="what makes an answer the better one",
    )
    compare: Literal["pairwise", "listwise"] = Field(
        "listwise",
        description="listwise: all answers in one question; pairwise: each with each, and the one"
        " with the most wins is it",
    )
    swap: bool = Field(
        True,
        description="every question is asked twice at once, the second time in the opposite order;"
        " verdicts that differ are a tie",
    )
    timeout_ms: int = Field(
        10_000, ge=1, le=600_000, description="for all its questions; then on_tie decides"
    )
    max_answer_chars: int = Field(
        8000, ge=100, le=100_000, description="of each answer; longer ones lose their middle"
    )
    max_question_chars: int = Field(
        8000,
        ge=100,
        le=100_000,
        description="of the conversation; of a longer one its end is shown",
    )
    max_output_tokens: int = Field(
        512,
        ge=1,
        le=32_768,
        description="of a verdict, which is one word: room for models that think",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="unset: the model's default"
    )


class MajorityConfig(Model):
    """The answer that most members agree on."""

    equality: Literal["exact", "normalised"] | EqualityConfig = Field(
        "normalised",
        description="exact: the same characters; normalised: the same words, whatever case, spaces"
        " and punctuation around them; {json_field: PATH}; {number: {...}}. Tool calls are compared"
        " by name and arguments in any case",
    )
    quorum: float | None = Field(
        None,
        gt=0,
        multiple_of=0.001,
        allow_inf_nan=False,
        description="votes (of weight 1 each) that settle it; unset: more than half of all",
    )
    no_quorum: Literal["plurality", "judge", "fail"] = Field(
        "plurality",
        description="where it is not reached; plurality: the answer with the most votes, on_tie"
        " between equals; judge: asked as soon as it cannot be reached",
    )
    on_tie: TieRule | Literal["judge"] = Field(
        "first", description="between answers with the same votes; and where the judge has no word"
    )
    judge: JudgeConfig | None = Field(None, description="of no_quorum and on_tie")

    @field_validator("equality", mode="before")
    @classmethod
    def _equality(cls, value: object) -> object:
        """One line for a wrong one, where each member of the union would say its own."""
        if isinstance(value, str) and value not in ("exact", "normalised"):
            hint = near(value, ("exact", "normalised"))
            raise ValueError(
                f"exact, normalised, {{json_field: PATH}} or {{number: {{...}}}}{hint}"
            )
        return value if isinstance(value, str) else EqualityConfig.model_validate(value)

    @model_validator(mode="after")
    def _has_its_judge(self) -> MajorityConfig:
        is_needed = "judge" in (self.no_quorum, self.on_tie)
        if is_needed and self.judge is None:
            raise ValueError("judge: needed where no_quorum or on_tie says judge")
        if self.judge is not None and not is_needed:
            raise ValueError("judge: neither no_quorum nor on_tie asks it")
        return self


class JudgedConfig(JudgeConfig):
    """The answer that a judge prefers."""

    on_tie: TieRule = Field(
        "first", description="where the judge sees no difference, contradicts itself or fails"
    )


class ScoreJudgeConfig(Model):
    """A judge gives each answer a mark by itself."""

    model: str = Field(min_length=1, description="an alias, or provider/model")
    rubric: str = Field(
        "10: correct, complete and to the point. 5: right in the main, with gaps or errors. 1:"
        " wrong, or no answer to what was asked.",
        min_length=1,
        max_length=8000,
        description="what the marks 1 to 10 mean",
    )
    timeout_ms: int = Field(
        10_000, ge=1, le=600_000, description="an answer without a mark is last"
    )
    max_answer_chars: int = Field(8000, ge=100, le=100_000, description="as of a judge")
    max_question_chars: int = Field(8000, ge=100, le=100_000, description="as of a judge")
    max_output_tokens: int = Field(512, ge=1, le=32_768, description="as of a judge")
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="as of a judge"
    )


class BestOfConfig(Model):
    """The answer with the highest score, of one of these."""

    judge: ScoreJudgeConfig | None = Field(None, description="its mark from 1 to 10")
    logprobs: Literal["mean"] | None = Field(
        None,
        description="mean log probability of its tokens, which the members are then asked for; an"
        " answer without them is last",
    )
    length: Literal["shortest", "longest"] | None = Field(None, description="in characters")
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PATTERN_CHARS,
        description="RE2: 1 where it is found in the text, else 0",
    )
    schema_: Literal["request"] | dict[str, Any] | None = Field(
        None,
        alias="schema",
        description="1 where the text is JSON that keeps this JSON Schema, else 0; request: the one"
        " that the client asked for (response_format), or any JSON where it names none",
    )
    min_score: float | None = Field(
        None, allow_inf_nan=False, description="answers below it are none; unset: no limit"
    )
    on_tie: TieRule = Field(
        "soonest",
        description="between equal scores; with soonest, the first answer that cannot be beaten"
        " (pattern, schema) is taken at once",
    )

    @model_validator(mode="after")
    def _is_one(self) -> BestOfConfig:
        named = ("judge", "logprobs", "length", "pattern", "schema_")
        if sum(getattr(self, name) is not None for name in named) != 1:
            raise ValueError("one of judge, logprobs, length, pattern and schema")
        return self

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_pattern(value)
            except re2.error as error:
                raise ValueError(f"no pattern of RE2: {error}") from None
        return value


class DecideConfig(Model):
    """How the one answer is found, in one of these ways."""

    majority: MajorityConfig | None = Field(None, description="the answer that most agree on")
    judge: JudgedConfig | None = Field(None, description="the answer that a model prefers")
    best_of: BestOfConfig | None = Field(None, description="the answer with the highest score")

    @model_validator(mode="after")
    def _is_one(self) -> DecideConfig:
        if sum(way is not None for way in (self.majority, self.judge, self.best_of)) != 1:
            raise ValueError("one of majority, judge and best_of")
        return self


Members = Annotated[tuple[PanelMemberConfig, ...], Field(min_length=1, max_length=MAX_MEMBERS)]


class PanelConfig(Model):
    """A name that clients ask for: several models get the request, one answer is given."""

    models: Members = Field(
        description="who is asked, each a name or a mapping with more; their order counts in ties"
    )
    decide: DecideConfig = Field(description="how the one answer is found")
    early_stop: bool = Field(
        True,
        description="as soon as the rest cannot change the decision, it is cancelled and not paid"
        " further",
    )
    first_n: int | None = Field(
        None, ge=1, description="decide as soon as so many have answered; the rest is cancelled"
    )
    wait_ms: int | None = Field(
        None,
        ge=1,
        le=600_000,
        description="decide after so long by what is there; unset: the request's own budget for the"
        " first token, less the time for a judge, is the limit",
    )
    min_answers: int = Field(1, ge=1, description="fewer than that are too few")
    on_too_few: Literal["fail", "any"] = Field(
        "fail",
        description="fail: an error with the causes; any: the answer that is there, or the first"
        " that comes",
    )

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """A name alone stands for a member without more."""
        if isinstance(value, list | tuple):
            return tuple({"model": one} if isinstance(one, str) else one for one in value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> PanelConfig:
        count = len(self.members)
        if not 2 <= count <= MAX_MEMBERS:
            raise ValueError(
                f"models: 2 to {MAX_MEMBERS} members, `times` counted; these are {count}"
            )
        if self.first_n is not None and self.first_n > count:
            raise ValueError(f"first_n: {self.first_n} of {count} members never answer")
        most = count if self.first_n is None else self.first_n
        if self.min_answers > most:
            raise ValueError(
                f"min_answers: {self.min_answers} is over {most}, all that are awaited"
            )
        majority = self.decide.majority
        if majority is not None and majority.quorum is not None:
            total = sum(member.weight for member in self.members)
            if majority.quorum > total + 1e-9:
                raise ValueError(
                    f"decide.majority.quorum: {majority.quorum:g} is over {total:g}, all votes"
                )
        judge = self.decide.judge or (majority.judge if majority is not None else None)
        if judge is not None and judge.compare == "pairwise" and count > MAX_PAIRWISE:
            raise ValueError(
                f"decide: pairwise is for up to {MAX_PAIRWISE} members, these are {count};"
                " compare: listwise"
            )
        return self

    @property
    def members(self) -> tuple[PanelMemberConfig, ...]:
        """`times` written out."""
        return tuple(
            one if nth == 0 or one.seed is None else one.model_copy(update={"seed": one.seed + nth})
            for one in self.models
            for nth in range(one.times)
        )

    @property
    def judge_model(self) -> str | None:
        """Who judges or gives marks, if anybody does."""
        decide = self.decide
        judges = (
            decide.judge,
            decide.majority.judge if decide.majority is not None else None,
            decide.best_of.judge if decide.best_of is not None else None,
        )
        return next((judge.model for judge in judges if judge is not None), None)


def compile_pattern(pattern: str) -> Any:
    """
    Raises:
        re2.error: it is none, or becomes too large.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


class _Asked(NamedTuple):
    path: str
    model: str


def _asked(row: PanelConfig) -> Iterator[_Asked]:
    for index, member in enumerate(row.models):
        yield _Asked(f"models[{index}]", member.model)
    if row.judge_model is not None:
        yield _Asked("decide: judge.model", row.judge_model)


def panel_faults(
    panels: Mapping[str, PanelConfig],
    aliases: Collection[str],
    providers: Collection[str],
    cascades: Collection[str],
) -> Iterator[str]:
    """What is wrong between panels and the rest of the file, one line each."""
    for name, row in panels.items():
        if name in aliases:
            yield f"policies.panels.{name}: an alias of `models` has this name"
        if name in cascades:
            yield f"policies.panels.{name}: a cascade has this name"
        for field, model in _asked(row):
            path = f"policies.panels.{name}.{field}"
            provider, slash, _ = model.partition("/")
            if model in panels or model in cascades:
                kind = "panel" if model in panels else "cascade"
                yield f"{path}: {model!r} is a {kind}; who is asked is an alias or provider/model"
            elif slash:
                if provider not in providers:
                    yield f"{path}: there is no provider {provider!r}{near(provider, providers)}"
            elif model not in aliases:
                yield f"{path}: there is no alias {model!r}{near(model, aliases)}"
