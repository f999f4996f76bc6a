"""What was learnt, through a real file and back: whose row, how old, and what is no row at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.config import parse
from relay.resilience.latency import KEEP_S
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from relay.store import learned
from relay.store.learned import MAX_ROWS, StoreError, load, save, sqlite_path
from relay.target_state import Kept, TargetState, TargetStates

SAVED_S = 1_790_000_000.0
ROW = {"wire": "openai_chat", "base_url": "https://x.test", "auth": "none"}


def target(model: str) -> Target:
    return Catalog(parse({"providers": {"a": ROW}})).resolve(f"a/{model}").candidates[0]


def learnt(model: str = "m", ttft_s: float = 0.3, samples: int = 600) -> TargetStates:
    """A worker that has asked one target, up to second 60 of its clock."""
    states = TargetStates()
    state = states.of(target(model), 0.0)
    for at in range(samples):
        state.latency.record(ttft_s, 0, 0, at * 60.0 / samples)
    for _ in range(200):
        state.calibrate(100, 150)
    return states


def begun(
    file: Path, worker: int = 0, *, wall_s: float = SAVED_S, now_s: float = 0.0
) -> TargetStates:
    """A worker that starts now, as its upkeep does it."""
    states = TargetStates()
    kept = {
        name: [Kept(row.state, wall_s - row.saved_at_s, row.is_own) for row in rows]
        for name, rows in load(file, worker).items()
    }
    states.keep(kept, now_s)
    return states


def spoil(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(statement, values).rowcount == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relay.db", Path("relay.db")),
        ("sqlite:////var/lib/relay.db", Path("/var/lib/relay.db")),
        ("sqlite:///", None),
        ("sqlite://", None),
        ("postgresql://host/relay", None),
    ],
)
def test_the_file_of_an_address(url: str, path: Path | None) -> None:
    assert sqlite_path(url) == path


def test_there_is_nothing_before_the_first_save(file: Path) -> None:
    assert load(file, 0) == {}
    assert not file.exists()


def test_what_is_saved_is_loaded(file: Path) -> None:
    state = {"some": [1, 2.5, "x"], "more": {"a": None}}
    save(file, 0, {"a/m": state, "b/m": {}}, SAVED_S)
    assert load(file, 0) == {"a/m": [(SAVED_S, state, True)], "b/m": [(SAVED_S, {}, True)]}
    save(file, 0, {"a/m": {"new": 1}}, SAVED_S + 60)
    assert load(file, 0)["a/m"] == [(SAVED_S + 60, {"new": 1}, True)]
    assert load(file, 0)["b/m"] == [(SAVED_S, {}, True)]


def test_a_workers_own_row_comes_first_and_then_the_newest(file: Path) -> None:
    for worker in (2, 0, 1):
        save(file, worker, {"a/m": {"of": worker}}, SAVED_S + worker)

    def loaded(worker: int) -> list[tuple[int, bool]]:
        return [(row.state["of"], row.is_own) for row in load(file, worker)["a/m"]]

    assert loaded(0) == [(0, True), (2, False), (1, False)]
    assert loaded(7) == [(2, False), (1, False), (0, False)]


def test_of_many_workers_the_newest_are_taken(file: Path) -> None:
    for worker in range(2 * MAX_ROWS):
        save(file, worker, {"a/m": {"of": worker}}, SAVED_S + worker)
    rows = load(file, 0)["a/m"]
    assert [row.state["of"] for row in rows] == [0, *range(2 * MAX_ROWS - 1, MAX_ROWS, -1)]


def test_what_is_no_file_of_ours_is_told(file: Path) -> None:
    file.write_bytes(b"no database, and long enough to be read as one" * 100)
    with pytest.raises(StoreError, match=r"relay\.db"):
        load(file, 0)
    with pytest.raises(StoreError, match=r"relay\.db"):
        save(file, 0, {"a/m": {}}, SAVED_S)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        save(tmp_path / "none" / "relay.db", 0, {"a/m": {}}, SAVED_S)


def test_a_save_that_fails_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(file, 0, {"a/m": {"old": 1}}, SAVED_S)
    monkeypatch.setattr(learned, "_BUSY_S", 0.0)
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            save(file, 0, {"a/m": {"new": 1}}, SAVED_S)
    assert load(file, 0)["a/m"][0].state == {"old": 1}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"x"', "[" * 100_000, b"\xff"])
def test_a_row_that_is_no_state_is_left_out(file: Path, text: str | bytes) -> None:
    save(file, 0, {"a/m": {"x": 1}, "b/m": {"y": 1}}, SAVED_S)
    spoil(file, "UPDATE learned SET state = ? WHERE target = 'a/m'", text)
    assert list(load(file, 0)) == ["b/m"]


def test_a_row_of_no_name_is_left_out(file: Path) -> None:
    save(file, 0, {"a/m": {"x": 1}, "b/m": {"y": 1}}, SAVED_S)
    spoil(file, "UPDATE learned SET target = ? WHERE target = 'a/m'", b"a/m")
    assert list(load(file, 0)) == ["b/m"]


@pytest.mark.parametrize("moment", ["yesterday", b"\x00", float("inf")])
def test_a_row_of_no_time_is_left_out(file: Path, moment: object) -> None:
    save(file, 0, {"a/m": {"x": 1}, "b/m": {"y": 1}}, SAVED_S)
    spoil(file, "UPDATE learned SET saved_at = ? WHERE target = 'a/m'", moment)
    assert list(load(file, 0)) == ["b/m"]


# --- from one run to the next -------------------------------------------------------------------


def ages_s(state: TargetState, now_s: float) -> list[float]:
    return [part["age_s"] for part in state.to_dict(now_s)["latency"]["parts"]]


def test_what_was_learnt_comes_back(file: Path) -> None:
    states = learnt()
    before = states.of(target("m"), 60.0)
    save(file, 0, states.to_dict(60.0), SAVED_S)
    after = begun(file, wall_s=SAVED_S + 30.0, now_s=5000.0).of(target("m"), 5010.0)
    assert after.latency.counts() == before.latency.counts()
    assert after.is_learned
    assert after.p50_s == pytest.approx(0.3, rel=0.03)
    assert after.survival is not None
    assert after.prompt_tokens(1000) == before.prompt_tokens(1000) == 1500
    assert ages_s(after, 5010.0) == pytest.approx([age_s + 40.0 for age_s in ages_s(before, 60.0)])


def test_each_row_is_as_old_as_it_is(file: Path) -> None:
    """One target was asked until now, the other last before `KEEP_S`."""
    save(file, 0, learnt("old").to_dict(60.0), SAVED_S - KEEP_S)
    save(file, 0, learnt("new").to_dict(60.0), SAVED_S)
    states = begun(file, wall_s=SAVED_S + 1.0)
    assert states.of(target("new"), 0.0).latency.samples == 600
    assert states.of(target("old"), 0.0).latency.samples == 0
    assert states.of(target("old"), 0.0).prompt_tokens(1000) == 1500, "that has no age"


def test_what_is_not_taken_up_keeps_its_age_over_restarts(file: Path) -> None:
    save(file, 0, learnt("old").to_dict(60.0), SAVED_S)
    for run in range(1, 4):  # of two hours each, in which nobody asks for it
        wall_s = SAVED_S + run * 7200.0
        states = begun(file, wall_s=wall_s - 7200.0)
        states.of(target("new"), 0.0)
        save(file, 0, states.to_dict(7200.0), wall_s)
    assert load(file, 0)["a/old"][0].saved_at_s == SAVED_S
    assert begun(file, wall_s=wall_s).of(target("old"), 0.0).latency.samples == 0


def test_a_clock_that_went_back_makes_what_is_kept_new(file: Path) -> None:
    save(file, 0, learnt().to_dict(60.0), SAVED_S)
    state = begun(file, wall_s=SAVED_S - 86_400.0, now_s=100.0).of(target("m"), 110.0)
    assert state.latency.samples == 600
    assert ages_s(state, 110.0)[0] == pytest.approx(70.0)
    state.latency.expire(110.0 + KEEP_S)
    assert state.latency.samples == 0


def other_buckets(state: dict[str, Any]) -> None:
    state["latency"]["buckets"] += 1


def infinite_count(state: dict[str, Any]) -> None:
    state["latency"]["parts"][0]["finished"] = {"7": float("inf")}


def no_age(state: dict[str, Any]) -> None:
    state["latency"]["parts"][0]["age_s"] = float("nan")


def endless_count(state: dict[str, Any]) -> None:
    state["latency"]["parts"][0]["finished"] = {"7": 10**400}


def sums_of(*sums: float) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["latency"]["sums"] = list(sums)

    return change


@pytest.mark.parametrize(
    "change",
    [
        other_buckets,
        endless_count,
        sums_of(9.0, 1.0, -1.0, 1.0, 1.0),
        sums_of(9.0, 1e300, 1.0, 1e300, 1.0),
        infinite_count,
        no_age,
        lambda state: state.update(latency=[]),
        lambda state: state.update(latency="x"),
        lambda state: state.update(tokens_ratio=float("nan")),
        lambda state: state.update(tokens_ratio="1"),
        lambda state: state.update(tokens_ratio=0),
        lambda state: state.clear(),
    ],
)
def test_a_row_of_another_version_is_begun_anew(file: Path, change: Any) -> None:
    save(file, 0, learnt("m").to_dict(60.0), SAVED_S)
    save(file, 0, learnt("well").to_dict(60.0), SAVED_S)
    state: Mapping[str, Any] = load(file, 0)["a/m"][0].state
    change(state)
    spoil(file, "UPDATE learned SET state = ? WHERE target = 'a/m'", json.dumps(state))
    states = begun(file)
    assert states.of(target("m"), 0.0).latency.samples == 0
    assert states.of(target("m"), 0.0).prompt_tokens(1000) == 1000
    assert states.of(target("well"), 0.0).latency.samples == 600


# --- of all workers -----------------------------------------------------------------------------


def test_a_row_of_no_time_at_all_spoils_no_request(file: Path) -> None:
    """Sums that could be, of samples that took none."""
    save(file, 0, learnt().to_dict(60.0), SAVED_S)
    state: Any = load(file, 0)["a/m"][0].state
    sums_of(9.0, 1.0, 0.0, 1.0, 0.0)(state)
    save(file, 0, {"a/m": state}, SAVED_S)
    assert begun(file).of(target("m"), 0.0).usual_s is not None


def test_one_that_starts_knows_what_all_have_learnt(file: Path) -> None:
    """Two of three workers are no more, the fourth is new."""
    for worker, ttft_s in enumerate((0.2, 0.4, 0.8)):
        save(file, worker, learnt(ttft_s=ttft_s, samples=120).to_dict(60.0), SAVED_S)
    for worker in (0, 3):
        state = begun(file, worker).of(target("m"), 0.0)
        assert state.latency.samples == 360
        assert state.p50_s == pytest.approx(0.4, rel=0.1)
        assert state.prompt_tokens(1000) == 1500


def test_a_bad_row_of_another_worker_spoils_no_other(file: Path) -> None:
    for worker in range(3):
        save(file, worker, learnt(samples=120).to_dict(60.0), SAVED_S)
    for worker in range(2):
        text = json.dumps({"latency": {}, "tokens_ratio": 3.0})
        spoil(file, "UPDATE learned SET state = ? WHERE worker = ?", text, worker)
    state = begun(file).of(target("m"), 0.0)
    assert state.latency.samples == 120
    assert state.prompt_tokens(1000) == 1500


def test_a_sample_is_counted_once_however_often_workers_start_anew(file: Path) -> None:
    for worker in range(3):
        save(file, worker, learnt(samples=20).to_dict(60.0), SAVED_S)
    for _ in range(4):
        for worker in range(4):
            states = begun(file, worker)
            state = states.of(target("m"), 0.0)
            assert state.latency.samples == 60
            assert not state.is_learned
            save(file, worker, states.to_dict(0.0), SAVED_S)
