"""What happened in a call that was played. Times are CLOCK_MONOTONIC nanoseconds; 0 is never."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relay.calls.line import Ended

Role = Literal["guess", "answer", "after_tool"]


@dataclass(slots=True)
class GenerationRecord:
    """One generation."""

    tag: str
    """Unique in its call."""
    role: Role
    """A `guess` answers an interim transcript; `after_tool` has a tool's result."""
    words: str
    """What the caller said, as the model was told."""
    expected: str
    """The whole text that its model has to say; empty if that is not known."""
    started_ns: int
    committed_ns: int = 0
    cancelled_ns: int = 0
    cancel_reason: str = ""
    first_piece_ns: int = 0
    """The first speakable piece, or the tool call, was there; perhaps not yet wanted."""
    ended_ns: int = 0
    """Its end was known."""
    text: str = ""
    """What came of it."""
    late_pieces: int = 0
    """Came after the cancel; there must be none."""
    end: Ended | None = None


@dataclass(slots=True)
class TurnRecord:
    """One turn."""

    speech_from_ns: int = 0
    speech_to_ns: int = 0
    final_ns: int = 0
    interims_ns: list[tuple[int, str]] = field(default_factory=list)
    first_segment_ns: int = 0
    """The first thing to speak was there, and certain to be wanted."""
    spoken_ns: list[tuple[int, int]] = field(default_factory=list)
    """When the agent was heard, from and to; beyond the end of the turn where nobody waited."""
    noise_ns: list[tuple[int, int]] = field(default_factory=list)
    """From a noise until the agent went on."""
    tools_ns: list[tuple[int, int]] = field(default_factory=list)
    barge_in_ns: int = 0
    ended_ns: int = 0
    heard: str = ""
    generations: list[GenerationRecord] = field(default_factory=list)

    @property
    def answer(self) -> GenerationRecord | None:
        """The generation that was spoken, or was going to be."""
        wanted = [one for one in self.generations if one.committed_ns]
        return wanted[-1] if wanted else None
