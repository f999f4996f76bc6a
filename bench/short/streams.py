"""Short legs of all paths in turn, and the ratios that are made of them.

A ratio is the median over rounds of path over reference, both of one round: what else the machine
does (its caches, the other half of a core) changes within seconds and hits either. A p99 it may
spoil tenfold, and only upwards: there it is the best round of the path over the best of the
reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.rig import TTFT_MS, Leg, Rig
from bench.stats import median

PATHS = ("sse", "generate", "converse")
REFERENCES = ("direct", "nginx")
STREAMS = 16
WINDOW_S = 0.6
LEAST_QUIET = 2
"""With fewer quiet rounds no latency is told."""
QUIET_WAIT_US = 40.0
"""How long emulator and generator may wait for a core, for each token of a direct stream, in a
round whose latencies count. Among themselves they wait 5 to 15 us; behind others 60 to 400."""


class Figures(NamedTuple):
    """One leg, microseconds."""

    hop_us: float
    """CPU an event of what is in the middle; of a direct stream, of its two ends."""
    ttft_us: float
    """Median, from the intended moment, without what the emulator was told to wait."""
    token_p50_us: float
    token_p99_us: float
    ends_waited_us: float
    """How long emulator and generator were ready and had no core, for each token."""


Round = dict[str, Figures]


def figures(leg: Leg) -> Figures:
    """What is kept of a leg."""
    hops = {"direct": ("emulator", "load"), "nginx": ("nginx",)}.get(leg.path, ("relay",))
    token = leg.histograms["token"]
    waited_ns = leg.raw["waited_ns"]
    return Figures(
        sum(leg.us_per_event(hop) for hop in hops),
        leg.histograms["ttft"].quantile(0.5) - TTFT_MS * 1e3,
        token.quantile(0.5),
        token.quantile(0.99),
        (waited_ns["emulator"] + waited_ns["load"]) / 1e3 / leg.delivered,
    )


def measure(rig: Rig, paths: Iterable[str], number: int) -> Round:
    """One round: every path and what it is compared with. The order turns with `number`.

    Raises:
        BenchError: a request failed.
    """
    names = [name for name in rig.paths if name in REFERENCES or name in set(paths)]
    turn = number % len(names)
    order = names[turn:] + names[:turn]
    return {name: figures(rig.leg(name, STREAMS, window_s=WINDOW_S)) for name in order}


def is_quiet(one: Round) -> bool:
    """Whether nobody else had the cores when a round was measured."""
    return one["direct"].ends_waited_us <= QUIET_WAIT_US


def ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Every ratio by name. Without quiet rounds those of latencies are missing, without nginx
    those over nginx."""
    found: dict[str, float] = {}
    for path in PATHS:
        # A reference of rounds that the path was not in would have had more luck than the path.
        shared = [one for one in rounds if path in one]
        if not shared:
            continue
        if "nginx" in shared[0]:
            found[f"cpu_over_nginx/{path}"] = _typical(shared, path, "nginx", "hop_us")
        found[f"cpu_over_direct_ends/{path}"] = _typical(shared, path, "direct", "hop_us")
        quiet = [one for one in shared if is_quiet(one)]
        if len(quiet) >= LEAST_QUIET:
            ttft, token = (_typical(quiet, path, "direct", name) for name in _MEDIANS)
            found[f"ttft_p50_over_direct/{path}"] = ttft
            found[f"token_p50_over_direct/{path}"] = token
            found[f"token_p99_over_direct/{path}"] = _best(quiet, path, "direct", "token_p99_us")
    return found


_MEDIANS = ("ttft_us", "token_p50_us")


def _typical(rounds: Sequence[Round], path: str, reference: str, name: str) -> float:
    return median([getattr(one[path], name) / getattr(one[reference], name) for one in rounds])


def _best(rounds: Sequence[Round], path: str, reference: str, name: str) -> float:
    ours, theirs = (min(getattr(one[each], name) for one in rounds) for each in (path, reference))
    return float(ours / theirs)
