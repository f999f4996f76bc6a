"""One hint, and how it travels."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

MAX_TARGET_CHARS: Final = 512
MAX_TELLER_CHARS: Final = 64
MAX_LASTS_S: Final = 30.0
VERSION: Final = 1


class HintKind(enum.Enum):
    """What is said of a target."""

    FAILING = "failing"
    """A breaker has opened for failures."""
    SLOW = "slow"
    """Or for late first tokens; or they take twice as long as usual."""
    WELL = "well"
    """What was said is taken back."""


class BadHint(ValueError):
    """It is none of ours, or of another version; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What one worker says of one target."""

    target: str
    """Its name, as `openai/gpt-4o`."""
    where: str
    """Which server that is, see `where`: on another machine, or after a reload, one name may be two
    servers."""
    kind: HintKind
    teller: str
    """The worker's `instance_id`."""
    episode: int
    """The teller's number of this trouble, higher for each."""
    lasts_s: float
    """How long to believe it, unless it is told again."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "v": VERSION,
            "target": self.target,
            "where": self.where,
            "kind": self.kind.value,
            "teller": self.teller,
            "episode": self.episode,
            "lasts_s": self.lasts_s,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """
        Raises:
            BadHint: whatever else it may be.
        """
        if not isinstance(data, dict) or data.get("v") != VERSION:
            raise BadHint("no hint of this version")
        try:
            kind = HintKind(data.get("kind"))
        except ValueError:
            raise BadHint("kind") from None
        episode, lasts_s = data.get("episode"), data.get("lasts_s")
        if not isinstance(episode, int) or not 0 <= episode < 2**53:
            raise BadHint("episode")
        if not isinstance(lasts_s, int | float) or not 0 <= lasts_s <= MAX_LASTS_S:
            raise BadHint("lasts_s")
        return cls(
            target=_text(data, "target", MAX_TARGET_CHARS),
            where=_text(data, "where", MAX_TELLER_CHARS),
            kind=kind,
            teller=_text(data, "teller", MAX_TELLER_CHARS),
            episode=episode,
            lasts_s=float(lasts_s),
        )


def _text(data: dict[str, Any], field: str, most: int) -> str:
    value = data.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise BadHint(field)
    return value


def where(url: str) -> str:
    """What a server's address is called in hints: the same for the same address, and nothing can be
    read from it."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
