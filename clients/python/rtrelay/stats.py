"""What a client counts of the ways that its generations went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtrelay._takeover import Via


@dataclass(frozen=True, slots=True)
class Stats:
    """A look at the counts of one client.

    A generation that a relay accepted, and that went to the provider when its stream broke before
    the first output, is in both counts.
    """

    relay: int = 0
    """Generations that a relay accepted."""
    direct: int = 0
    """Generations that went to the provider instead."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why they did: `no_connection` (no relay could be reached in time), `no_answer` (one was
    connected and did not say in time that it had the generation, or answered no ping afterwards),
    `stream_lost` (the stream broke after the relay had it, and before any output), `relay_away`
    (started while the session was away from the relay)."""
    takeovers: int = 0
    """How often a session left the relay."""
    returns: int = 0
    """How often one came back, those among them that began away."""


@dataclass(frozen=True, slots=True)
class PathChange:
    """A session left the relay, or came back to it."""

    via: Via
    """Where its generations go from now on."""
    reason: str
    """Why it left (as in `Stats.reasons`); `relay_back` when it returned, `relay_refused` when the
    relay answered by a refusal that lasts."""
    session_id: str = ""
    """The relay's name of the session that it was last in; empty if there was none."""


class Counts:
    """The counts themselves."""

    def __init__(self) -> None:
        self.relay = 0
        self.takeovers = 0
        self.returns = 0
        self.reasons: Counter[str] = Counter()

    def look(self) -> Stats:
        """How they stand."""
        return Stats(
            relay=self.relay,
            direct=self.reasons.total(),
            reasons=dict(self.reasons),
            takeovers=self.takeovers,
            returns=self.returns,
        )
