"""The arms of the comparison, and how the emulated providers behave in all of them.

Each arm has models of its own at the emulator, so that they learn nothing from each other, and the
same times: the `k`-th request of an arm for its first provider waits as long as that of any other.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any, Final

from bench.hedged import ROWS
from relay.calls.script import Turn
from relay.emulator.distributions import QuantileTable, parse_distribution

DIRECT: Final = "direct"
ARMS: Final = (DIRECT, "sse", "converse", "sse_hedged", "converse_hedged")

TTFT_MS: Final = {
    "first": "q:0=180;50=380;90=750;95=1400;99=4000;100=7000",
    "second": "q:0=220;50=450;90=800;95=1100;99=1600;100=2500",
    "ill": "q:0=2000;50=3500;90=6000;100=7000",
}
"""The first has a good median and a heavy tail, `ill` is the first in a brown-out."""
ITL_MS: Final = (15, 25)
_ILL: Final = "~ "
"""Behind the tag of turns with a brown-out: the emulator knows them by it."""
HEDGE_MS: Final = 700
EXTRA: Final = 0.25
"""Some tenth of requests waits longer than that, and there are the brown-outs."""
STRATA: Final = 50
DRAWS: Final = 2000


def draws_ms(table: str, seed: int) -> list[float]:
    """Times of a quantile table, stratified: each 50 in a row hold its percentiles 1, 3, ... 99,
    so that few requests have the tail that belongs to them."""
    distribution = parse_distribution(table, {})
    if not isinstance(distribution, QuantileTable):
        raise TypeError("strata need a quantile table")
    rng = random.Random(seed)
    found: list[float] = []
    while len(found) < DRAWS:
        percents = [100 * (k + 0.5) / STRATA for k in range(STRATA)]
        rng.shuffle(percents)
        found += [distribution.at(percent) for percent in percents]
    return found


def orders(directory: Path, pace: float) -> list[dict[str, object]]:
    """What the emulator's control endpoint is told of the models of all arms.

    Args:
        directory: where the draws are written to.
        pace: how much faster than real providers.
    """
    low_ms, high_ms = (value / pace for value in ITL_MS)
    found: list[dict[str, object]] = []
    for seed, (part, table) in enumerate(TTFT_MS.items()):
        file = directory / f"ttft-{part}.csv"
        with file.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["ttft_ms"])
            writer.writerows([f"{ms / pace:.2f}"] for ms in draws_ms(table, seed))
        behaviour = {
            "ttft": f"csvseq:{file}:ttft_ms",
            "itl": f"{low_ms:g}..{high_ms:g}",
            "text": "echo",
        }
        for arm in ARMS:
            if part == "ill":
                only = {"match": "prompt", "prompt": _ILL}
                found.append({"model": f"{arm}-first", **only, "behaviour": behaviour})
            else:
                found.append({"model": f"{arm}-{part}", "behaviour": behaviour})
    return found


def aliases(pace: float) -> dict[str, Any]:
    """The relay's aliases, one an arm."""
    found: dict[str, Any] = {}
    for arm in ARMS[1:]:
        models = [f"{arm}-first"]
        hedge: dict[str, object] = {"mode": "disabled"}
        if arm.endswith("_hedged"):
            models.append(f"{arm}-second")
            hedge = {
                "mode": "active",
                "delay": round(HEDGE_MS / pace),
                "max_extra_requests": EXTRA,
                "max_extra_cost": 10.0,
            }
        found[arm] = {
            "candidates": [
                {"provider": row, "model": model} for row, model in zip(ROWS, models, strict=False)
            ],
            "hedge": hedge,
        }
    return found


class EchoStage:
    """The caller tells the model what to say, behind the generation's tag: whatever comes of an
    answer can be told from any other."""

    def __init__(self, arm: str) -> None:
        self._arm = arm

    def model(self, turn: Turn) -> str:
        """See `Stage.model`."""
        return "direct-first" if self._arm == DIRECT else self._arm

    def words(self, turn: Turn, transcript: str, tag: str) -> str:
        """See `Stage.words`."""
        return f"#{tag}{_ILL if turn.is_brown_out else ' '}{turn.answer}"

    def expected(self, turn: Turn, words: str) -> str:
        """See `Stage.expected`."""
        return words


def tag_of(prompt_start: str) -> str:
    """The generation that asked, from the emulator's record."""
    return prompt_start.partition(" ")[0].removeprefix("#").removesuffix(_ILL.rstrip())


def arm_of(model: str) -> str:
    """The arm of one of the emulated models; empty for others'."""
    arm, _, part = model.rpartition("-")
    return arm if part in TTFT_MS and arm in ARMS else ""
