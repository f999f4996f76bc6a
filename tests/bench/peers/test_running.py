"""A run is done part by part, told of beforehand, kept when interrupted, and taken up again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.peers import __main__ as command
from bench.peers import kept, running
from bench.peers.cases.all import CASES
from bench.peers.pinning import Cores
from bench.peers.rig import FULL, QUICK, Options
from bench.processes import BenchError
from bench.result import CaseResult
from bench.stats import Histogram


class _Case:
    """Two parts, each a row and a histogram; interrupted where it is told to be."""

    def __init__(self, interrupted_at: str = "") -> None:
        self.interrupted_at = interrupted_at
        self.ran: list[str] = []

    def parts(self, options: Options) -> Sequence[str]:
        return ["one", "two"]

    def seconds(self, options: Options, part: str, arms: int) -> float:
        return 10.0 * arms

    def axes(self, rig: Any) -> dict[str, Any]:
        return {"seen": []}

    def run(self, rig: Any, part: str, result: CaseResult) -> None:
        if part == self.interrupted_at:
            result.rows["half"] = {"x": 1.0}
            raise KeyboardInterrupt
        self.ran.append(part)
        result.axes["seen"] = [*result.axes["seen"], part]
        result.rows[part] = {"x": float("nan"), "y": 2.0}
        result.histograms[part] = Histogram()
        result.histograms[part].add(5.0)

    def finish(self, result: CaseResult) -> None:
        result.ratios["rows"] = float(len(result.rows))


class _Rig:
    closed = 0

    def __init__(self, options: Options, say: Any) -> None:
        self.arms = {"direct": SimpleNamespace(to_dict=lambda: {"title": "direct"})}
        self.skipped: dict[str, str] = {}
        self.cores = Cores()

    def __enter__(self) -> _Rig:
        return self

    def __exit__(self, *of: object) -> None:
        _Rig.closed += 1


def measure(cases: dict[str, Any], result: dict[str, Any], path: Path) -> None:
    running.measure(cases, result, path, lambda _: None, _Rig)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "run.json"


def test_all_parts_are_done_and_kept(path: Path) -> None:
    result = running.begun(["some"], QUICK)
    measure({"some": _Case()}, result, path)
    stored = json.loads(path.read_text())
    assert stored == json.loads(json.dumps(result))
    case = stored["cases"]["some"]
    assert case["parts"] == ["one", "two"]
    assert case["is_whole"]
    assert case["ratios"] == {"rows": 2.0}
    assert kept.unfinished(stored) == []
    assert stored["planned_s"] == {"some": 20}
    assert stored["pinning"] == "not pinned"
    assert not list(path.parent.glob("*.new"))


def test_what_was_done_before_an_interruption_is_kept_and_not_done_again(path: Path) -> None:
    closed = _Rig.closed
    first, broken = _Case(), _Case("two")
    result = running.begun(["first", "broken", "last"], QUICK)
    with pytest.raises(KeyboardInterrupt):
        measure({"first": first, "broken": broken, "last": _Case()}, result, path)
    assert _Rig.closed == closed + 1
    stored = json.loads(path.read_text())
    assert kept.unfinished(stored) == ["broken", "last"]
    assert list(stored["cases"]["broken"]["rows"]) == ["one"]
    assert not stored["cases"]["broken"]["is_whole"]
    assert stored["cases"]["broken"]["ratios"] == {}

    again, last = _Case(), _Case()
    measure({"first": first, "broken": again, "last": last}, stored, path)
    assert first.ran == ["one", "two"]
    assert again.ran == ["two"]
    assert last.ran == ["one", "two"]
    stored = json.loads(path.read_text())
    assert kept.unfinished(stored) == []
    case = stored["cases"]["broken"]
    assert case["axes"]["seen"] == ["one", "two"]
    assert case["rows"] == {"one": {"x": None, "y": 2.0}, "two": {"x": None, "y": 2.0}}
    assert case["histograms"]["one"] == case["histograms"]["two"]
    assert case["ratios"] == {"rows": 2.0}
    assert len(stored["sittings"]) == 2


def test_other_arms_are_another_run(path: Path) -> None:
    result = running.begun(["some"], QUICK)
    with pytest.raises(KeyboardInterrupt):
        measure({"some": _Case("two")}, result, path)
    result["arms"]["nginx"] = {"title": "nginx"}
    with pytest.raises(BenchError, match=r"began with the arms \['direct', 'nginx'\]"):
        measure({"some": _Case()}, result, path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, "commit", "0123"),
        (None, "dirty", "maybe"),
        ("machine", "usable_cores", 99),
        ("machine", "is_realtime", "maybe"),
    ],
)
def test_a_run_goes_on_where_it_began(part: str | None, name: str, value: object) -> None:
    here = running.begun([], QUICK)
    running.check_same(here, running.begun([], QUICK))
    before = json.loads(json.dumps(here))
    (before if part is None else before[part])[name] = value
    with pytest.raises(BenchError, match=f"it began with {name} {value}"):
        running.check_same(before, here)


def test_options_come_back_from_a_file() -> None:
    for options in (FULL, QUICK._replace(is_pinned=False)):
        stored = json.loads(json.dumps(running.begun([], options)))
        assert running.options_of(stored) == options


def test_the_plan_of_the_whole_form() -> None:
    seconds = running.planned_s(CASES, FULL)
    assert set(seconds) == set(CASES)
    assert all(each >= 0 for each in seconds.values())
    # Three pauses of 120 s and two of 600 s, each of all gateways at once.
    assert 1560 < seconds["idle"] < 1560 + 240
    assert sum(seconds.values()) < 2 * 3600
    assert sum(running.planned_s(CASES, QUICK).values()) < 900
    assert "idle 28 min" in running.plan_text(seconds)


def test_more_arms_take_longer() -> None:
    few, many = running.planned_s(CASES, FULL, 3), running.planned_s(CASES, FULL, 12)
    assert many["load"] == pytest.approx(4 * few["load"])
    # But not the pauses.
    assert many["idle"] < 1.1 * few["idle"]


def test_parts_have_names_of_their_own() -> None:
    for options in (FULL, QUICK):
        for case in CASES.values():
            parts = list(case.parts(options))
            assert parts
            assert len(set(parts)) == len(parts)


def test_the_plan_alone_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--plan", "idle", "--idle", "600"]) == 0
    assert "takes about 2" in capsys.readouterr().err


def test_resuming_takes_no_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--quick"], ["load"], ["--pin"], ["--peers", "nginx"]):
        with pytest.raises(SystemExit):
            command.main(["run", *more, "--resume", "some.json"])
        assert "--resume goes on as the run began" in capsys.readouterr().err


def test_resuming_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--resume", str(tmp_path / "none.json")]) == 1
    assert "--resume" in capsys.readouterr().err
