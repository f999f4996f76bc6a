"""What is in a configuration: its secrets, to be kept out of what is written, and where two of them
differ, to be told without values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from relay.config.secret import Secret
from relay.config.whole import Config


def secrets_in(value: object) -> Iterator[str]:
    """Every secret in a configuration or a part of it. The name of an SQLite file is none."""
    if isinstance(value, Secret):
        text = value.get_secret_value()
        if not text.startswith("sqlite:"):
            yield text
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_in(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from secrets_in(inner)


def fingerprint_of(config: Config) -> str:
    """Sixteen hex digits that tell configurations apart; secrets have no part in it."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def changed_paths(before: object, after: object, path: str = "") -> list[str]:
    """Where two configurations differ, secrets included."""
    if before == after:
        return []
    mine, theirs = _fields(before), _fields(after)
    if mine is None or theirs is None:
        return [path]
    return [
        found
        for name in dict.fromkeys((*mine, *theirs))
        for found in changed_paths(
            mine.get(name), theirs.get(name), f"{path}.{name}" if path else str(name)
        )
    ]


def _fields(value: object) -> Mapping[str, object] | None:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value if isinstance(value, Mapping) else None
