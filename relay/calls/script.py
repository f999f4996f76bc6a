"""What happens in a call, as data. Times are milliseconds of a real call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interim:
    """A transcript that may yet change; the agent starts an answer to it, to have it early."""

    at_ms: int
    """After the caller began to speak."""
    text: str
    """The start is of use if this is what the caller turns out to have said."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model calls before it answers."""

    name: str
    takes_ms: int
    result: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The caller says something, the agent answers, and is perhaps interrupted."""

    says: str
    speech_ms: int
    """From the first to the last sound of it."""
    answer: str
    """What the model has to say."""
    final_ms: int = 300
    """After the last sound: the transcript is final, the turn is certain."""
    interims: tuple[Interim, ...] = ()
    tool: Tool | None = None
    noise_after_chars: int | None = None
    """A cough, when so much of the answer was heard: the agent stops, and goes on."""
    barge_in_after_chars: int | None = None
    """When so much of the answer was heard the caller says the next thing."""
    barge_in_after_ms: int | None = None
    """Or so long after the final transcript, whatever was heard."""
    is_brown_out: bool = False
    """The provider that is asked first is very slow in this turn."""

    @property
    def is_guessed(self) -> bool:
        """The last interim transcript is what the caller says."""
        return bool(self.interims) and self.interims[-1].text == self.says


@dataclass(frozen=True, slots=True)
class Call:
    """A call from its first word to its last."""

    name: str
    turns: tuple[Turn, ...]
