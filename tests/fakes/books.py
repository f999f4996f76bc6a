"""The accounts of a store as an auditor reads them: with his own sums, not with the relay's.

books = Books(url)
books.check()                       # raises where anything does not add up
books.rows("SELECT * FROM generations")
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import text

from relay.store.counters import differences
from relay.store.engine import engine_for, reading

ENDED = {"settled", "estimated", "void"}


class Books:
    """Of one database; `close` it.

    Args:
        url: as in `store.url`.
    """

    def __init__(self, url: str) -> None:
        self.engine = engine_for(url)

    def close(self) -> None:
        self.engine.dispose()

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]

    def open_rows(self) -> int:
        (row,) = self.rows("SELECT count(*) AS n FROM generations WHERE state = 'open'")
        return int(row["n"])

    def left_micro(self, budget_id: str) -> int:
        """What its limit leaves beside what is settled and put aside."""
        (budget,) = self.rows("SELECT limit_micro FROM budgets WHERE id = :id", id=budget_id)
        found = self.rows("SELECT * FROM budget_periods WHERE budget_id = :id", id=budget_id)
        taken = sum(row["settled_micro"] + row["reserved_micro"] for row in found)
        return int(budget["limit_micro"] - taken)

    def check(self, *, is_quiet: bool = True) -> Counter[str]:
        """Every generation has one state, every attempt is of one, every sum is what it must be.

        Args:
            is_quiet: nothing runs, so nothing may be open.

        Returns:
            Generations by their states.
        """
        generations = self.rows("SELECT * FROM generations")
        attempts = defaultdict(list)
        for row in self.rows("SELECT * FROM attempts"):
            attempts[row["generation_id"]].append(row)
        assert attempts.keys() <= {row["id"] for row in generations}, "an attempt of nothing"
        settled: Counter[tuple[str, int]] = Counter()
        reserved: Counter[tuple[str, int]] = Counter()
        overrun: Counter[tuple[str, int]] = Counter()
        for row in generations:
            own = attempts[row["id"]]
            if row["state"] in ENDED:
                self._check_ended(row, own)
            else:
                assert row["state"] == "open", row
                assert not is_quiet, f"still open: {row}"
            for budget_id, period_start_s in json.loads(row["holds"]):
                key = (budget_id, period_start_s)
                if row["state"] == "open":
                    reserved[key] += row["reserved_micro"]
                else:
                    settled[key] += row["settled_micro"]
                    overrun[key] += max(0, row["settled_micro"] - row["reserved_micro"])
        periods = self.rows("SELECT * FROM budget_periods")
        kept = {(row["budget_id"], row["period_start_s"]): row for row in periods}
        assert settled.keys() | reserved.keys() <= kept.keys()
        for key, row in kept.items():
            told = (row["settled_micro"], row["reserved_micro"], row["overrun_micro"])
            assert told == (settled[key], reserved[key], overrun[key]), (key, row)
        with reading(self.engine) as connection:
            assert not differences(connection)
        return Counter(row["state"] for row in generations)

    def _check_ended(self, row: dict[str, Any], attempts: list[dict[str, Any]]) -> None:
        assert row["ended_at_us"] is not None, row
        assert all(one["state"] != "open" for one in attempts), (row, attempts)
        cost_micro = sum(one["cost_micro"] or 0 for one in attempts)
        assert row["settled_micro"] == cost_micro, (row, attempts)
        if row["state"] == "settled":
            assert {one["state"] for one in attempts} <= {"actual", "free"}, (row, attempts)
        if row["state"] == "void":
            assert cost_micro == 0, (row, attempts)
