"""What the generator in Python adds, and up to which rate it may be used."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bench.peers import h2load
from bench.peers.cases import capacity, client
from bench.peers.cases.capacity import STREAM_WORK, WHOLE_WORK
from bench.peers.driving import Work
from bench.peers.h2load import Leg
from bench.peers.h2load_output import Finished, Summary
from bench.peers.rig import QUICK
from bench.result import CaseResult

AXIS = client.RUNGS[0]
WORK = Work(AXIS.tokens, 20, AXIS.itl_ms)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1000.0, 10.0), (5000.0, 50.0), (9000.0, 90.0)], (7000.0, True)),
        ([(9000.0, 90.0), (1000.0, 10.0)], (7000.0, True)),
        ([(1000.0, 10.0), (5000.0, 50.0)], (5000.0, False)),
        # Through nothing at all when even the first is over it.
        ([(1000.0, 100.0)], (700.0, True)),
    ],
)
def test_the_rate_at_the_limit(
    points: list[tuple[float, float]], expected: tuple[float, bool]
) -> None:
    rate, is_reached = client.limit(points)
    assert rate == pytest.approx(expected[0])
    assert is_reached is expected[1]


def leg(each_us: list[float], window_s: float = 1.0, **cpu_ns: int) -> Leg:
    answers = [Finished(0, 200, int(each)) for each in each_us]
    count = len(answers)
    return Leg(Summary(count, count, 0, 0, count, "h2"), answers, count, window_s, cpu_ns)


def test_figures_of_h2load() -> None:
    length_us = AXIS.length_s * 1e6
    found = client.by_h2load(
        leg([length_us + 500.0] * 30 + [length_us + 4_000.0], load=310_000_000, hop=0), AXIS, WORK
    )
    assert found["tokens_per_s"] == pytest.approx(31 * AXIS.tokens)
    assert found["answer_p50_ms"] == pytest.approx(0.5, abs=0.01)
    assert found["answer_p99_ms"] == pytest.approx(4.0, abs=0.01)
    assert found["load_us"] == pytest.approx(310_000 / 31 / AXIS.tokens)
    assert found["load_core_%"] == pytest.approx(31.0)
    assert found["sent_share"] == pytest.approx(31 / AXIS.requests_per_second)


def test_what_python_adds_is_the_median_of_rounds() -> None:
    def rows(*late_ms: float) -> list[dict[str, float]]:
        return [
            {"answer_p50_ms": each, "answer_p99_ms": 2 * each, "load_us": 10 * each}
            for each in late_ms
        ]

    result = CaseResult({})
    client._compare(rows(1.0, 5.0, 2.0), rows(0.5, 0.5, 0.5), result, "direct", AXIS)
    added = result.rows[f"direct/{AXIS.name}/added"]
    assert added["answer_p50_ms"] == pytest.approx(1.5)
    assert added["load_us"] == pytest.approx(15.0)


@pytest.mark.parametrize("who", ["emulator", "hop"])
def test_clients_are_not_compared_where_who_is_asked_is_the_limit(who: str) -> None:
    figures = {"answer_p50_ms": 1.0, "answer_p99_ms": 2.0, "load_us": 10.0}
    result = CaseResult({})
    full = {**figures, f"{who}_core_%": 95.0}
    client._compare([figures], [full], result, "generate", AXIS)
    client._compare([full], [figures], result, "generate", AXIS)
    assert not result.rows


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"load_core_%": 20.0, "emulator_core_%": 40.0}, ""),
        ({"load_core_%": 70.0, "emulator_core_%": 40.0}, "the generator uses 70 % of a core"),
        ({"load_core_%": 60.0, "emulator_core_%": 95.0}, "the emulator uses 95 % of a core"),
        ({"load_core_%": 60.0, "hop_core_%": 95.0}, "the hop uses 95 % of a core"),
    ],
)
def test_the_ladder_ends_where_somebody_has_no_more(row: dict[str, float], why: str) -> None:
    assert client._end(row, are_together=False) == why


def test_the_ladder_ends_where_the_core_of_both_ends_is_full() -> None:
    row = {"load_core_%": 45.0, "emulator_core_%": 50.0}
    assert client._end(row, are_together=False) == ""
    why = client._end(row, are_together=True)
    assert why == "emulator and generator use 95 % of their core"


def test_a_limit_for_each_place() -> None:
    result = CaseResult({})
    for where, share in (("direct", 80.0), ("nginx", 40.0)):
        result.rows[f"{where}/{AXIS.name}/python"] = {"tokens_per_s": 800.0, "load_core_%": share}
    client.finish(result)
    assert result.rows["direct/limit"] == {"tokens_per_s": 700.0, "is_reached": 1.0}
    assert result.rows["nginx/limit"] == {"tokens_per_s": 800.0, "is_reached": 0.0}


def test_a_closed_loop_has_cpu_for_a_token_or_for_an_answer() -> None:
    length_us = STREAM_WORK.length_s * 1e6
    # Whichever volleys the window has: each of two clients always has an answer under way.
    for volleys in (7, 8):
        streamed = capacity.row(
            [leg([length_us + 1000.0] * 2 * volleys, 2.0, hop=50_000_000)],
            STREAM_WORK,
            2,
            is_hop=True,
        )
        rate = 2e6 / (length_us + 1000.0)
        assert streamed["answers_per_s"] == pytest.approx(rate)
        assert streamed["tokens_per_s"] == pytest.approx(rate * STREAM_WORK.tokens)
        assert streamed["hop_us"] == pytest.approx(25_000 / rate / STREAM_WORK.tokens)
    assert streamed["answer_p50_ms"] == pytest.approx(1.0)
    whole = capacity.row([leg([2000.0] * 10, hop=50_000_000)], WHOLE_WORK, 16, is_hop=True)
    assert whole["hop_us"] == pytest.approx(5000.0)
    assert "tokens_per_s" not in whole
    assert "hop_us" not in capacity.row([leg([2000.0])], WHOLE_WORK, 16, is_hop=False)


def test_without_h2load_the_closed_loop_is_told_of_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(h2load, "missing", lambda: "no h2load here")
    result = CaseResult({})
    for part in capacity.parts(QUICK):
        assert capacity.seconds(QUICK, part, 10) == 0.0
        capacity.run(cast(Any, None), part, result)
    assert result.notes == ["no h2load here"]
    assert not result.rows
