"""`objectives`: what is promised of first contents, for `relay report`. No request is treated
otherwise for it."""

from __future__ import annotations

from pydantic import Field, field_validator

from relay.config.model import Model


class ObjectiveConfig(Model):
    """So many percent of generations get their first content in time."""

    percent: float = Field(gt=0, lt=100, description="of generations; the rest is the error budget")
    first_content_ms: float = Field(
        gt=0, le=3_600_000, description="from receipt to the first content"
    )
    aliases: tuple[str, ...] = Field((), description="that it is about; none: all")

    @field_validator("aliases")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each alias once")
        return value
