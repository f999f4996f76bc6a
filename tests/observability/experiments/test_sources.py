"""The same answers out of the accounts and out of the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from relay.observability.experiments import from_log, from_store
from relay.observability.experiments.rows import Notes
from relay.store.engine import engine_for, migrate
from relay.store.feedback_rows import FeedbackRow
from relay.store.feedback_store import FeedbackStore
from tests.fakes.log_lines import attempt, line
from tests.fakes.usage_rows import NOW_US, generation, write


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def decided(**fields: Any) -> str:
    return orjson.dumps({"experiment": "ab", "arm": "new", "unit": "u1", **fields}).decode()


def of_store(engine: Engine, name: str = "ab", since_us: int = 0) -> list[Any]:
    return list(from_store.observed_in(engine, name, since_us, NOW_US + 10**9, Notes()))


def test_out_of_the_accounts(engine: Engine) -> None:
    write(
        engine,
        generation(1, decision=decided(finish="LENGTH"), settled_micro=70),
        generation(2, [{"state": "unpriced"}], decision=decided(unit="")),
        generation(3, decision=decided(experiment="abc")),
        generation(4, decision='{"rule":"x"}'),
        generation(5, decision=None),
        generation(6, decision=decided(), state="open", wall_us=None),
        generation(7, decision=decided(), reason="CONNECT_FAILED", ttft_us=None),
        generation(8, decision=decided(), wall_us=None),
    )
    FeedbackStore(engine).write(FeedbackRow("gen_1", 1, "team_1", "", 0.25, "", ""))
    assert from_store.names_in(engine, 0, NOW_US + 1) == ["ab", "abc"]
    first, second, seventh, eighth = of_store(engine)
    assert (first.arm, first.unit, first.finish, first.score) == ("new", "u1", "LENGTH", 0.25)
    assert (first.ttft_us, first.wall_us, first.cost_micro) == (1000, 2000, 70)
    assert (second.unit, second.cost_micro, second.score) == ("gen_2", None, None)
    assert (seventh.fate, seventh.ttft_us) == ("failed", None)
    assert eighth.reason == "ABANDONED"
    notes = Notes()
    assert len(list(from_store.observed_in(engine, "abc", 0, NOW_US + 1, notes))) == 1
    assert notes.open == 1
    assert of_store(engine, since_us=NOW_US + 1) == []


def test_names_that_mean_something_to_sql_mean_themselves(engine: Engine) -> None:
    write(
        engine,
        generation(1, decision=decided(experiment="a_b")),
        generation(2, decision=decided(experiment="aXb")),
    )
    assert [one.generation_id for one in of_store(engine, "a_b")] == ["gen_1"]


def test_page_by_page(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_store, "PAGE_ROWS", 3)
    write(engine, *(generation(n, decision=decided(), admitted_at_us=NOW_US) for n in range(8)))
    assert len(of_store(engine)) == 8


def logged(*rows: bytes, since_us: int | None = None) -> tuple[dict[str, Any], Notes]:
    notes = Notes()
    return from_log.observed_in(rows, since_us, None, notes), notes


DECISION = {"experiment": "ab", "arm": "new", "unit": "u1"}


def ended(id_: str, **more: Any) -> bytes:
    tried = attempt("a/m", first_us=200_000, ended_us=900_000, cost_micro_usd=12.5)
    given = {"received_s": 1.0, "id": id_, "decision": DECISION, "finish": "STOP", **more}
    return line([tried], **given)


def test_out_of_the_log() -> None:
    timeline = {"receive": 100, "first_content": 200_000, "stream": 1}
    word = {"event": "feedback", "id": "gen_1", "score": 0.5, "label": None}
    found, notes = logged(
        ended("gen_1", timeline_us=timeline),
        b"no line of ours",
        line([], received_s=1.0, decision={"rule": "x"}),
        line([], received_s=1.0),
        orjson.dumps(word),
        orjson.dumps({**word, "id": "gen_of_another_day"}),
        ended(
            "gen_2",
            reason="CONNECT_FAILED",
            finish=None,
            share=0.1,
            decision={**DECISION, "unit": ""},
        ),
    )
    first, second = found["ab"]
    assert (first.arm, first.unit, first.finish, first.score) == ("new", "u1", "STOP", 0.5)
    assert (first.ttft_us, first.cost_micro, first.weight) == (200_000, 12.5, 1.0)
    assert (second.unit, second.fate, second.ttft_us) == ("gen_2", "failed", None)
    assert second.weight == pytest.approx(10.0)
    assert (notes.unreadable, notes.sampled) == (0, 1)


def test_lines_that_are_broken_are_counted() -> None:
    good = ended("gen_1")
    found, notes = logged(
        good[:-5],
        good.replace(b'"wall_us":9', b'"wall_us":"x'),
        ended("gen_3", share=7),
        b'{"event": "feedback"}',
        b'["generation", "experiment"]',
        good,
    )
    assert len(found["ab"]) == 1
    assert notes.unreadable == 5


def test_of_the_log_what_is_in_the_range() -> None:
    found, _ = logged(ended("gen_1", received_s=1.0), ended("gen_2", received_s=50.0))
    first, second = found["ab"]
    found, _ = logged(
        ended("gen_1", received_s=1.0),
        ended("gen_2", received_s=50.0),
        since_us=second.at_us,
    )
    assert [one.generation_id for one in found["ab"]] == ["gen_2"]
    assert second.at_us - first.at_us == 49_000_000
