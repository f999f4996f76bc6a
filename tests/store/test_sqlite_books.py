"""Operations on the accounts one by one, in the thread of the test: rows, counters, batches."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.store import sqlite_books
from relay.store import sqlite_statements as sql
from relay.store.base import BudgetSpent, StoreUnavailable
from relay.store.engine import make_ready
from relay.store.sqlite_books import Books
from relay.store.sqlite_file import connect
from tests.fakes.accounts import LEASE_US, NOW_US, closed, hold, opened, settled, started, void


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its tables and nothing in them."""
    path = tmp_path_factory.mktemp("template") / "relay.db"
    make_ready(f"sqlite:///{path}", "auto")
    return path


@pytest.fixture
def file(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "relay.db"))


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    made = connect(file)
    yield made
    made.close()


@pytest.fixture
def books(connection: sqlite3.Connection) -> Books:
    return Books(connection)


@contextmanager
def batch(connection: sqlite3.Connection, books: Books) -> Iterator[None]:
    """As the writer frames one."""
    connection.execute(sql.BEGIN)
    books.begin()
    yield
    books.finish()
    connection.execute(sql.COMMIT)
    books.committed()


def periods(connection: sqlite3.Connection) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Settled, reserved, overrun by budget and period, as they are in the file."""
    found = connection.execute(
        "SELECT budget_id, period_start_s, settled_micro, reserved_micro, overrun_micro"
        " FROM budget_periods"
    )
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in found}


def generation(connection: sqlite3.Connection, id_: str = "gen_1") -> tuple[object, ...]:
    """State, reserved and settled of one."""
    found: tuple[object, ...] = connection.execute(
        "SELECT state, reserved_micro, settled_micro FROM generations WHERE id = ?", (id_,)
    ).fetchone()
    return found


def attempts(connection: sqlite3.Connection, id_: str = "gen_1") -> list[tuple[object, ...]]:
    """Ordinal, state, cost and start of each."""
    return connection.execute(
        "SELECT ordinal, state, cost_micro, started_us FROM attempts WHERE generation_id = ?"
        " ORDER BY ordinal",
        (id_,),
    ).fetchall()


# --- what is put aside ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "aside"), [([1000, 500], 1000), ([1001, 500], 500), ([1001, 1000], 1000)]
)
def test_the_first_amount_that_fits_is_put_aside_in_every_budget(
    connection: sqlite3.Connection, books: Books, amounts: list[int], aside: int
) -> None:
    holds = [hold("tight", 1000), hold("wide", 5000, 7), hold("soft", None)]
    with batch(connection, books):
        assert books.reserve(opened(holds=holds), amounts) == aside
    assert generation(connection) == ("open", aside, None)
    assert periods(connection) == {
        ("tight", 0): (0, aside, 0),
        ("wide", 7): (0, aside, 0),
        ("soft", 0): (0, aside, 0),
    }


def test_what_does_not_fit_names_the_tightest_and_what_it_has_left(
    connection: sqlite3.Connection, books: Books
) -> None:
    holds = [hold("wide", 900), hold("tight", 300), hold("also", 300), hold("soft", None)]
    with batch(connection, books):
        books.reserve(opened("before", holds), [100])
        with pytest.raises(BudgetSpent) as spent:
            books.reserve(opened("gen_1", holds), [500, 201])
    assert (spent.value.hold.budget_id, spent.value.left_micro) == ("tight", 200)
    assert generation(connection) is None
    assert periods(connection)["tight", 0] == (0, 100, 0)


def test_a_budget_that_is_overdrawn_has_nothing_left_and_no_less(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.reserve(opened("gen_1", [hold()]), [100])
        books.settle(settled("gen_1", 5000))
        with pytest.raises(BudgetSpent) as spent:
            books.reserve(opened("gen_2", [hold()]), [1])
    assert spent.value.left_micro == 0
    assert periods(connection)["bud_1", 0] == (5000, 0, 4900)


def test_soft_budgets_alone_take_the_first_amount(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        assert books.reserve(opened(holds=[hold("soft", None)]), [10**9, 1]) == 10**9


def test_asked_again_it_has_what_it_has_also_when_that_is_all_there_was(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        assert books.reserve(opened(holds=[hold()]), [400]) == 400
        assert books.reserve(opened(holds=[hold()]), [300]) == 400
        assert books.reserve(opened(holds=[hold()]), [700]) == 400
    assert periods(connection)["bud_1", 0] == (0, 400, 0)


@pytest.mark.parametrize("amount", [10, 10_000])
def test_of_one_that_is_over_nothing_is_put_aside(
    connection: sqlite3.Connection, books: Books, amount: int
) -> None:
    with batch(connection, books):
        books.reserve(opened(holds=[hold()]), [400])
        books.settle(settled("gen_1", 400))
        with pytest.raises(StoreUnavailable, match="gen_1 is over"):
            books.reserve(opened(holds=[hold()]), [amount])
    assert periods(connection)["bud_1", 0] == (400, 0, 0)


def test_more_is_put_aside_in_what_it_was_opened_with_or_not_at_all(
    connection: sqlite3.Connection, books: Books
) -> None:
    holds = [hold("a", 1000), hold("b", None, 5)]
    with batch(connection, books):
        books.reserve(opened(holds=holds), [400])
        books.extend("gen_1", holds, 600)
        with pytest.raises(BudgetSpent):
            books.extend("gen_1", holds, 1)
    assert generation(connection)[:2] == ("open", 1000)
    assert periods(connection) == {("a", 0): (0, 1000, 0), ("b", 5): (0, 1000, 0)}


def test_nothing_more_for_one_that_is_over_or_was_never_there(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.reserve(opened(holds=[hold()]), [400])
        books.settle(settled("gen_1", 100))
        for id_ in ("gen_1", "nothing"):
            with pytest.raises(StoreUnavailable, match="is not open"):
                books.extend(id_, [hold()], 1)
    assert periods(connection)["bud_1", 0] == (100, 0, 0)


# --- attempts and ends ------------------------------------------------------------------------


def test_the_first_attempt_is_written_with_it_and_over_by_the_one_that_starts(
    connection: sqlite3.Connection, books: Books
) -> None:
    first = started(started_us=-1)
    with batch(connection, books):
        books.open(opened("free", first=first))
        books.reserve(opened("paid", [hold()], first=first), [10])
        books.open(opened("none"))
    assert attempts(connection, "free") == attempts(connection, "paid") == [(0, "open", None, -1)]
    assert attempts(connection, "none") == []
    assert generation(connection, "free") == ("open", 0, None)
    with batch(connection, books):
        books.attempt("free", started(started_us=7))
        books.attempt("free", started(started_us=9))
        books.attempt("free", started(1, started_us=8))
        books.attempt("nothing", started())
    assert attempts(connection, "free") == [(0, "open", None, 7), (1, "open", None, 8)]
    assert attempts(connection, "nothing") == []


def test_an_end_closes_its_attempts_and_counts_once(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.reserve(opened(holds=[hold("a"), hold("b", None, 5)]), [100])
        books.attempt("gen_1", started())
        books.settle(settled("gen_1", 70, attempts=(closed(0, 60), closed(1, 10))))
        books.settle(settled("gen_1", 999, attempts=(closed(2, 999),)))
        books.settle(settled("nothing", 999))
    assert generation(connection) == ("settled", 100, 70)
    assert attempts(connection) == [(0, "actual", 60, 180), (1, "actual", 10, 180)]
    assert periods(connection) == {("a", 0): (70, 0, 0), ("b", 5): (70, 0, 0)}


@pytest.mark.parametrize(("cost", "overrun"), [(99, 0), (100, 0), (101, 1), (250, 150)])
def test_what_no_reservation_covered_is_overrun(
    connection: sqlite3.Connection, books: Books, cost: int, overrun: int
) -> None:
    with batch(connection, books):
        books.reserve(opened(holds=[hold()]), [100])
        books.settle(settled("gen_1", cost))
    assert periods(connection)["bud_1", 0] == (cost, 0, overrun)


def test_without_an_attempt_the_one_that_was_foretold_is_gone(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.open(opened(first=started(started_us=-1)))
        books.settle(void())
    assert attempts(connection) == []
    assert periods(connection) == {}


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budgets", [1, 7, 8, 9, 16, 17])
def test_however_many_counters_changed_all_are_written(
    connection: sqlite3.Connection, books: Books, budgets: int
) -> None:
    holds = [hold(f"b{number}") for number in range(budgets)]
    with batch(connection, books):
        books.reserve(opened(holds=holds), [3])
    assert periods(connection) == {(one.budget_id, 0): (0, 3, 0) for one in holds}


def test_a_batch_that_was_not_committed_leaves_nothing_behind(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.reserve(opened("gen_1", [hold()]), [100])
    connection.execute(sql.BEGIN)
    books.begin()
    books.reserve(opened("gen_2", [hold()]), [500])
    books.finish()
    connection.execute(sql.ROLLBACK)
    with batch(connection, books):
        assert books.reserve(opened("gen_3", [hold()]), [900]) == 900
    assert periods(connection)["bud_1", 0] == (0, 1000, 0)


def test_counters_are_read_once_until_another_connection_writes(
    connection: sqlite3.Connection, books: Books, file: Path
) -> None:
    reads: list[str] = []
    connection.set_trace_callback(
        lambda text: reads.append(text) if "FROM budget_periods" in text else None
    )
    for number in range(3):
        with batch(connection, books):
            books.reserve(opened(f"gen_{number}", [hold()]), [10])
    assert len(reads) == 1
    other = connect(file)
    theirs = Books(other)
    with batch(other, theirs):
        theirs.reserve(opened("theirs", [hold()]), [900])
    other.close()
    with batch(connection, books), pytest.raises(BudgetSpent) as spent:
        books.reserve(opened("gen_4", [hold()]), [71])
    assert spent.value.left_micro == 70
    assert len(reads) == 2


def test_how_many_counters_are_remembered_is_bounded(
    connection: sqlite3.Connection, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_books, "MAX_PERIODS", 2)
    for number in range(2):
        with batch(connection, books):
            books.reserve(opened(f"gen_{number}", [hold(f"b{number}")]), [1])
    assert len(books._periods) == 2
    with batch(connection, books):
        books.reserve(opened("gen_2", [hold("b2")]), [1])
    assert len(books._periods) == 3
    with batch(connection, books):
        books.reserve(opened("gen_3", [hold("b2")]), [1])
    assert list(books._periods) == [("b2", 0)]
    assert periods(connection)["b2", 0] == (0, 2, 0)


# --- instances --------------------------------------------------------------------------------


def instances(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT id, lease_until_us FROM instances"))


def test_a_place_has_one_instance_and_a_lease_that_is_renewed_touched_and_left(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.take_place("old", "here", NOW_US, NOW_US + 1)
        books.take_place("far", "there", NOW_US, NOW_US + 2)
        books.take_place("new", "here", NOW_US, NOW_US + 3)
    assert instances(connection) == {"far": NOW_US + 2, "new": NOW_US + 3}
    with batch(connection, books):
        books.renew("new", "here", NOW_US, NOW_US + 9)
        books.renew("gone", "elsewhere", NOW_US, NOW_US + 4)
        books.touch("far")
    assert instances(connection) == {"far": NOW_US + 2, "new": NOW_US + 9, "gone": NOW_US + 4}
    with batch(connection, books):
        books.leave("far")
    assert set(instances(connection)) == {"new", "gone"}


def test_a_sweep_closes_what_dead_ones_left_at_the_most_it_can_have_cost(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.take_place("a", "dead", NOW_US, NOW_US)
        books.take_place("b", "alive", NOW_US, NOW_US + 1)
        books.reserve(opened("asked", [hold()]), [100])
        books.attempt("asked", started(0, 50))
        books.attempt("asked", started(1, 70))
        books.reserve(opened("unasked", [hold()]), [100])
        books.reserve(opened("theirs", [hold()], instance_id="b"), [100])
    with batch(connection, books):
        assert books.sweep(NOW_US, 10) == 2
    assert generation(connection, "asked") == ("estimated", 100, 120)
    assert generation(connection, "unasked") == ("void", 100, 0)
    assert generation(connection, "theirs") == ("open", 100, None)
    assert attempts(connection, "asked") == [(0, "estimated", 50, 180), (1, "estimated", 70, 180)]
    assert periods(connection)["bud_1", 0] == (120, 100, 20)
    assert set(instances(connection)) == {"b"}
    with batch(connection, books):
        assert books.sweep(NOW_US, 10) == 0


def test_a_sweep_takes_no_more_than_it_may_and_forgets_nobody_before_its_last(
    connection: sqlite3.Connection, books: Books
) -> None:
    with batch(connection, books):
        books.take_place("a", "dead", NOW_US, NOW_US)
        for number in range(3):
            books.open(opened(f"gen_{number}", lease_until_us=NOW_US + LEASE_US))
    found = []
    for _ in range(3):
        with batch(connection, books):
            found.append((books.sweep(NOW_US, 2), "a" in instances(connection)))
    assert [count for count, _ in found] == [2, 1, 0]
    assert "a" not in instances(connection)
