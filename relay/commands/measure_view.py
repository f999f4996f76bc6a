"""What `relay measure` shows: what it may cost, what it found, and the same for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.commands.table import table
from relay.measuring.prompts import SHORT_TOKENS, Shape
from relay.measuring.rounds import Ended, worst_of
from relay.measuring.samples import Door, DoorResult, Figures, figures

ENDED: Mapping[Ended, str] = {
    "complete": "it went to its end",
    "bound": "it stopped where the next request could have gone over --max-usd",
    "stopped": "it was stopped",
}


def cost_table(doors: Sequence[Door], samples: int, shape: Shape) -> Table:
    """The worst that may be paid, door by door."""
    found = table(
        "what it may cost at worst",
        *("door", "tier", "$ in / out per million", "requests", "$"),
    )
    for door in doors:
        price = door.price
        shown = "unknown" if price is None else f"{price.input:g} / {price.output:g}"
        found.add_row(
            escape(door.target.place),
            door.target.tier_of("") or "-",
            shown,
            str(samples),
            "unknown" if price is None else f"{worst_of(door, samples, shape) / 1e6:.4f}",
        )
    return found


def results_table(results: Sequence[DoorResult], *, has_price: bool) -> Table:
    """One row a door, the doors of a class together, the fastest first."""
    found = table(
        "time to first token, ms",
        *("class", "door", "samples", "p50 (95 %)", "p90", "p99", "per 1,000 tokens", "failed"),
        *(("$",) if has_price else ()),
    )
    for result, figs in sorted(
        ((result, figures(result.warm)) for result in results),
        key=lambda row: (row[0].door.target.same, row[1] is None, row[1].p50_s if row[1] else 0.0),
    ):
        target = result.door.target
        cells = [
            escape(target.same or "-"),
            escape(target.name),
            f"{len(result.warm)} of {result.asked}",
            *_times(figs),
            str(sum(result.faults.values())),
        ]
        if has_price:
            known = result.door.price is not None
            cells.append(f"{result.spent_micro / 1e6:.4f}" if known else "unknown")
        found.add_row(*cells)
    return found


def _times(found: Figures | None) -> list[str]:
    if found is None:
        return ["-"] * 4
    slope = found.per_1000_s
    return [
        f"{_ms(found.p50_s)} ({_ms(found.p50_low_s)}-{_ms(found.p50_high_s)})",
        _ms(found.p90_s),
        _ms(found.p99_s),
        "-" if slope is None else f"{slope * 1e3:+.1f}",
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def print_results(console: Console, results: Sequence[DoorResult], shape: Shape) -> None:
    """The table, and in words what it does not say."""
    priced = any(result.door.price is not None for result in results)
    console.print(results_table(results, has_price=priced))
    for result in results:
        name = result.door.target.name
        for fault, count in result.faults.most_common():
            times = f"{count} of {result.asked}"
            console.print(
                f"[yellow]{escape(name)}:[/yellow] {times} {escape(fault)}", highlight=False
            )
        if result.left:
            console.print(f"{escape(name)} was left: {escape(result.left)}", highlight=False)
        if cold := len(result.samples) - len(result.warm):
            console.print(
                f"{escape(name)}: {cold} more came over a connection that had to be made first;"
                " they are in no figure",
                highlight=False,
            )
    console.print(
        f"Half the prompts have about {SHORT_TOKENS} tokens, half {shape.long_tokens}, none was"
        " seen before, connections warm. p99 of fewer than a hundred samples is the slowest one.",
        highlight=False,
    )


def as_json(
    results: Sequence[DoorResult],
    ended: Ended,
    states: Mapping[str, Mapping[str, Any]],
    written: str | None,
) -> dict[str, Any]:
    """For programs.

    Args:
        written: where the priors are now; None for nowhere.
    """
    return {
        "ended": ended,
        "usd": round(sum(result.spent_micro for result in results) / 1e6, 6),
        "priors_written_to": written,
        "doors": [_door_json(result, states) for result in results],
    }


def _door_json(result: DoorResult, states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    target, found = result.door.target, figures(result.warm)
    return {
        "target": target.name,
        "class": target.same or None,
        "door": target.endpoint.door,
        "asked": result.asked,
        "samples": len(result.warm),
        "cold_samples": len(result.samples) - len(result.warm),
        "ttft_ms": None
        if found is None
        else {
            "p50": round(found.p50_s * 1e3, 1),
            "p50_low": round(found.p50_low_s * 1e3, 1),
            "p50_high": round(found.p50_high_s * 1e3, 1),
            "p90": round(found.p90_s * 1e3, 1),
            "p99": round(found.p99_s * 1e3, 1),
            "per_1000_prompt_tokens": None
            if found.per_1000_s is None
            else round(found.per_1000_s * 1e3, 2),
        },
        "faults": dict(result.faults),
        "left": result.left or None,
        "usd": None if result.door.price is None else round(result.spent_micro / 1e6, 6),
        "learned": states.get(target.name),
    }
