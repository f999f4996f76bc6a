"""`models`: the names that clients ask for, and who may answer to them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from relay.config.model import Model
from relay.config.providers import Zone


class TimeoutsConfig(Model):
    """Limits of one attempt. Fields left out come from the class."""

    timeout_class: Literal["auto", "default", "reasoning"] = Field(
        "auto",
        alias="class",
        description="auto: reasoning when the request asks for reasoning effort or budget",
    )
    connect_ms: int | None = Field(None, ge=1)
    first_token_ms: int | None = Field(None, ge=1)
    inter_token_ms: int | None = Field(None, ge=1)
    total_ms: int | None = Field(None, ge=1)


TIMEOUT_CLASSES_MS: Mapping[str, Mapping[str, int]] = {
    # First token: the slowest p99 of the published non-reasoning models is near 10 s.
    "default": {
        "connect_ms": 1_000,
        "first_token_ms": 10_000,
        "inter_token_ms": 10_000,
        "total_ms": 120_000,
    },
    # Reasoning models are silent for minutes before and between their words.
    "reasoning": {
        "connect_ms": 1_000,
        "first_token_ms": 120_000,
        "inter_token_ms": 60_000,
        "total_ms": 900_000,
    },
}


class CandidateConfig(Model):
    provider: str
    model: str


def _as_said(value: object, handler: ValidatorFunctionWrapHandler, wanted: str) -> object:
    """
    Raises:
        ValueError: the field does not take it; says what it does take.
    """
    if not isinstance(value, bool):  # which would be 1 or 0
        with contextlib.suppress(ValidationError):
            return handler(value)
    raise ValueError(wanted)


class EscalateConfig(Model):
    """A second attempt may ask the first's own model at a dearer service tier."""

    tier: Literal["priority"] | None = Field(None, description="unset: never")
    max_price_ratio: float = Field(
        2.0, ge=1, le=20, allow_inf_nan=False, description="of the tier's price to the base one's"
    )


class HedgeConfig(Model):
    """When a second attempt is started beside a slow one, and what that may cost."""

    mode: Literal["active", "shadow", "disabled"] = Field(
        "disabled", description="shadow: decide and record, send nothing"
    )
    delay: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="milliseconds after the first attempt; auto: learned from its latency"
    )
    default_delay_ms: int = Field(
        2_000, ge=1, description="of `auto` while a target has too few samples"
    )
    max_attempts: int = Field(2, ge=1, le=5, description="beside each other, the first included")
    max_extra_requests: float = Field(
        0.05, ge=0, le=1, description="hedges, as a share of requests"
    )
    max_extra_cost: float = Field(0.20, ge=0, le=10, description="as a share of what requests cost")
    tenant_max_extra_requests: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of one tenant (a bearer), as a share of its own requests, within"
        " max_extra_requests of all; unset: the same share",
    )
    tenant_max_extra_cost: float | None = Field(
        None, ge=0, le=10, description="the same, of what its own requests cost"
    )
    escalate: EscalateConfig = EscalateConfig()
    keep_second_warm: Literal["off", "auto"] = Field(
        "off",
        description="auto: a session's prefix is sent to the second target too, where that is"
        " cheaper than the cold prompts of the hedges expected",
    )

    @field_validator("keep_second_warm", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads `off` so

    @field_validator("delay", mode="wrap")
    @classmethod
    def _delay(cls, value: object, handler: ValidatorFunctionWrapHandler) -> Literal["auto"] | int:
        """One line for a wrong one, where each member of the union would say its own."""
        wanted = "auto, or whole milliseconds such as 250"
        return cast("Literal['auto'] | int", _as_said(value, handler, wanted))

    @field_validator(
        "max_extra_requests",
        "max_extra_cost",
        "tenant_max_extra_requests",
        "tenant_max_extra_cost",
        mode="wrap",
    )
    @classmethod
    def _share(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> float | None:
        is_requests = str(info.field_name).endswith("max_extra_requests")
        wanted = f"a share such as {'0.05, from 0 to 1' if is_requests else '0.20, from 0 to 10'}"
        return cast("float | None", _as_said(value, handler, wanted))


class ChooseConfig(Model):
    """Who is asked first."""

    mode: Literal["ordered", "balanced", "tail"] = Field(
        "ordered",
        description="ordered: as listed; balanced: by present latency and load; tail: by the p99 of"
        " first and second together (experimental)",
    )
    sort: Literal["configured", "cheapest", "fastest"] = Field(
        "configured", description="the order of `ordered`"
    )
    sticky: bool = Field(
        True, description="a session stays where its prompt cache is, while that target is well"
    )


class AliasConfig(Model):
    """A name that clients ask for, and who may answer to it."""

    tags: tuple[str, ...] = ()
    zones: tuple[Zone, ...] | None = Field(
        None,
        min_length=1,
        description="data zones that requests may go to; targets elsewhere, or in an unknown zone,"
        " are never asked; unset: anywhere",
    )
    candidates: tuple[CandidateConfig, ...] = Field(min_length=1)
    fallbacks: tuple[CandidateConfig, ...] = ()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    hedge: HedgeConfig = HedgeConfig()
    choose: ChooseConfig = ChooseConfig()
