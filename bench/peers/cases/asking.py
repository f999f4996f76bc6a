"""Questions one after the other, and what is made of their answers; for several cases."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.peers.rig import PeerRig


class Asked(NamedTuple):
    """One answer; see `bench.peers.doors`."""

    sent_ns: int
    first_ns: int | None
    stamped_ns: int | None
    end_ns: int
    ending: str
    tokens: int
    tool_calls: tuple[tuple[str, str], ...]
    detail: str

    @property
    def first_ms(self) -> float:
        """From sending to the first token."""
        return float("nan") if self.first_ns is None else (self.first_ns - self.sent_ns) / 1e6

    @property
    def end_ms(self) -> float:
        """From sending to the end."""
        return (self.end_ns - self.sent_ns) / 1e6


def ask(
    rig: PeerRig,
    name: str,
    count: int = 1,
    *,
    pause_ms: float = 0.0,
    timeout_s: float = 10.0,
    question: dict[str, Any] | None = None,
) -> list[Asked]:
    """Ask an arm.

    Raises:
        BenchError: the load generator failed; a bad answer is no such failure.
    """
    answer = rig.load.ask(
        {
            "op": "ask",
            "path": name,
            "count": count,
            "pause_ms": pause_ms,
            "timeout_s": timeout_s,
            "question": question or {},
        },
        30.0 + count * (timeout_s + pause_ms / 1e3),
    )
    return [
        Asked(**{**each, "tool_calls": tuple(map(tuple, each["tool_calls"]))})
        for each in answer["answers"]
    ]
