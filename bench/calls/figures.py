"""From the turns of an arm and the emulator's records of its streams to figures.

A token is wasted if it was produced and never heard, and belongs to no answer that was heard out:
all of a speculation that was given up, all of a stream that lost a race, and of an answer that was
barged in on what comes after the last letter heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.stats import Histogram
from relay.emulator import prose

Row = Mapping[str, Any]

CAUSES: Final = ("discarded", "superseded", "barge_in", "hedge")
KINDS: Final = ("usual", "guessed", "tool", "brown_out")
"""Of turns; a turn of several kinds is of the last of them."""
GRACE_NS: Final = 100_000_000
"""A stream that ends by itself within it after a cancel may have been over when the cancel came, on
a machine that stalls."""


@dataclass(slots=True)
class ArmFigures:
    """Of one arm."""

    first_segment: dict[str, Histogram] = field(
        default_factory=lambda: {kind: Histogram() for kind in KINDS}
    )
    """From the caller's last sound to the first thing that can be spoken, by the kind of turn."""
    dead_air: Counter[str] = field(default_factory=Counter)
    """Turns by kind in which that took too long."""
    abandoned: dict[str, Histogram] = field(
        default_factory=lambda: {cause: Histogram() for cause in CAUSES[:3]}
    )
    """From the agent's cancel to the provider's notice of it."""
    turns: int = 0
    generations: int = 0
    hedges: int = 0
    not_stopped: list[str] = field(default_factory=list)
    """Streams that went on after their cancel: how."""
    failed: list[str] = field(default_factory=list)
    """Generations that failed: why."""
    produced: int = 0
    wasted: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Whatever must not be, in words."""


def of_arm(
    turns: Iterable[Row], streams: Mapping[str, Sequence[Row]], late_ms: float
) -> ArmFigures:
    """All figures of an arm.

    Args:
        streams: the emulator's records by the tag of the generation that asked.
        late_ms: dead air.
    """
    found = ArmFigures()
    for turn in turns:
        found.turns += 1
        if turn["first_segment_ns"]:
            waited_us = (turn["first_segment_ns"] - turn["speech_to_ns"]) / 1e3
            found.first_segment[turn["kind"]].add(waited_us)
            found.dead_air[turn["kind"]] += waited_us > late_ms * 1e3
        elif not turn["barge_in_ns"]:
            errors = [one["end"]["error"] for one in turn["generations"] if one["end"]]
            found.wrong.append(f"a turn of {turn['call']} had no answer: {errors}")
        for generation in turn["generations"]:
            _generation(found, turn, generation, streams.get(generation["tag"], ()))
        _text(found, turn)
    return found


def _generation(found: ArmFigures, turn: Row, generation: Row, streams: Sequence[Row]) -> None:
    found.generations += 1
    found.hedges += max(0, len(streams) - 1)
    end = generation["end"] or {"outcome": "failed", "error": "no end", "winner": ""}
    if end["outcome"] == "failed":
        found.failed.append(f"{generation['tag']}: {end['error']}")
    reason = generation["cancel_reason"]
    best = _winner(streams, end["winner"])
    for stream in streams:
        found.produced += stream["tokens"]
        if stream["outcome"] == "open":
            found.wrong.append(f"a stream of {generation['tag']} was never ended")
        if best is not None and stream is not best:
            found.wasted["hedge"] += stream["tokens"]
        elif reason == "barge_in":
            found.wasted[reason] += max(0, stream["tokens"] - _heard_tokens(turn, generation))
        elif reason:
            found.wasted[reason] += stream["tokens"]
        if generation["cancelled_ns"] and stream is (best or stream):
            _stop(found, generation, stream)


def _winner(streams: Sequence[Row], winner: str) -> Row | None:
    """The stream whose output is the answer's; None where nobody had won."""
    if len(streams) == 1:
        return streams[0]
    model = winner.partition("/")[2]
    of_model = [stream for stream in streams if stream["model"] == model]
    return max(of_model, key=lambda stream: int(stream["tokens"]), default=None)


def _stop(found: ArmFigures, generation: Row, stream: Row) -> None:
    took_ns = stream["end_ns"] - generation["cancelled_ns"]
    if stream["outcome"] == "abandoned":
        found.abandoned[generation["cancel_reason"]].add(took_ns / 1e3)
    elif took_ns > GRACE_NS:
        after_ms = (generation["cancelled_ns"] - generation["started_ns"]) / 1e6
        found.not_stopped.append(
            f"{generation['tag']} was {generation['cancel_reason']} {after_ms:.0f} ms after its"
            f" start, and its provider wrote on to the end for {took_ns / 1e6:.0f} ms"
        )


def _heard_tokens(turn: Row, generation: Row) -> int:
    """Of the answer that was spoken; an earlier leg of it has none."""
    if not generation["expected"].startswith(turn["heard"]):
        return 0
    return len(prose.to_tokens(turn["heard"])) if turn["heard"] else 0


def _text(found: ArmFigures, turn: Row) -> None:
    """Nothing mixed, nothing twice, nothing after a cancel, nothing lost."""
    for generation in turn["generations"]:
        tag, text, expected = generation["tag"], generation["text"], generation["expected"]
        end = generation["end"]
        is_whole = end is not None and end["outcome"] == "completed" and text
        if not expected.startswith(text):
            found.wrong.append(f"{tag} was given a text that is not its own: {text[:80]!r}")
        elif is_whole and not generation["cancel_reason"] and text != expected:
            found.wrong.append(f"{tag} completed with {len(text)} of {len(expected)} characters")
        if generation["late_pieces"]:
            found.wrong.append(f"{tag} was given text after its cancel")
    wanted = [one for one in turn["generations"] if one["committed_ns"]]
    if not wanted or not wanted[-1]["expected"].startswith(turn["heard"]):
        found.wrong.append(f"a turn of {turn['call']} was heard to say {turn['heard'][:80]!r}")
    for from_ns, _ in turn["noise_ns"]:
        if any(one["started_ns"] > from_ns or one["cancel_reason"] for one in wanted):
            found.wrong.append(f"noise in {turn['call']} started or stopped a generation")


def milliseconds(histogram: Histogram) -> dict[str, float]:
    """The usual quantiles."""
    return {
        "p50_ms": histogram.quantile(0.5) / 1e3,
        "p95_ms": histogram.quantile(0.95) / 1e3,
        "p99_ms": histogram.quantile(0.99) / 1e3,
    }
