"""What a caller, a model or a provider's key may do at most: in a minute, and at once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

MAX_LIMIT: Final = 1_000_000_000
"""What every store counts exactly."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit of its own."""

    rpm: int | None = None
    """Requests a minute."""
    input_tpm: int | None = None
    """Tokens a minute of prompts."""
    output_tpm: int | None = None
    """Tokens a minute of answers, reasoning included."""
    generations: int | None = None
    """At once."""
    sessions: int | None = None
    """At once: Converse, and WebSockets that are handed through."""

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """As `to_json` writes them, and as the tables keep them.

        Raises:
            ValueError: it is no such object; the message names the field.
        """
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("limits are an object of names and numbers")  # noqa: TRY004
        return cls.from_mapping(value)

    @classmethod
    def from_mapping(cls, value: dict[str, Any]) -> Limits:
        """Missing names and None are no limit.

        Raises:
            ValueError: an unknown name, or no whole number from 1 to `MAX_LIMIT`.
        """
        for name, number in value.items():
            if name not in NAMES:
                raise ValueError(f"limits.{name}: unknown; there are {', '.join(NAMES)}")
            if number is None:
                continue
            if type(number) is not int or not 1 <= number <= MAX_LIMIT:
                raise ValueError(f"limits.{name}: a whole number from 1 to {MAX_LIMIT} is expected")
        return cls(**value)

    def to_json(self) -> str:
        """Only what is limited, in the order of the fields."""
        return json.dumps({name: n for name, n in asdict(self).items() if n is not None})

    def or_else(self, default: Limits) -> Limits:
        """These, and of what they leave open the default's."""
        return Limits(
            self.rpm if self.rpm is not None else default.rpm,
            self.input_tpm if self.input_tpm is not None else default.input_tpm,
            self.output_tpm if self.output_tpm is not None else default.output_tpm,
            self.generations if self.generations is not None else default.generations,
            self.sessions if self.sessions is not None else default.sessions,
        )


NAMES: Final = tuple(one.name for one in fields(Limits))
UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Of a key and of what it belongs to, by their own rows."""

    key: Limits = UNLIMITED
    team: Limits = UNLIMITED
    organisation: Limits = UNLIMITED


NO_LIMITS: Final = KeyLimits()
