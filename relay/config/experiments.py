"""`policies.experiments` and `policies.shadows`: traffic divided, or sent twice, to compare."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal

from pydantic import AwareDatetime, Field, field_validator, model_validator

from relay.config.model import Model, near

MAX_ARMS: Final = 16
Sticky = Literal["session", "user", "key", "tenant", "none"]
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ArmConfig(Model):
    """One of the ways that are compared."""

    name: str = Field(description="in reports, and part of the division: a new name is a new arm")
    use: str = Field(max_length=255, description="an alias, `provider/model`, a cascade or a panel")
    weight: float = Field(
        1.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="its share is weight / all weights",
    )

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        return _checked_name(value)


class ErrorRail(Model):
    """Answers that fail: errors of providers, timeouts, breakage; not what callers did wrong, and
    not who hung up."""

    max_ratio: float = Field(
        1.25, ge=1, le=100, description="times the control's share of units that fail"
    )
    ceiling: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="share of its last 50 answers from which an arm is stopped without a test, if"
        " the control fails less than half as often; null: none",
    )


class FirstContentRail(Model):
    """The time to the first content."""

    max_ratio: float = Field(1.25, ge=1, le=100, description="times the control's quantile")
    quantile: float = Field(0.95, ge=0.5, le=0.999)


class CostRail(Model):
    """What an answer costs."""

    max_ratio: float = Field(1.5, ge=1, le=1000, description="times the control's quantile")
    quantile: float = Field(0.75, ge=0.5, le=0.999)


class FeedbackRail(Model):
    """What users say of answers."""

    max_ratio: float = Field(
        1.25, ge=1, le=100, description="times the control's odds of bad feedback"
    )
    bad_below: float = Field(0.5, description="scores under it are bad")


class GuardRailsConfig(Model):
    """What stops an arm that is worse than the control; its traffic goes to the control then."""

    alpha: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="probability that any arm of the experiment is ever stopped though none is"
        " worse than its rails allow, however often and long it is looked at",
    )
    min_units: int = Field(
        30,
        ge=1,
        le=1_000_000,
        description="sticky units (users, sessions, ...) that an arm and the control have before"
        " a test may stop the arm",
    )
    error_share: ErrorRail | None = ErrorRail()
    first_content: FirstContentRail | None = FirstContentRail()
    cost: CostRail | None = None
    feedback: FeedbackRail | None = FeedbackRail()


class ExperimentConfig(Model):
    """Requests for one name, divided between arms."""

    model: str = Field(
        description="the name that is asked for: an alias, `provider/model`, a cascade or a panel"
    )
    arms: tuple[ArmConfig, ...] = Field(
        min_length=2,
        max_length=MAX_ARMS,
        description="the first is the control unless one is named",
    )
    control: str = Field("", description="the arm that others are compared with; empty: the first")
    sticky: Sticky = Field(
        "session",
        description="whose requests stay with one arm; one that does not say whose it is is divided"
        " by itself, and counted",
    )
    share: float = Field(
        1.0, ge=0, le=1, description="of units that take part; others get what they asked for"
    )
    enabled: bool = True
    starts_at: AwareDatetime | None = Field(None, description="with a time zone; none: at once")
    ends_at: AwareDatetime | None = Field(None, description="with a time zone; none: never")
    edition: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="raise it to begin anew: what guard rails have found is forgotten, and arms"
        " that they stopped run again; who is in which arm stays",
    )
    guard_rails: GuardRailsConfig | None = Field(
        GuardRailsConfig(), description="null: no arm is ever stopped"
    )

    @property
    def control_arm(self) -> str:
        """Its name."""
        return self.control or self.arms[0].name

    @model_validator(mode="after")
    def _arms(self) -> ExperimentConfig:
        names = [arm.name for arm in self.arms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"arms: {twice[0]!r} is the name of two arms")
        if not any(arm.weight for arm in self.arms):
            raise ValueError("arms: one weight at least must be above 0")
        if self.control and self.control not in names:
            raise ValueError(
                f"control: there is no arm {self.control!r}{near(self.control, names)}"
            )
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValueError("ends_at: it is not after starts_at")
        return self


class ShadowConfig(Model):
    """Requests for one name, some of them sent elsewhere too, whose answers nobody sees."""

    model: str = Field(description="the name whose requests are copied, as clients ask for it")
    use: str = Field(description="where copies go: an alias, `provider/model`, a cascade, a panel")
    share: float = Field(0.05, gt=0, le=1, description="of requests that were answered")
    enabled: bool = True
    max_requests_per_min: int = Field(60, ge=1, le=1_000_000, description="of a worker")
    max_concurrent: int = Field(
        4, ge=1, le=1000, description="of a worker; what comes beyond it is dropped"
    )
    max_cost_micro_per_day: int = Field(
        1_000_000,
        ge=0,
        le=1_000_000_000_000,
        description="micro-dollars a worker may spend on copies in a day (UTC); what has no price"
        " is not copied, unless this is 0: no bound",
    )
    timeout_ms: int = Field(60_000, ge=100, le=900_000, description="a copy's longest, in all")
    compare_text: bool = Field(
        True, description="whether texts are compared; only a number of it is kept"
    )
    max_running: int = Field(
        64,
        ge=1,
        le=100_000,
        description="generations of clients in the worker from which no copy is started",
    )


def checked(
    experiments: Mapping[str, ExperimentConfig],
    shadows: Mapping[str, ShadowConfig],
    aliases: Collection[str],
    compositions: Collection[str],
    providers: Collection[str],
    listed: Collection[str],
) -> None:
    """See that names are there: a misspelt one would be an experiment on nothing.

    Args:
        listed: models that a provider's row lists, which may be asked for by their name alone.

    Raises:
        ValueError: naming the field.
    """
    known = {*aliases, *compositions}

    def look(field: str, name: str) -> None:
        provider, slash, model = name.partition("/")
        if name in known or name in listed or (slash and model and provider in providers):
            return
        raise ValueError(
            f"{field}: nobody can ask for {name!r}, which is no alias, cascade, panel or"
            f" PROVIDER/MODEL{near(name, {*known, *listed})}"
        )

    asked: dict[str, str] = {}
    for name, row in experiments.items():
        where = f"policies.experiments.{name}"
        _checked_key("policies.experiments", name)
        look(f"{where}.model", row.model)
        for index, arm in enumerate(row.arms):
            look(f"{where}.arms[{index}].use", arm.use)
        if row.enabled:
            other = asked.setdefault(row.model, name)
            if other != name and _overlap(experiments[other], row):
                raise ValueError(
                    f"{where}.model: {row.model!r} is divided by {other!r} already; one experiment"
                    " a name at a time"
                )
    for name, shadow in shadows.items():
        _checked_key("policies.shadows", name)
        look(f"policies.shadows.{name}.model", shadow.model)
        look(f"policies.shadows.{name}.use", shadow.use)


def _overlap(one: ExperimentConfig, other: ExperimentConfig) -> bool:
    is_before = one.ends_at and other.starts_at and one.ends_at <= other.starts_at
    is_after = other.ends_at and one.starts_at and other.ends_at <= one.starts_at
    return not (is_before or is_after)


def _checked_key(field: str, name: str) -> None:
    try:
        _checked_name(name)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name (letters, digits, '.', '_', '-', no '/')")
    return value
