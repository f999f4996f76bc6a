"""`store`: what outlives the process."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from relay.config.model import Model
from relay.config.references import expand_secret


class StoreConfig(Model):
    url: SecretStr = Field(
        SecretStr("sqlite:///relay.db"), json_schema_extra={"default": "sqlite:///relay.db"}
    )
    redis: SecretStr | None = None

    _secrets = field_validator("url", "redis", mode="before")(expand_secret)
