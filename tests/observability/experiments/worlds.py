"""Answers of experiments that are made up."""

from __future__ import annotations

import random
from typing import Any

from relay.observability.experiments.rows import Observed

AT_US = 1_790_000_000_000_000


def observed(number: int, arm: str, **fields: Any) -> Observed:
    """A clean answer of a user of its own."""
    given: dict[str, Any] = {
        "generation_id": f"gen_{number}",
        "arm": arm,
        "unit": f"u{number}",
        "at_us": AT_US + number,
        "reason": "",
        "ttft_us": 300_000,
        "wall_us": 1_000_000,
        "cost_micro": 50.0,
        "finish": "STOP",
    }
    return Observed(**{**given, **fields})


def two_arms(
    users: int = 400, each: int = 5, *, slower: float = 1.0, fails: float = 0.02, seed: int = 0
) -> list[Observed]:
    """Users in `now` and `new`; of the new arm so much slower, and failing so often."""
    draw, found = random.Random(seed), []
    for user in range(users):
        arm = draw.choice(("now", "new"))
        own = draw.gauss(0, 0.3)
        for index in range(each):
            is_failed = draw.random() < (fails if arm == "new" else 0.02)
            took = 300_000 * 2.718281828 ** (own + draw.gauss(0, 0.3))
            took *= slower if arm == "new" else 1
            found.append(
                observed(
                    user * each + index,
                    arm,
                    unit=f"u{user}",
                    reason="CONNECT_FAILED" if is_failed else "",
                    ttft_us=None if is_failed else round(took),
                    wall_us=round(took * 3),
                    finish="" if is_failed else draw.choice(("STOP", "STOP", "LENGTH")),
                    score=float(draw.random() < 0.7) if index == 0 else None,
                )
            )
    return found
