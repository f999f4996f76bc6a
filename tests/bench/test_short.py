"""The short form of the bench: has the relay become clearly dearer than the stored baseline?

Only ratios are judged, each over something that is measured in turn with it. pytest-benchmark runs
the rounds and stores them with the ratios beside them (`make bench-short`, `make test`);
`python -m bench history` shows those by commit. A ratio that is over its bound is measured on:
a disturbance ends, a regression does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import baseline
from bench.rig import Options, Rig
from bench.short import pieces, streams
from bench.short.judge import SLACK_WITHOUT_PRIORITY, over
from bench.short.priority import real_time

pytestmark = [pytest.mark.bench, pytest.mark.sockets, pytest.mark.timeout(120)]

ROUNDS = 4
MOST_ROUNDS = 10
"""Those after the first `ROUNDS` are only of the paths that are over a bound."""
PIECE_ROUNDS = 300
PATH_ROUNDS = 60
MOST_TIMES = 4
"""How many times its rounds a piece may take."""


@pytest.fixture(scope="module")
def limits() -> dict[str, float]:
    return baseline.ratios()


@pytest.fixture(scope="module")
def beside() -> dict[str, Any]:
    """What is told beside the ratios of streams."""
    return {"load_1m": round(os.getloadavg()[0], 1)}


@pytest.fixture(scope="module")
def rig(beside: dict[str, Any]) -> Iterator[Rig]:
    with ExitStack() as stack:
        with real_time() as beside["real_time"]:
            options = Options(rounds=ROUNDS, window_s=streams.WINDOW_S, is_quick=True)
            started = stack.enter_context(Rig(options))
        yield started


def test_streams_cost_no_more_than_they_did(
    rig: Rig, beside: dict[str, Any], limits: dict[str, float], benchmark: BenchmarkFixture
) -> None:
    rounds: list[streams.Round] = []
    slack = 1.0 if beside["real_time"] else SLACK_WITHOUT_PRIORITY

    def measure(paths: tuple[str, ...] = streams.PATHS) -> None:
        rounds.append(streams.measure(rig, paths, len(rounds)))

    benchmark.pedantic(measure, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    while (found := over(streams.ratios(rounds), limits, slack)) and len(rounds) < MOST_ROUNDS:
        measure(tuple({one.name.partition("/")[2] for one in found}))
    benchmark.extra_info["ratios"] = streams.ratios(rounds)
    benchmark.extra_info["rounds"] = [
        {path: figures._asdict() for path, figures in one.items()} for one in rounds
    ]
    quiet = sum(map(streams.is_quiet, rounds))
    benchmark.extra_info["beside"] = {**beside, "rounds": len(rounds), "quiet_rounds": quiet}
    assert not found, "; ".join(map(str, found))
    if quiet < streams.LEAST_QUIET:
        pytest.skip("CPU is within its bounds; latencies are not judged: others had the cores")


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("name", pieces.NAMES)
def test_pieces_cost_no_more_than_they_did(
    name: str, limits: dict[str, float], benchmark: BenchmarkFixture
) -> None:
    _judge(pieces.Piece(name), PIECE_ROUNDS, limits, benchmark)


@pytest.mark.benchmark(timer=time.thread_time)
def test_generations_cost_no_more_than_they_did(
    limits: dict[str, float], benchmark: BenchmarkFixture
) -> None:
    _judge(pieces.Generations(), PATH_ROUNDS, limits, benchmark)


class _Measured(Protocol):
    def before(self) -> None: ...

    def once(self) -> None: ...

    def ratios(self) -> dict[str, float]: ...


def _judge(
    piece: _Measured, rounds: int, limits: dict[str, float], benchmark: BenchmarkFixture
) -> None:
    with real_time() as is_real_time:
        benchmark.pedantic(piece.once, setup=piece.before, rounds=rounds)  # type: ignore[no-untyped-call]
    slack = 1.0 if is_real_time else SLACK_WITHOUT_PRIORITY
    left = MOST_TIMES - 1
    while (found := over(piece.ratios(), limits, slack)) and left:
        left -= 1
        with real_time():
            for _ in range(rounds):
                piece.before()
                piece.once()
    benchmark.extra_info["ratios"] = piece.ratios()
    assert not found, "; ".join(map(str, found))
