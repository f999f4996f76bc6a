"""Usage over HTTP: one's own part whatever is asked for, files, and what may be forgotten."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.frontends.admin.usage_routes import REPORT
from relay.store.audit_store import read_rows
from relay.store.engine import engine_for, reading
from tests.fakes.admin_world import Office, World, office_over
from tests.fakes.json_schema import faults
from tests.fakes.usage_rows import LOSER, generation, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("usage")
    world = World(f"sqlite:///{folder / 'relay.db'}")
    engine = engine_for(world.url)
    for number, (name, place) in enumerate(world.places.items()):
        where = {field: place[field] for field in ("organisation_id", "team_id", "key_id")}
        attempts: list[dict[str, Any]] = [{"cost_micro": 10**number}, {**LOSER, "cost_micro": 0}]
        labels = {"user": name}
        write(
            engine, generation(name, attempts, **where, labels=labels, session_id="s", tags=["a"])
        )
    engine.dispose()
    return world


@pytest.fixture
async def office(made: World, tmp_path: Path) -> AsyncIterator[Office]:
    async with office_over(made.copy(tmp_path / "relay.db")) as office:
        yield office


WHOLE, ORGANISATION, TEAM = 111, 101, 1
"""What each part has of the three generations: own 1, other 10, beside 100."""


@pytest.mark.parametrize(
    ("part", "expected"), [("whole", WHOLE), ("organisation", ORGANISATION), ("team", TEAM)]
)
async def test_everybody_sees_his_own_part(
    office: Office, made: World, part: str, expected: int
) -> None:
    token = made.tokens["viewer", part]
    other = made.places["other"]
    for query in ("", "?by=team,day&time_zone=Asia/Tokyo", "?by=provider&order=-requests"):
        told = (await office.ask("GET", f"/usage{query}", token)).json()
        assert faults(REPORT, told) == []
        assert told["total"]["cost_micro"] == expected
        assert sum(group["cost_micro"] for group in told["groups"]) == expected
    theirs = "&".join(f"{name}={other[name]}" for name in ("organisation_id", "team_id", "key_id"))
    told = (await office.ask("GET", f"/usage?{theirs}", token)).json()
    assert told["total"]["cost_micro"] == (10 if part == "whole" else 0)


async def test_filters(office: Office, made: World) -> None:
    token = made.tokens["owner", "whole"]
    keys = ",".join(made.places[name]["key_id"] for name in ("own", "other"))
    for query, expected in (
        (f"key_id={keys}", 11),
        ("label=user=own", 1),
        ("session_id=s&tag=a,b", WHOLE),
        ("session_id=s,t", 0),
        ("role=hedge", 0),
        ("provider=openai&model=gpt", WHOLE),
        ("since_us=1&until_us=2", 0),
    ):
        told = await office.ask("GET", f"/usage?{query}", token)
        assert told.json()["total"]["cost_micro"] == expected, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("by=colour", "by"), ("label=x", "label"), ("time_zone=Mars", "time_zone"),
        ("order=salary", "order"), ("limit=0", "limit"), ("colour=red", "colour"),
        ("since_us=soon", "since_us"),
    ],
)  # fmt: skip
async def test_bad_questions(office: Office, made: World, query: str, field: str) -> None:
    told = await office.ask("GET", f"/usage?{query}", made.tokens["owner", "whole"])
    assert (told.status_code, told.json()["error"].get("field")) == (400, field), told.text


async def test_who_is_behind_takes_more(office: Office, made: World) -> None:
    for query in ("by=session", "by=label:user", "session_id=s", "label=user=own"):
        for role, status in (("viewer", 403), ("auditor", 200)):
            told = await office.ask("GET", f"/usage?{query}", made.tokens[role, "team"])
            assert told.status_code == status, query


@pytest.mark.parametrize(
    ("part", "names"),
    [("whole", "own other beside"), ("organisation", "own beside"), ("team", "own")],
)
async def test_export(office: Office, made: World, part: str, names: str) -> None:
    token = made.tokens["billing", part]
    told = await office.ask("GET", "/usage/export", token)
    assert told.headers["content-type"] == "text/csv; charset=utf-8"
    assert told.headers["content-disposition"].startswith('attachment; filename="usage-attempts-2')
    rows = list(csv.DictReader(io.StringIO(told.text)))
    assert {row["generation_id"] for row in rows} == {f"gen_{name}" for name in names.split()}
    assert len(rows) == 2 * len(names.split())
    lines = await office.ask("GET", "/usage/export?format=jsonl&rows=generations", token)
    assert len(lines.content.splitlines()) == len(names.split())
    parquet = await office.ask("GET", "/usage/export?format=parquet&role=hedge", token)
    assert parquet.content[:4] == parquet.content[-4:] == b"PAR1"
    wrong = await office.ask("GET", "/usage/export?rows=generations&role=hedge", token)
    assert wrong.status_code == 400
    assert noted(office).count("usage.exported") == 3


async def test_forget(office: Office, made: World) -> None:
    token = made.tokens["owner", "organisation"]
    told = await office.ask("POST", "/usage/forget", token, {"session_id": "s"})
    assert told.json() == {"generations": 2}, "those of his organisation"
    left = await office.ask("GET", "/usage?by=session", made.tokens["owner", "whole"])
    assert {group["by"]["session"]: group["cost_micro"] for group in left.json()["groups"]} == {
        "": 101,
        "s": 10,
    }
    for body in ({}, {"since_us": 1}, {"session_id": ""}, {"team_id": "t"}):
        assert (await office.ask("POST", "/usage/forget", token, body)).status_code == 400, body
    assert noted(office).count("usage.forgotten") == 1


def noted(office: Office) -> list[str]:
    with reading(office.desk.engine) as connection:
        return [row.entry.action for row in read_rows(connection)]
