"""Relays that differ in one thing, asked the same in turns: what that thing costs a request.

Legs alternate between the relays of one run, forwards and backwards; figures are differences of the
same round, since machines are shared and rounds unlike each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bench.processes import BenchError, RelayProcess
from bench.rig import Rig

TTFT_MS, ITL_MS = 10, 5
"""What the emulator is told to take."""


class Asked(NamedTuple):
    """A relay, and how it is asked."""

    relay: RelayProcess
    bearer: str = ""


class Load(NamedTuple):
    """One kind of leg."""

    tokens: int
    streams: int
    model: str
    """An alias that every relay has."""


Legs = dict[tuple[Load, str], list[dict[str, Any]]]
"""By load and name of the relay: what the generator told, a leg a round."""


def measure(rig: Rig, asked: Mapping[str, Asked], loads: Iterable[Load], rounds: int) -> Legs:
    """
    Args:
        asked: by a name for each, which is the generator's path too.

    Raises:
        BenchError: a request failed.
    """
    loads = list(loads)
    watch = {name: one.relay.watched_pids() for name, one in asked.items()}
    for name, one in asked.items():
        rig.load.ask(
            {
                "op": "keyed",
                "path": f"{name}_at",
                "relay_url": f"http://127.0.0.1:{one.relay.http_port}",
                "bearer": one.bearer,
                "model": loads[0].model,
            },
            60.0,
        )
    legs: Legs = {}
    for number in range(rounds):
        rig.say(f"{', '.join(asked)}: round {number + 1} of {rounds}")
        for load in loads:
            for name in list(asked)[:: 1 if number % 2 else -1]:
                raw = rig.load.ask(
                    {
                        "op": "leg",
                        "path": f"{name}_at",
                        "streams": load.streams,
                        "tokens": load.tokens,
                        "ttft_ms": TTFT_MS,
                        "itl_ms": ITL_MS,
                        "model": load.model,
                        "window_s": rig.options.window_s,
                        "watch": {"relay": watch[name]},
                    },
                    90.0,
                )
                if raw["error_count"] or raw["unanswered"]:
                    raise BenchError(f"{name}: {raw['error_count']} failed: {raw['errors']}")
                legs.setdefault((load, name), []).append(raw)
    return legs


def us_a_request(raw: Mapping[str, Any], tokens: int) -> float:
    """CPU of the relay's processes, of one leg."""
    used_us: float = raw["cpu_ns"]["relay"] / 1e3
    return used_us * tokens / float(raw["tokens_in_window"])
