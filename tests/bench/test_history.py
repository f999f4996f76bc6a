"""What CI judges and remembers of a stored run: bounds, ratios of rounds, the table by commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench import baseline
from bench.short import history, pieces, streams
from bench.short.judge import BOUNDS, over
from bench.short.priority import SWITCH, real_time

PATHS = ("direct", "nginx", *streams.PATHS)


def round_of(waited_us: float = 10.0, **hop_us: float) -> streams.Round:
    """One round, 100 us and 1, 2, 3 ms everywhere if not told."""
    return {
        path: streams.Figures(hop_us.get(path, 100.0), 1000.0, 2000.0, 3000.0, waited_us)
        for path in PATHS
    }


def document(ratios: dict[str, float], commit: str = "a" * 40, minute: int = 0) -> dict[str, Any]:
    """As pytest-benchmark writes it, without what nobody reads."""
    return {
        "datetime": f"2026-11-27T09:{minute:02}:12.345678+00:00",
        "commit_info": {"id": commit, "dirty": False},
        "machine_info": {"node": "secret", "python_version": "3.11.7", "cpu": {"count": 2}},
        "benchmarks": [
            {"extra_info": {"ratios": ratios, "beside": {"load_1m": 1.5}}},
            {"extra_info": {}},
        ],
    }


def test_a_ratio_is_of_one_round_and_the_median_of_all() -> None:
    # A machine that is twice as slow for a while is so for both.
    rounds = [
        round_of(sse=150.0, direct=100.0),
        round_of(sse=300.0, direct=200.0, nginx=50.0),
        round_of(sse=900.0, direct=100.0),
    ]
    found = streams.ratios(rounds)
    assert found["cpu_over_direct_ends/sse"] == 1.5
    assert found["cpu_over_nginx/sse"] == 6.0
    assert found["ttft_p50_over_direct/generate"] == 1.0


def test_a_p99_is_the_best_of_both() -> None:
    rounds = [round_of(), round_of(), round_of()]
    rounds[0]["sse"] = rounds[0]["sse"]._replace(token_p99_us=90_000.0)
    rounds[1]["direct"] = rounds[1]["direct"]._replace(token_p99_us=1500.0)
    assert streams.ratios(rounds)["token_p99_over_direct/sse"] == 2.0


def test_latencies_of_rounds_behind_others_do_not_count() -> None:
    disturbed = round_of(waited_us=streams.QUIET_WAIT_US + 1)
    assert not streams.is_quiet(disturbed)
    found = streams.ratios([disturbed, round_of()])
    assert set(found) == {
        f"{kind}/{path}"
        for kind in ("cpu_over_nginx", "cpu_over_direct_ends")
        for path in PATHS[2:]
    }
    disturbed["sse"] = disturbed["sse"]._replace(ttft_us=9000.0)
    quiet = streams.ratios([disturbed, round_of(), round_of()])
    assert quiet["ttft_p50_over_direct/sse"] == 1.0


def test_a_path_is_compared_with_the_rounds_that_it_was_in() -> None:
    again = round_of(sse=100.0, direct=50.0)
    del again["generate"]
    found = streams.ratios([round_of(), again, dict(again)])
    assert found["cpu_over_direct_ends/generate"] == 1.0
    assert found["cpu_over_direct_ends/sse"] == 2.0


def test_without_nginx_what_is_over_it_is_missing() -> None:
    one = round_of()
    del one["nginx"]
    assert "cpu_over_nginx/sse" not in streams.ratios([one])
    assert "cpu_over_direct_ends/sse" in streams.ratios([one])


def test_bounds_are_by_kind_and_name_what_is_over() -> None:
    limits = {"micro/path_event": 4.0, "token_p99_over_direct/sse": 3.0}
    just = {name: BOUNDS[name.partition("/")[0]] * value for name, value in limits.items()}
    assert over(just, limits) == []
    (found,) = over({**just, "micro/path_event": 5.2}, limits)
    assert str(found) == (
        "micro/path_event is 5.20: 1.30 times the baseline 4.00, at most 1.15 times"
    )
    assert over({**just, "micro/path_event": 5.2}, limits, slack=1.25) == []
    with pytest.raises(KeyError):
        over({"micro/new": 1.0}, limits)


def test_the_baseline_has_what_is_judged_and_nothing_else() -> None:
    measured = set(streams.ratios([round_of(), round_of()]))
    measured |= {f"micro/{name}" for name in (*pieces.NAMES, "path_request", "path_event")}
    assert set(baseline.ratios()) == measured


def test_an_entry_is_what_is_worth_keeping() -> None:
    assert history.entry(document({"micro/path_event": 3.81234})) == {
        "commit": "a" * 40,
        "dirty": False,
        "measured_at": "2026-11-27T09:00:12Z",
        "python": "3.11.7",
        "cores": 2,
        "load_1m": 1.5,
        "ratios": {"micro/path_event": 3.812},
    }
    with pytest.raises(history.NoRunError, match="no ratio"):
        history.entry(document({}))


def test_the_table_has_a_column_a_run(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert history.load(file) == []
    for commit, value in (("a", 4.0), ("b", 3.0), ("b", 3.1)):
        history.append(history.entry(document({"micro/path_event": value}, commit * 40)), file)
    now = history.entry(document({"micro/path_event": 2.0, "micro/new": 1.0}, "c" * 40))
    head, new, event = history.show(history.load(file), {"micro/path_event": 4.0}, now).splitlines()
    labels = ["aaaaaaa", "bbbbbbb", "bbbbbbb'", "now", "ccccccc"]
    assert [word for word in head.split() if word != "11-27"] == ["baseline", "most", *labels]
    assert event.split() == ["micro/path_event", "4", "4.6", "4", "3", "3.1", "2"]
    assert new.split() == ["micro/new", "1"]


def test_the_baseline_is_the_median_of_runs(tmp_path: Path) -> None:
    runs = [
        history.entry(document({"micro/path_event": value}, minute=minute))
        for minute, value in enumerate((3.0, 9.0, 4.0))
    ]
    stored = baseline.load(baseline.store(runs, tmp_path / "baseline.json"))
    assert stored["ratios"] == {"micro/path_event": 4.0}
    assert stored["runs"] == 3
    assert stored["measured_at"] == "2026-11-27T09:02:12Z"


def test_the_command_appends_the_newest_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, limits = tmp_path / "history.jsonl", {"micro/path_event": 4.0}
    monkeypatch.setattr(history, "HISTORY", file)
    monkeypatch.setattr(baseline, "ratios", lambda: limits)
    run = tmp_path / "run.json"
    run.write_text(json.dumps(document({"micro/path_event": 3.5})))
    assert command.main(["history", "--run", str(run)]) == 0
    assert "now 11-27 aaaaaaa" in capsys.readouterr().out
    assert not file.exists()
    for _ in range(2):
        assert command.main(["history", "--run", str(run), "--append"]) == 0
    assert len(file.read_text().splitlines()) == 1
    assert "now" not in capsys.readouterr().out.splitlines()[-2]
    run.write_text(json.dumps(document({"micro/path_event": 5.5}, minute=1)))
    assert command.main(["spread", str(run)]) == 0
    assert "1 runs, 1 of them" in capsys.readouterr().out


def test_the_runs_of_the_newest_commit_are_taken_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "STORED", tmp_path)
    monkeypatch.setattr(baseline, "ratios", lambda: {"micro/path_event": 4.0})
    assert command.main(["spread"]) == 1
    assert "make bench-short" in capsys.readouterr().err
    (tmp_path / "machine").mkdir()
    for number, (commit, value) in enumerate((("a", 9.0), ("b", 3.0), ("b", 3.2))):
        run = tmp_path / "machine" / f"000{number}_x.json"
        run.write_text(json.dumps(document({"micro/path_event": value}, commit * 40)))
        os.utime(run, (number, number))
    assert command.main(["spread"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].split() == ["micro/path_event", "2", "3", "3.1", "3.2", "1.032"]
    assert "2 runs, 0 of them" in shown


def test_priority_can_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "normal")
    with real_time() as is_real_time:
        assert not is_real_time


def test_where_priority_is_refused_the_bench_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(os, "sched_setscheduler", refused)
    with real_time() as is_real_time:
        assert not is_real_time


def test_priority_is_of_what_is_started_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    before = os.sched_getscheduler(0)
    with real_time() as is_real_time:
        if not is_real_time:
            pytest.skip("real-time priority is refused here")
        told = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getscheduler(0) == os.SCHED_RR)"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert told.stdout.strip() == "True"
    assert os.sched_getscheduler(0) == before
