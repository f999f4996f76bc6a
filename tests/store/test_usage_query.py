"""Usage by every dimension, on both databases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, insert

from relay.store import schema
from relay.store.engine import engine_for, migrate, reading, writing
from relay.store.usage_fields import Selection, UsageError
from relay.store.usage_query import MEASURES, SUMS, UsageQuery, UsageReport, ask
from tests.fakes.usage_rows import LOSER, NOW_US, generation, write


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url, pool_size=1)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


def asked(engine: Engine, *by: str, **more: Any) -> UsageReport:
    where = {name: tuple(values) for name, values in more.pop("where", {}).items()}
    selection = Selection(more.pop("since_us", None), more.pop("until_us", None), where)
    with reading(engine) as connection:
        return ask(connection, UsageQuery(by=by, selection=selection, **more))


def cells(report: UsageReport, measure: str = "cost_micro") -> dict[Any, Any]:
    return {
        tuple(group.by.values())
        if len(group.by) > 1
        else next(iter(group.by.values())): group.sums[measure]
        for group in report.groups
    }


def some(engine: Engine) -> None:
    write(
        engine,
        generation(1, tags=["a", "b"], labels={"user": "u1", 'q"uote.$': "x"}, session_id="s1"),
        generation(2, [{}, LOSER], team_id="team_2", key_id="key_2", ttft_us=3000, tags=["b"]),
        generation(3, [{**LOSER, "role": "primary", "cost_micro": None, "state": "unpriced",
                        "upper_micro": None}],
                   reason="CLIENT_CANCELLED", state="estimated", ttft_us=None),
        generation(4, [], state="void", reason="BREAKER_OPEN", ttft_us=None, alias="slow",
                   surface="messages"),
        generation(5, [{"upper_micro": 500}, {"upper_micro": 400}], state="open",
                   reserved_micro=900),
    )  # fmt: skip


def test_everything(engine: Engine) -> None:
    some(engine)
    report = asked(engine)
    assert len(report.groups) == 1
    assert report.total == report.groups[0].sums
    assert tuple(report.total) == MEASURES
    assert report.total == {
        "requests": 4, "cancelled": 1, "failed": 1, "open": 1, "open_reserved_micro": 900,
        "attempts": 4, "hedges": 1, "unpriced": 1, "cost_micro": 170, "upper_micro": 230,
        "estimated_micro": 30, "losers_micro": 30, "prompt_tokens": 40, "cached_tokens": 16,
        "cache_write_tokens": 4, "output_tokens": 20, "reasoning_tokens": 8,
        "ttft_p50_us": 1000, "ttft_p95_us": 3000,
    }  # fmt: skip


def test_nothing(engine: Engine) -> None:
    report = asked(engine)
    assert report.total == dict.fromkeys(SUMS, 0) | {"ttft_p50_us": None, "ttft_p95_us": None}
    assert asked(engine, "day", "tag").groups == ()


BY: dict[str, dict[str, int]] = {
    "organisation": {"org_1": 170},
    "team": {"team_1": 70, "team_2": 100},
    "key": {"key_1": 70, "key_2": 100},
    "alias": {"fast": 170, "slow": 0},
    "surface": {"chat": 170, "messages": 0},
    "session": {"s1": 70, "": 100},
    "state": {"settled": 170, "estimated": 0, "void": 0, "open": 0},
    "reason": {"": 170, "CLIENT_CANCELLED": 0, "BREAKER_OPEN": 0},
    "provider": {"openai": 140, "anthropic": 30, "": 0},
    "model": {"gpt": 140, "claude": 30, "": 0},
    "role": {"primary": 140, "hedge": 30, "": 0},
    "outcome": {"success": 140, "ignored": 30, "": 0},
    "charge": {"actual": 140, "estimated": 30, "unpriced": 0, "open": 0, "": 0},
    "tag": {"a": 70, "b": 170, "": 0},
    "label:user": {"u1": 70, "": 100},
    'label:q"uote.$': {"x": 70, "": 100},
    "month": {"2026-05": 170},
    "day": {"2026-05-28": 170},
    "hour": {"2026-05-28T20:00+00:00": 170},
}


def test_by(engine: Engine) -> None:
    some(engine)
    for by, expected in BY.items():
        assert cells(asked(engine, by)) == expected, by


def test_what_is_of_the_whole_generation_is_told_once(engine: Engine) -> None:
    some(engine)
    by = asked(engine, "provider")
    assert cells(by, "open_reserved_micro") == {"openai": 900, "anthropic": 0, "": 0}
    assert cells(by, "requests") == {"openai": 2, "anthropic": 2, "": 1}
    assert cells(by, "ttft_p95_us") == {"openai": 3000, "anthropic": None, "": None}
    assert by.total["requests"] == 4


ADDITIVE = tuple(n for n in SUMS if n not in ("requests", "cancelled", "failed", "open"))
SPLITS = [
    ("organisation", "team"), ("team", "key"), ("key", "session"), ("alias", "provider"),
    ("provider", "model"), ("model", "role"), ("role", "outcome"), ("month", "day"),
    ("day", "hour"), ("state", "charge"), ("surface", "label:user"),
]  # fmt: skip


def test_children_add_up_to_their_parent(engine: Engine) -> None:
    rows = []
    for number in range(60):
        attempts: list[dict[str, Any]] = [{}, LOSER, {**LOSER, "role": "failover"}][: number % 4]
        state = ("settled", "estimated", "open")[number % 3]
        rows.append(
            generation(
                number, attempts, state=state, reserved_micro=number, team_id=f"t{number % 5}",
                key_id=f"k{number % 7}", session_id=f"s{number % 3}", alias=f"a{number % 2}",
                labels={"user": f"u{number % 4}"}, ttft_us=number,
                admitted_at_us=NOW_US + number * 3_000_000_000 * 13,
            )
        )  # fmt: skip
    write(engine, *rows)
    for parent, child in SPLITS:
        assert_parts(engine, parent, child)


def assert_parts(engine: Engine, parent: str, child: str) -> None:
    whole = asked(engine, parent, time_zone="Europe/Berlin")
    parts = asked(engine, parent, child, time_zone="Europe/Berlin", limit=10_000)
    assert not parts.has_more
    assert whole.total == parts.total
    for measure in ADDITIVE:
        sums: dict[str, int] = {}
        for group in parts.groups:
            sums[group.by[parent]] = sums.get(group.by[parent], 0) + (group.sums[measure] or 0)
        assert sums == cells(whole, measure), measure
        assert sum(sums.values()) == whole.total[measure]


WHERE: list[tuple[dict[str, list[str]], int]] = [
    ({"team": ["team_2"]}, 100),
    ({"team": ["team_1", "team_2"]}, 170),
    ({"team": []}, 0),
    ({"team": ["' OR 1=1 --"]}, 0),
    ({"provider": ["anthropic"]}, 30),
    ({"role": ["hedge"], "team": ["team_1"]}, 0),
    ({"tag": ["a"]}, 70),
    ({"tag": ["a", "b"]}, 170),
    ({"label:user": ["u1"]}, 70),
    ({"session": [""]}, 100),
    ({"state": ["open"]}, 0),
]


def test_where(engine: Engine) -> None:
    some(engine)
    for where, cost in WHERE:
        assert asked(engine, where=where).total["cost_micro"] == cost, where


def test_range_takes_its_beginning_and_not_its_end(engine: Engine) -> None:
    write(engine, *(generation(n, admitted_at_us=NOW_US + n) for n in range(4)))
    total = asked(engine, since_us=NOW_US + 1, until_us=NOW_US + 3).total
    assert total["requests"] == 2


def test_order_and_limit(engine: Engine) -> None:
    write(
        engine,
        *(
            generation(n, [{"cost_micro": n % 4}], key_id=f"k{n}", ttft_us=n or None)
            for n in range(6)
        ),
    )
    assert list(cells(asked(engine, "key"))) == ["k3", "k2", "k1", "k5", "k0", "k4"]
    assert list(cells(asked(engine, "key", order="-key"))) == ["k5", "k4", "k3", "k2", "k1", "k0"]
    assert list(cells(asked(engine, "key", order="ttft_p50_us")))[-1] == "k0", "None is last"
    cut = asked(engine, "key", limit=2)
    assert (list(cells(cut)), cut.has_more) == (["k3", "k2"], True)
    assert cut.total["requests"] == 6


def test_percentiles_are_of_the_nearest_rank(engine: Engine) -> None:
    values = [(n * 37) % 101 for n in range(1, 41)]
    write(engine, *(generation(n, ttft_us=value) for n, value in enumerate(values)))
    total, ordered = asked(engine).total, sorted(values)
    assert total["ttft_p50_us"] == ordered[math.ceil(0.50 * 40) - 1]
    assert total["ttft_p95_us"] == ordered[math.ceil(0.95 * 40) - 1]


def test_days_of_a_zone_with_23_and_25_hours(engine: Engine) -> None:
    where = ZoneInfo("Europe/Berlin")
    moments = [
        datetime(2026, 3, 29, 0, 0, tzinfo=where), datetime(2026, 3, 29, 23, 59, tzinfo=where),
        datetime(2026, 3, 30, 0, 0, tzinfo=where), datetime(2026, 10, 25, 2, 30, tzinfo=where),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=where),
        datetime(2026, 10, 31, 23, 59, tzinfo=where), datetime(2026, 11, 1, 0, 0, tzinfo=where),
    ]  # fmt: skip
    write(
        engine,
        *(
            generation(n, admitted_at_us=int(at.timestamp()) * 1_000_000)
            for n, at in enumerate(moments)
        ),
    )
    days = cells(asked(engine, "day", time_zone="Europe/Berlin"), "requests")
    assert list(days.items()) == [
        ("2026-03-29", 2), ("2026-03-30", 1), ("2026-10-25", 2), ("2026-10-31", 1),
        ("2026-11-01", 1),
    ]  # fmt: skip
    months = cells(asked(engine, "month", time_zone="Europe/Berlin"), "requests")
    assert months == {"2026-03": 3, "2026-10": 3, "2026-11": 1}
    hours = cells(asked(engine, "hour", time_zone="Europe/Berlin"), "requests")
    assert hours["2026-10-25T02:00+02:00"] == hours["2026-10-25T02:00+01:00"] == 1


def test_names(engine: Engine) -> None:
    with writing(engine) as connection:
        row = {"id": "org_1", "name": "Acme", "created_at_us": 1, "changed": 1}
        connection.execute(insert(schema.organisations).values(**row))
    some(engine)
    assert asked(engine, "organisation").groups[0].names == {"organisation": "Acme"}


BAD: list[tuple[tuple[str, ...], Any, str]] = [
    (("colour",), {}, "'colour' is none of"),
    (("label:",), {}, "label:NAME"),
    (("team", "team"), {}, "each once"),
    ((), {"order": "salary"}, "order"),
    ((), {"limit": 0}, "limit"),
    ((), {"time_zone": "Mars"}, "time_zone"),
    ((), {"where": {"day": ["x"]}}, "'day' is none of"),
    ((), {"where": {"key": ["a\0b"]}}, "NUL"),
]


def test_bad_questions(engine: Engine) -> None:
    for by, more, words in BAD:
        with pytest.raises(UsageError, match=words):
            asked(engine, *by, **dict(more))


def test_bounds_hold_whatever_is_asked(engine: Engine) -> None:
    some(engine)
    with reading(engine) as connection:
        for where, cost in (({}, 70), ({"team": ("team_2",)}, 0), ({"team": ("team_1",)}, 70)):
            selection = Selection(where=where).within(organisation="org_1", team="team_1")
            report = ask(connection, UsageQuery(selection=selection))
            assert report.total["cost_micro"] == cost
