"""Old accounts go, what budgets were charged stays; a person is forgotten, the money is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, insert, select

from relay.store import schema
from relay.store.counters import sums
from relay.store.engine import _upgrade, engine_for, migrate, reading, writing
from relay.store.feedback_rows import FeedbackRow
from relay.store.feedback_store import FeedbackStore
from relay.store.rebuild import drifts, repair
from relay.store.retention import DAY_US, Retention, counted_before, forget, purge
from relay.store.usage_fields import Selection, UsageError
from tests.fakes.properties import examples
from tests.fakes.usage_rows import NOW_US, generation, write
from tests.store.schema_match import assert_is_schema

_TABLES = (schema.generations, schema.attempts, schema.budget_periods, schema.deleted_sums)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


def nothing(_: float) -> None:
    """Waits for nobody."""


def count(engine: Engine, table: Any = schema.generations) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def old(number: int, days: int, **values: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return generation(number, admitted_at_us=NOW_US - days * DAY_US, **values)


def test_old_ones_go_with_their_attempts(engine: Engine) -> None:
    write(engine, *(old(n, days=n) for n in range(10)))
    with reading(engine) as connection:
        assert counted_before(connection, NOW_US - 5 * DAY_US) == 4
    assert Retention(engine, 5, nothing).step(NOW_US) == 4
    assert (count(engine), count(engine, schema.attempts)) == (6, 6)
    assert Retention(engine, 5, nothing).step(NOW_US) == 0


def test_what_was_said_of_them_goes_with_them(engine: Engine) -> None:
    write(engine, old(1, days=9), old(2, days=1))
    said = FeedbackStore(engine)
    for number in (1, 2):
        said.write(FeedbackRow(f"gen_{number}", NOW_US, "team_1", "", 1.0, "", "thanks"))
    assert Retention(engine, 5, nothing).step(NOW_US) == 1
    with reading(engine) as connection:
        assert connection.scalars(select(schema.feedback.c.generation_id)).all() == ["gen_2"]


def test_what_is_open_stays(engine: Engine) -> None:
    write(engine, old(1, days=50, state="open"), old(2, days=50))
    assert purge(engine, NOW_US, pause=nothing) == 1
    with reading(engine) as connection:
        assert connection.scalars(select(schema.generations.c.id)).all() == ["gen_1"]


def test_in_small_batches_between_which_others_write(engine: Engine) -> None:
    write(engine, *(old(n, days=9) for n in range(25)))
    between: list[int] = []

    def pause(_: float) -> None:
        write(engine, generation(f"new_{len(between)}"))  # would wait for a lock that is held
        between.append(count(engine))

    assert purge(engine, NOW_US - DAY_US, batch_rows=10, pause=pause) == 25
    assert between == [16, 7]


_GENERATION = st.tuples(
    st.integers(0, 4),  # days ago
    st.sampled_from(["settled", "estimated", "void", "open"]),
    st.integers(0, 200),
    st.integers(0, 300),
    st.lists(st.sampled_from([("k", 0), ("t", 86_400), ("o", 172_800)]), unique=True),
)


@examples(15)
@given(
    rows=st.lists(_GENERATION, max_size=15),
    cuts=st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_rebuilt_is_stored_after_any_deletions(
    engine: Engine, rows: list[Any], cuts: list[int]
) -> None:
    made = [
        old(
            n, days, state=state, reserved_micro=reserved,
            holds=[list(one) for one in holds],
            settled_micro=0 if state == "void" else spent,
        )
        for n, (days, state, reserved, spent, holds) in enumerate(rows)
    ]  # fmt: skip
    with writing(engine) as connection:
        for table in _TABLES:
            connection.execute(delete(table))
    if made:
        write(engine, *made)
    with writing(engine) as connection:
        repair(connection)
        before = sums(connection)
    for days in cuts:
        purge(engine, NOW_US - days * DAY_US, batch_rows=4, pause=nothing)
        with reading(engine) as connection:
            assert drifts(connection) == []
            after = sums(connection)
        assert {k: v for k, v in after.items() if any(v)} == {
            k: v for k, v in before.items() if any(v)
        }


def test_a_counter_is_mended_with_what_was_deleted(engine: Engine) -> None:
    write(engine, old(1, 9, holds=[["k", 0]], reserved_micro=50), old(2, 0, holds=[["k", 0]]))
    purge(engine, NOW_US - DAY_US, pause=nothing)
    with writing(engine) as connection:
        connection.execute(insert(schema.budget_periods).values(budget_id="k", period_start_s=0))
        told = {one.counter: one.sum_micro for one in repair(connection)}
    assert told == {"settled": 140, "overrun": 90}


def test_two_at_once_count_nothing_twice(engine: Engine) -> None:
    write(engine, *(old(n, 9, holds=[["k", 0]]) for n in range(60)))
    done: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: done.append(purge(engine, NOW_US, batch_rows=7, pause=nothing))
        )
        for _ in range(2)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    purge(engine, NOW_US, pause=nothing)
    with reading(engine) as connection:
        kept = connection.execute(select(schema.deleted_sums)).one()
    assert (kept.settled_micro, kept.generations, count(engine)) == (60 * 70, 60, 0)


def test_days_are_at_least_one(engine: Engine) -> None:
    with pytest.raises(ValueError, match="days"):
        Retention(engine, 0)


# --- a person's request ---------------------------------------------------------------------


def said(engine: Engine) -> dict[str, tuple[str, str, str, str]]:
    of = schema.generations.c
    query = select(of.id, of.labels, of.session_id, of.turn_id, of.trace_id)
    with reading(engine) as connection:
        return {row[0]: tuple(row[1:]) for row in connection.execute(query)}


BLANK = ("{}", "", "", "")


def test_forget_by_label_session_and_key(engine: Engine) -> None:
    who: dict[str, Any] = {"turn_id": "t", "trace_id": "f" * 32}
    write(
        engine,
        generation(1, labels={"user": "u1"}, session_id="s1", **who),
        generation(2, labels={"user": "u2"}, session_id="s2", state="open", **who),
        generation(3, key_id="k3", **who),
        generation(4, labels={"user": "u4"}, **who),
        generation(5, labels={"user": "u1"}, team_id="team_2", **who),
    )
    mine = Selection(where={"label:user": ("u1",)}).within(team="team_1")
    assert forget(engine, mine, pause=nothing) == 1
    assert forget(engine, Selection(where={"session": ("s2",)}), pause=nothing) == 1
    assert forget(engine, Selection(where={"key": ("k3",)}), pause=nothing) == 1
    found = said(engine)
    assert [id_ for id_, words in found.items() if words == BLANK] == ["gen_1", "gen_2", "gen_3"]
    assert "u1" in found["gen_5"][0]
    with reading(engine) as connection:
        assert connection.scalar(select(func.sum(schema.attempts.c.cost_micro))) == 4 * 70
    assert forget(engine, Selection(where={"key": ("k3",)}), pause=nothing) == 0


def test_forgotten_are_comments_and_whose_arm_it_was(engine: Engine) -> None:
    decision = '{"experiment":"ab","arm":"new","unit":"00f1"}'
    write(
        engine,
        generation(1, decision=decision),
        generation(2, decision='{"rule":"unit"}'),
        generation(3, key_id="k3", decision=decision),
        generation(4, decision=None),
    )
    opinions = FeedbackStore(engine)
    for number in (3, 4):
        opinions.write(FeedbackRow(f"gen_{number}", 1, "team_1", "k", 0.5, "so-so", "I am Anna"))
    mine = Selection(where={"key": ("key_1",)})
    assert forget(engine, mine, pause=nothing) == 2
    assert forget(engine, mine, pause=nothing) == 0
    with reading(engine) as connection:
        of = schema.generations.c
        decisions = {row[0]: row[1] for row in connection.execute(select(of.id, of.decision))}
        words = schema.feedback.c
        comments = {
            row[0]: row[1] for row in connection.execute(select(words.generation_id, words.comment))
        }
        scores = connection.scalars(select(words.score)).all()
    assert decisions == {
        "gen_1": '{"experiment":"ab","arm":"new"}',
        "gen_2": '{"rule":"unit"}',
        "gen_3": decision,
        "gen_4": None,
    }
    assert comments == {"gen_3": "I am Anna", "gen_4": ""}
    assert scores == [0.5, 0.5]


def test_forget_in_batches(engine: Engine) -> None:
    write(engine, *(generation(n, session_id="s") for n in range(25)))
    assert forget(engine, Selection(where={"session": ("s",)}), batch_rows=10, pause=nothing) == 25
    assert set(said(engine).values()) == {BLANK}


@pytest.mark.parametrize(
    "where",
    [{}, {"team": ("t",)}, {"session": ("",)}, {"model": ("m",)}, {"tag": ("a",), "key": ("k",)}],
)
def test_nobody_forgets_everybody(where: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError):
        forget(engine_for("sqlite:///never.db"), Selection(where=where))


def test_what_was_forgotten_is_not_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relay.db"
    engine = engine_for(f"sqlite:///{file}", pool_size=1)
    migrate(engine)
    write(engine, *(generation(n, labels={"user": f"canary-{n}"}) for n in range(50)))
    selection = Selection(where={"label:user": tuple(f"canary-{n}" for n in range(50))})
    assert forget(engine, selection, pause=nothing) == 50
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    assert b"canary-" not in file.read_bytes()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_tables_of_before_are_brought_up_with_what_is_in_them(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if database == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("empty_postgres_url")
    engine = engine_for(url, pool_size=1)
    with writing(engine) as connection:
        _upgrade(connection, "1_0001")
    write(engine, old(1, 9, holds=[["k", 0]]))
    assert migrate(engine)
    assert_is_schema(engine)
    assert purge(engine, NOW_US, pause=nothing) == 1
    engine.dispose()
