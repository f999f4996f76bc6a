"""Open loop: latency that each gateway adds, CPU of its process tree for a token, its memory.

An arm that cannot keep up with an axis (requests fail or are not answered, or the first token is
late by more than `LATE_MS` in the median) is told so there, with what figures it has, and is not
asked for axes with more tokens and more requests a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.peers.rig import DIRECT, Arm, Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult
from bench.stats import Histogram, median, merged, spread

TTFT_MS = 20
LATE_MS = 100.0
"""Of a first token, added, in the median: speech would notice."""


class Axis(NamedTuple):
    """One load."""

    streams: int
    per_second: int
    """Tokens of each stream."""
    tokens: int
    """Of an answer: few streams have short ones, so that a window holds enough for a p99."""

    @property
    def name(self) -> str:
        """Such as `16x100`."""
        return f"{self.streams}x{self.per_second}"

    @property
    def itl_ms(self) -> float:
        """Between tokens."""
        return 1000 / self.per_second

    @property
    def tokens_per_second(self) -> float:
        """Of all streams."""
        return self.requests_per_second * self.tokens

    @property
    def requests_per_second(self) -> float:
        """As many as keep that many streams open on average."""
        return self.streams / self.length_s

    @property
    def length_s(self) -> float:
        """Of an answer, by the provider."""
        return (TTFT_MS + (self.tokens - 1) * self.itl_ms) / 1e3

    def is_harder(self, other: Axis) -> bool:
        """More of both, or the same."""
        return (
            self.tokens_per_second >= other.tokens_per_second
            and self.requests_per_second >= other.requests_per_second
        )


AXES = (
    Axis(1, 100, 6),
    Axis(16, 20, 30),
    Axis(16, 100, 25),
    Axis(16, 200, 50),
    Axis(64, 100, 50),
    Axis(256, 20, 25),
)
_AIMS = [
    ("sse/64x100", "over_nginx", 3.0),
    ("sse/64x100", "over_tensorzero", 1.0),
    ("sse/64x100", "over_ferro", 1.0),
    ("sse/64x100", "over_portkey", 0.4),
    ("sse/16x20", "over_litellm", 0.06),
    ("sse/16x100", "added_ttft_p50_ms", 0.5),
    ("sse/16x100", "added_ttft_p99_ms", 2.0),
    ("sse/16x100", "ttft_over_tensorzero", 0.7),
    ("generate/64x100", "over_sse", 1.5),
    ("generate/16x100", "added_ttft_p50_ms", 0.7),
]
"""Row, figure, at most. LiteLLM is compared where it keeps up."""
QUICK_AXES = tuple(axis for axis in AXES if axis.name != "16x200")


@dataclass(slots=True)
class _Leg:
    """One arm under one load, once."""

    raw: dict[str, Any]
    histograms: dict[str, Histogram]
    rss_mib: float
    direct: _Leg | None = None
    """Of the same round."""

    def added_ms(self, figure: str, share: float) -> float:
        """Percentile minus the direct one of the round."""
        if self.direct is None:
            return math.nan
        mine = self.histograms[figure].quantile(share)
        return (mine - self.direct.histograms[figure].quantile(share)) / 1e3

    def us_per_event(self, who: str) -> float:
        """CPU for one delivered token."""
        delivered = self.raw["tokens_in_window"]
        used_ns = self.raw["cpu_ns"].get(who)
        return used_ns / 1e3 / delivered if used_ns is not None and delivered else math.nan

    def core_percent(self, who: str) -> float:
        """CPU as a share of one core."""
        used_ns = self.raw["cpu_ns"].get(who, math.nan)
        return float(used_ns / 1e7 / self.raw["window_s"])

    @property
    def failed(self) -> int:
        """Requests that failed or had no answer."""
        return int(self.raw["error_count"])


_LEAD_S = 0.3
"""Of a leg, beside its window and two lengths of an answer."""


def _axes(options: Options) -> list[Axis]:
    axes = QUICK_AXES if options.is_quick else AXES
    return sorted(axes, key=lambda axis: axis.tokens_per_second)


def parts(options: Options) -> list[str]:
    """The axes, fewer tokens a second first."""
    return [axis.name for axis in _axes(options)]


def seconds(options: Options, part: str, arms: int) -> float:
    """Of all rounds of an axis."""
    length_s = _axis(options, part).length_s
    return options.rounds * arms * (options.window_s + 2 * length_s + _LEAD_S)


def _axis(options: Options, part: str) -> Axis:
    return next(axis for axis in _axes(options) if axis.name == part)


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result; `given_up`: by arm the axis that it did not keep up with."""
    return {
        "axes": [axis._asdict() for axis in _axes(rig.options)],
        "arms": list(rig.arms),
        "ttft_ms": TTFT_MS,
        "rounds": rig.options.rounds,
        "window_s": rig.options.window_s,
        "given_up": {},
    }


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """All arms at one axis, interleaved."""
    axis = _axis(rig.options, part)
    given_up = {name: _axis(rig.options, where) for name, where in result.axes["given_up"].items()}
    rig.behave(f"ttft={TTFT_MS},itl={axis.itl_ms:g},tokens={axis.tokens},stamp=1")
    legs: dict[str, list[_Leg]] = {
        name: [] for name in rig.arms if name not in given_up or not axis.is_harder(given_up[name])
    }
    for number in range(rig.options.rounds):
        rig.say(f"{axis.name}, round {number + 1} of {rig.options.rounds}")
        _round(rig, axis, legs, given_up, result.notes)
    _rows(rig, axis, legs, given_up, result)
    result.axes["given_up"] = {name: where.name for name, where in given_up.items()}


def finish(result: CaseResult) -> None:
    """Ratios over axes, and the aims."""
    _aims(result)


def _aims(result: CaseResult) -> None:
    """What the relay wants to be beside them, as ratios of one run."""
    rows = result.rows
    ours = rows.get("sse/16x100", {})
    if "tensorzero/16x100" in rows and "added_ttft_p50_ms" in ours:
        theirs_ms = rows["tensorzero/16x100"]["added_ttft_p50_ms"]
        ours["ttft_over_tensorzero"] = ours["added_ttft_p50_ms"] / theirs_ms
    many, few = rows.get("generate/64x100", {}), rows.get("sse/64x100", {})
    if "hop_us" in many and "hop_us" in few:
        many["over_sse"] = many["hop_us"] / few["hop_us"]
    result.targets += [aim for aim in _AIMS if aim[1] in rows.get(aim[0], {})]


def _round(
    rig: PeerRig,
    axis: Axis,
    legs: dict[str, list[_Leg]],
    given_up: dict[str, Axis],
    notes: list[str],
) -> None:
    now: dict[str, _Leg] = {}
    for arm in rig.order([name for name in legs if given_up.get(name) != axis]):
        try:
            now[arm.name] = _leg(rig, arm, axis)
        except BenchError as error:
            if arm.name == DIRECT:
                raise
            given_up[arm.name] = axis
            notes.append(f"{arm.name} failed at {axis.name}: {error}")
            rig.settle()
    for name, leg in now.items():
        if name != DIRECT:
            leg.direct = now[DIRECT]
        legs[name].append(leg)
        if name == DIRECT:
            continue
        why = _trouble(leg)
        if why:
            given_up[name] = axis
            notes.append(f"{name} does not keep up with {axis.name}: {why}")


def _trouble(leg: _Leg) -> str:
    if leg.failed:
        return f"{leg.failed} requests failed or were not answered, such as {leg.raw['errors'][:1]}"
    late_ms = leg.added_ms("ttft", 0.5)
    if late_ms > LATE_MS:
        return f"first tokens {late_ms:.0f} ms late in the median"
    return ""


def ask_leg(rig: PeerRig, arm: Arm, axis: Axis) -> tuple[dict[str, Any], dict[str, Histogram]]:
    """One arm under one load by the generator in Python: its answer, and the histograms of it.

    Raises:
        BenchError: the generator failed.
    """
    raw = rig.load.ask(
        {
            "op": "leg",
            "path": arm.name,
            "streams": axis.streams,
            "tokens": axis.tokens,
            "ttft_ms": TTFT_MS,
            "itl_ms": axis.itl_ms,
            "model": "",
            "window_s": rig.options.window_s,
            "watch": rig.watch(arm),
        },
        120.0,
    )
    if raw["unanswered"] or raw["error_count"]:
        rig.settle()
    return raw, {name: Histogram.from_dict(each) for name, each in raw.pop("histograms").items()}


def _leg(rig: PeerRig, arm: Arm, axis: Axis) -> _Leg:
    raw, histograms = ask_leg(rig, arm, axis)
    return _Leg(raw, histograms, arm.rss_mib())


def _rows(
    rig: PeerRig,
    axis: Axis,
    legs: dict[str, list[_Leg]],
    given_up: dict[str, Axis],
    result: CaseResult,
) -> None:
    hops = {
        name: median([leg.us_per_event("hop") for leg in mine])
        for name, mine in legs.items()
        if mine and name != DIRECT
    }
    for name, mine in legs.items():
        if not mine:
            continue
        key = f"{name}/{axis.name}"
        row: dict[str, float] = {
            "requests": sum(leg.raw["requests"] for leg in mine),
            "failed": sum(leg.failed for leg in mine),
            "keeps_up": float(given_up.get(name) != axis),
        }
        for figure in ("ttft", "token", "gap"):
            merged_all = merged(leg.histograms[figure] for leg in mine)
            if not merged_all.count:
                continue
            result.histograms[f"{key}/{figure}"] = merged_all
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                wait_ms = TTFT_MS if figure == "ttft" else 0.0
                row[f"{figure}_{label}_ms"] = merged_all.quantile(share) / 1e3 - wait_ms
                if name != DIRECT:
                    _spread(row, f"added_{figure}_{label}_ms", mine, _added(figure, share))
        if name != DIRECT:
            _spread(row, "hop_us", mine, lambda leg: leg.us_per_event("hop"))
            row["hop_core_%"] = median([leg.core_percent("hop") for leg in mine])
            row["rss_mib"] = max(leg.rss_mib for leg in mine)
            for peer in rig.options.peers:
                if peer in hops and peer != name:
                    row[f"over_{peer}"] = row["hop_us"] / hops[peer]
        row["load_core_%"] = median([leg.core_percent("load") for leg in mine])
        row["emulator_core_%"] = median([leg.core_percent("emulator") for leg in mine])
        result.rows[key] = row


def _added(figure: str, share: float) -> Callable[[_Leg], float]:
    return lambda leg: leg.added_ms(figure, share)


def _spread(
    row: dict[str, float], name: str, legs: Sequence[_Leg], of: Callable[[_Leg], float]
) -> None:
    """The median of the rounds, and the extreme ones."""
    values = [of(leg) for leg in legs]
    row[name] = median(values)
    if len(values) > 1:
        row[f"{name}_low"], row[f"{name}_high"] = spread(values)
