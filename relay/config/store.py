"""`store`: what outlives the process, and what workers and machines have in common."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from relay.config.model import Model
from relay.config.references import expand_secret, surroundings
from relay.config.secret import Secret

_DATABASES = ("sqlite", "postgresql")
_FILE = "sqlite:///"
_REDIS = ("redis", "rediss", "unix")


class StoreConfig(Model):
    url: Secret = Field(
        Secret("sqlite:///relay.db"),
        validate_default=True,
        json_schema_extra={"default": "sqlite:///relay.db"},
        description="sqlite:///FILE, relative to this file's folder, or postgresql://...",
    )
    redis: Secret | None = Field(
        None, description="what several machines have in common beside the database: limits, hints"
    )
    durability: Literal["process", "power"] = Field(
        "process",
        description="what SQLite has told to be written survives the death of the process, or a"
        " loss of power too, for one fsync a batch; PostgreSQL decides for itself",
    )
    migrate: Literal["auto", "never"] = Field(
        "auto", description="never: a schema of another version is a reason not to start"
    )
    ledger: bool = Field(
        True, description="writes down every generation and attempt; budgets need it"
    )

    retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="generations older than that are deleted once a day; what budgets were charged"
        " stays; null: nothing is deleted",
    )

    _secrets = field_validator("url", "redis", mode="before")(expand_secret)

    @field_validator("url")
    @classmethod
    def _database(cls, value: Secret, info: ValidationInfo) -> Secret:
        """The address from here: commands find the same file from whatever folder they are run."""
        url = value.get_secret_value()
        if urlsplit(url).scheme not in _DATABASES:
            raise ValueError("a sqlite:///FILE or postgresql://... address is expected")
        path = url.removeprefix(_FILE)
        folder = surroundings(info).folder
        if path in (url, "", ":memory:") or not folder.parts:
            return value
        if "?" in str(folder):  # begins the options of an address
            raise ValueError("a folder with ? in its name cannot hold the file")
        return Secret(f"{_FILE}{folder / path}")

    @field_validator("redis")
    @classmethod
    def _redis(cls, value: Secret | None) -> Secret | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in _REDIS:
            raise ValueError("a redis://, rediss:// or unix:// address is expected")
        return value
