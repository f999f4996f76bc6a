"""How long a run takes, and what happens when in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WORDS: Final = 25
TEXT: Final = " ".join(f"word{number}" for number in range(WORDS))
"""What every provider answers: whoever is told anything else as a whole answer was lied to."""

_GOOD: Final = f"emu:ttft=20..60,itl=3..6,text={TEXT.replace(' ', '+')}"
BROWN_OUT: Final = f"emu:ttft=900..1500,itl=20..40,text={TEXT.replace(' ', '+')}"
GOOD: Final = _GOOD

LAB: Final = "soak-lab"
SPARE: Final = "soak-spare"
CALM: Final = "calm"
"""The alias that nineteen of twenty ask for."""

FAULTS: Final = (
    "reset-head",
    "cut-head",
    "close-head",
    "status:500",
    "status:529",
    "rate",
    "html",
    "empty-body",
    "error-first",
    "silent",
    "reset@9",
    "cut@9",
    "close@9",
    "eof@9",
    "error-mid@9",
    "truncate-json@9",
    "no-finish",
    "stall@9",
    "endless-line",
)
"""Of the emulator (`relay.emulator.faults`); those at a token strike an answer that has begun."""


def faulty(fault: str) -> str:
    """Alias of a model with this fault, and one without behind it."""
    return "fault-" + fault.replace(":", "-").replace("@", "-at-")


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        minutes: of load.
        rate_per_s: requests that begin.
        cycle_s: after so long the callers pause, and the relay is looked at while nothing runs.
        reload_s, brown_out_s, kill_s: how often.
        brown_out_length_s: how long the first provider is slow.
        sample_s: how often memory and descriptors are looked at.
        warm_s: growth is judged from here on.
    """

    minutes: float
    workers: int = 2
    seed: int = 1
    rate_per_s: float = 30.0
    cancelled: float = 0.25
    """Some of them are over before they leave; a fifth is cancelled in the end."""
    faults: float = 0.05
    vanished: float = 0.02
    slow_readers: float = 0.02

    @property
    def is_long(self) -> bool:
        """Whether growth can be told from warming up."""
        return self.minutes >= 30

    @property
    def cycle_s(self) -> float:
        return 60.0 if self.is_long else 15.0

    @property
    def reload_s(self) -> float:
        return 45.0 if self.is_long else 20.0

    @property
    def brown_out_s(self) -> float:
        return 180.0 if self.is_long else 40.0

    @property
    def brown_out_length_s(self) -> float:
        return 15.0 if self.is_long else 6.0

    @property
    def kill_s(self) -> float:
        return 2400.0 if self.is_long else 45.0

    @property
    def sample_s(self) -> float:
        return 5.0 if self.is_long else 1.0

    @property
    def warm_s(self) -> float:
        return 900.0 if self.is_long else 0.3 * self.minutes * 60
