"""Exports: every row once, numbers exact, nothing that a sheet would run."""

from __future__ import annotations

import csv
import importlib
import io
import json
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from relay.store.engine import engine_for, migrate
from relay.store.usage_export import (
    ATTEMPT_COLUMNS,
    GENERATION_COLUMNS,
    Shape,
    export_rows,
    usd,
)
from relay.store.usage_fields import Selection, UsageError
from relay.store.usage_files import pieces, safe_text
from tests.fakes.usage_rows import LOSER, NOW_US, generation, write

parquet: Any = importlib.import_module("pyarrow.parquet")  # has no types


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


def exported(
    engine: Engine, shape: Shape, file_format: str, selection: Selection | None = None, **more: Any
) -> bytes:
    pages = export_rows(engine, selection or Selection(), shape, **more)
    return b"".join(pieces(pages, shape, file_format))


def lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def sheet(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def some(engine: Engine) -> None:
    write(
        engine,
        generation(1, tags=["a"], labels={"user": "ü"}, admitted_at_us=NOW_US + 5),
        generation(2, [{}, LOSER], admitted_at_us=NOW_US + 5),
        generation(3, [], state="void", admitted_at_us=NOW_US),
        generation(4, state="open"),
        generation(5, [{"cost_micro": None, "upper_micro": None, "state": "unpriced"}],
                   admitted_at_us=NOW_US + 9, state="estimated"),
    )  # fmt: skip


def test_attempts_as_csv(engine: Engine) -> None:
    some(engine)
    data = exported(engine, "attempts", "csv")
    assert data.splitlines()[0].decode() == ",".join(ATTEMPT_COLUMNS)
    rows = sheet(data)
    assert [(row["generation_id"], row["ordinal"]) for row in rows] == [
        ("gen_3", ""), ("gen_1", "0"), ("gen_2", "0"), ("gen_2", "1"), ("gen_5", "0"),
    ]  # fmt: skip
    first = rows[1]
    assert (first["cost_micro"], first["cost_usd"], first["is_winner"]) == (
        "70",
        "0.000070",
        "true",
    )
    assert (first["generation_labels"], first["generation_tags"]) == (
        '{"user": "\\u00fc"}',
        '["a"]',
    )
    assert (rows[4]["cost_micro"], rows[4]["cost_usd"]) == ("", "")


def test_generations_as_lines(engine: Engine) -> None:
    some(engine)
    rows = lines(exported(engine, "generations", "jsonl"))
    assert {tuple(row) for row in rows} == {tuple(GENERATION_COLUMNS)}
    assert [row["generation_id"] for row in rows] == ["gen_3", "gen_1", "gen_2", "gen_5"]
    assert rows[1]["labels"] == {"user": "ü"}
    assert [one["cost_micro"] for one in rows[2]["attempts"]] == [70, 30]
    assert rows[2]["settled_usd"] == "0.000100"
    assert sum(row["settled_micro"] for row in rows) == 170


def test_timelines_are_there(engine: Engine) -> None:
    told = {"admission": 40, "first_content": 900}
    phases = json.dumps(told)
    write(engine, generation(1, [{"phases": phases}, LOSER], phases=phases))
    (whole,) = lines(exported(engine, "generations", "jsonl"))
    assert whole["phases"] == told
    assert [one["phases"] for one in whole["attempts"]] == [told, {}]
    rows = sheet(exported(engine, "attempts", "csv"))
    assert json.loads(rows[0]["phases"]) == told
    assert {row["generation_phases"] for row in rows} == {phases}


def test_parquet(engine: Engine) -> None:
    some(engine)
    table = parquet.read_table(io.BytesIO(exported(engine, "attempts", "parquet")))
    assert table.column_names == list(ATTEMPT_COLUMNS)
    assert table["cost_usd"].to_pylist()[1:3] == [Decimal("0.000070"), Decimal("0.000070")]
    assert table["cost_micro"].to_pylist() == [None, 70, 70, 30, None]
    assert table["is_winner"].to_pylist() == [None, True, True, False, True]
    whole = parquet.read_table(io.BytesIO(exported(engine, "generations", "parquet")))
    assert [len(json.loads(text)) for text in whole["attempts"].to_pylist()] == [0, 1, 2, 1]


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_nothing(engine: Engine, file_format: str) -> None:
    data = exported(engine, "attempts", file_format)
    if file_format == "csv":
        assert data.startswith(b"generation_id,")
        assert sheet(data) == []
    elif file_format == "parquet":
        assert parquet.read_table(io.BytesIO(data)).num_rows == 0
    else:
        assert data == b""


def test_selection_and_what_is_open(engine: Engine) -> None:
    some(engine)

    def ids(where: dict[str, tuple[str, ...]], **more: Any) -> list[tuple[str, int | None]]:
        data = exported(engine, "attempts", "jsonl", Selection(where=where), **more)
        return [(row["generation_id"], row["ordinal"]) for row in lines(data)]

    assert ids({"role": ("hedge",)}) == [("gen_2", 1)]
    assert ids({"tag": ("a",)}) == [("gen_1", 0)]
    assert ("gen_4", 0) in ids({}, has_open=True)
    with pytest.raises(UsageError, match="export attempts"):
        exported(engine, "generations", "csv", Selection(where={"role": ("hedge",)}))


def test_pages_leave_nothing_out_and_tell_nothing_twice(engine: Engine) -> None:
    # Many at one moment, so that pages end within it.
    write(
        engine, *(generation(n, [{}] * (n % 3), admitted_at_us=NOW_US + n // 9) for n in range(40))
    )
    for page_rows in (1, 7, 40, 41):
        rows = lines(exported(engine, "generations", "jsonl", page_rows=page_rows))
        assert len(rows) == len({row["generation_id"] for row in rows}) == 40
        assert sum(len(row["attempts"]) for row in rows) == sum(n % 3 for n in range(40))


def test_memory_is_constant(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}", pool_size=1)
    migrate(engine)

    def peak() -> int:
        tracemalloc.start()
        for _ in pieces(
            export_rows(engine, Selection(), "attempts", page_rows=50), "attempts", "csv"
        ):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    write(engine, *(generation(n, admitted_at_us=NOW_US + n) for n in range(1000)))
    peak()
    small = peak()
    write(engine, *(generation(n, admitted_at_us=NOW_US + n) for n in range(1000, 5000)))
    assert peak() < small * 3  # of five times the rows; what caches hold differs from run to run
    engine.dispose()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("  =1", "'  =1"), ("a=1", "a=1"), ("", ""),
        ("a\0b", "ab"),
    ],
)  # fmt: skip
def test_formulas_are_texts(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_formulas_in_a_file(engine: Engine) -> None:
    evil = '=HYPERLINK("http://x.test","a")'
    write(engine, generation(1, session_id=evil, alias="@a\n,b", turn_id="-2+3"))
    (row,) = sheet(exported(engine, "attempts", "csv"))
    assert row["generation_session_id"] == f"'{evil}"
    assert (row["generation_alias"], row["generation_turn_id"]) == ("'@a\n,b", "'-2+3")


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", gone)
    with pytest.raises(UsageError, match=r"rtrelay\[parquet\]"):
        pieces([], "attempts", "parquet")
    with pytest.raises(UsageError, match="format"):
        pieces([], "attempts", "xlsx")


def test_usd() -> None:
    assert [usd(n) for n in (None, 0, 1, -1, 1_234_567_890_123)] == [
        None, "0.000000", "0.000001", "-0.000001", "1234567.890123",
    ]  # fmt: skip
