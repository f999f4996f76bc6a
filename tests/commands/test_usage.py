"""`relay usage` as people type it."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, insert, text
from typer.testing import CliRunner, Result

from relay.cli import app
from relay.store import schema
from relay.store.audit_store import read_rows
from relay.store.engine import engine_for, migrate, reading, writing
from tests.fakes.usage_rows import DAY_US, LOSER, generation, write

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
DAY_S = 86_400
MIDNIGHT_US = int(time.time()) // DAY_S * DAY_S * 1_000_000
NOON_US = MIDNIGHT_US - DAY_US // 2
DAY = time.strftime("%Y-%m-%d", time.gmtime(NOON_US // 1_000_000))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY)
    made = tmp_path / "relay.yaml"
    store = {"url": f"sqlite:///{tmp_path / 'relay.db'}"}
    made.write_text(
        yaml.safe_dump({"store": store, "audit": {"key": "${file:key}", "anchor": None}})
    )
    return made


@pytest.fixture
def engine(config: Path) -> Iterator[Engine]:
    engine = engine_for(f"sqlite:///{config.parent / 'relay.db'}")
    migrate(engine)
    write(
        engine,
        generation(1, admitted_at_us=NOON_US, labels={"user": "u1"}, session_id="s1"),
        generation(2, [{}, LOSER], admitted_at_us=NOON_US, team_id="team_2", session_id="=1+1"),
        generation(3, admitted_at_us=NOON_US - 100 * DAY_US, holds=[["k", 0]]),
        generation(4, admitted_at_us=NOON_US, state="open", reserved_micro=5_000_000),
    )
    row = {"id": "team_1", "organisation_id": "org_1", "name": "voice", "created_at_us": 1}
    with writing(engine) as connection:
        connection.execute(
            insert(schema.organisations).values(id="org_1", name="o", created_at_us=1, changed=1)
        )
        connection.execute(insert(schema.teams).values(**row, changed=1))
    yield engine
    engine.dispose()


def run(config: Path, command: str, *arguments: str, status: int = 0, typed: str = "") -> Result:
    whole = ["usage", command, "-c", str(config), *arguments]
    ran = CliRunner().invoke(app, whole, env={"COLUMNS": "250"}, input=typed)
    assert ran.exit_code == status, ran.output
    return ran


def actions(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [f"{row.entry.action} {row.entry.detail}" for row in read_rows(connection)]


@pytest.mark.usefixtures("engine")
def test_summary(config: Path) -> None:
    shown = run(config, "summary", "--by", "team").stdout
    for words in ("voice (team_1)", "team_2", "$0.0001", "$0.00017", "1 more are open; $5 is"):
        assert words in shown
    told = json.loads(
        run(config, "summary", "--by", "team,day", "--since", "200d", "--json").stdout
    )
    first = told["groups"][0]
    assert (first["by"]["day"], first["cost_micro"]) == (DAY, 100)
    assert told["total"]["cost_micro"] == 240
    by_name = run(config, "summary", "--where", "team=voice", "--json").stdout
    assert json.loads(by_name)["total"]["cost_micro"] == 70


def test_export(config: Path, engine: Engine, tmp_path: Path) -> None:
    ran = run(config, "export", "--since", "30d")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [row["cost_micro"] for row in rows] == ["70", "70", "30"]
    assert "'=1+1" in ran.stdout
    assert "3 rows" in ran.stderr
    (told,) = actions(engine)
    assert told.startswith("usage.exported ")
    assert json.loads(told.partition(" ")[2])["format"] == "csv"
    target = tmp_path / "usage.parquet"
    run(config, "export", "--format", "parquet", "--rows", "generations", "-o", str(target))
    assert target.read_bytes()[:4] == b"PAR1"
    before = target.read_bytes()
    run(config, "export", "-o", str(target), status=1)
    assert target.read_bytes() == before, "never over another"
    run(config, "export", "--rows", "sessions", status=1)
    run(config, "export", "--format", "xlsx", "-o", str(tmp_path / "x"), status=1)
    assert not (tmp_path / "x").exists()
    assert len(actions(engine)) == 2, "what did not come about is not told"
    run(config, "export", "--database", str(config.parent / "relay.db"))
    assert len(actions(engine)) == 2, "a copy is somebody's own"


def test_nothing_is_exported_that_cannot_be_audited(
    config: Path, engine: Engine, tmp_path: Path
) -> None:
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE audit_head"))
    target = tmp_path / "usage.csv"
    assert "relay: " in run(config, "export", "-o", str(target), status=1).stderr
    assert target.read_bytes() == b""


def invoice(tmp_path: Path, *lines: str) -> str:
    made = tmp_path / "invoice.csv"
    made.write_text("\n".join(("day,what,usd,n", *lines)) + "\n")
    return str(made)


COLUMNS = [f"--column={one}" for one in ("date=day", "model=what", "amount=usd", "requests=n")]


@pytest.mark.usefixtures("engine")
def test_reconcile(config: Path, tmp_path: Path) -> None:
    def ask(line: str, *more: str, status: int) -> Result:
        given = (invoice(tmp_path, line), "--provider", "openai", *COLUMNS, *more)
        return run(config, "reconcile", *given, status=status)

    assert "1 of 1 lines agree" in ask(f"{DAY},gpt,0.00014,2", status=0).stdout
    differs = ask(f"{DAY},gpt,0.00015,3", status=1).stdout
    assert "$0.00001" in differs
    assert "7.14" in differs
    assert "requests: 3 there, 2 here" in differs
    ask(f"{DAY},gpt,0.00015,2", "--tolerance", "7.2", status=0)
    ask(f"{DAY},gpt,0.00015,2", "--tolerance-usd", "0.00001", status=0)
    ask(f"{DAY},theirs,0.00014,2", "--rename", "theirs=gpt", status=0)
    told = json.loads(ask(f"{DAY},gpt,0.00015,2", "--json", status=1).stdout)
    assert (told["difference_micro"], told["lines"][0]["verdict"]) == (10, "differs")
    bad = ask(f"{DAY},gpt,0.00014,2\n{DAY},gpt,much,2", status=2).stdout
    assert "line 3: amount" in bad
    nobody = (invoice(tmp_path, f"{DAY},gpt,1,1"), "--provider", "acme", *COLUMNS)
    assert "there are: anthropic, openai" in run(config, "reconcile", *nobody, status=1).stdout
    lacking = (invoice(tmp_path, f"{DAY},gpt,1,1"), "--provider", "openai")
    assert "no column 'date'" in run(config, "reconcile", *lacking, status=2).stderr


def test_purge(config: Path, engine: Engine) -> None:
    assert (
        "1 generations" in run(config, "purge", "--older-than", "90d", typed="n\n", status=1).stdout
    )
    assert actions(engine) == []
    assert "1 generations deleted" in run(config, "purge", "--older-than", "90d", "--yes").stdout
    run(config, "purge", "--older-than", "3h", "--yes", status=1)
    assert [line.split()[0] for line in actions(engine)] == ["usage.purged"]
    with reading(engine) as connection:
        (kept,) = connection.execute(schema.deleted_sums.select())
    assert (kept.budget_id, kept.settled_micro) == ("k", 70)


def test_forget(config: Path, engine: Engine) -> None:
    run(config, "forget", "--yes", status=1)
    run(config, "forget", "--label", "user", "--yes", status=1)
    assert "1 generations blanked" in run(config, "forget", "--label", "user=u1", "--yes").stdout
    assert "0 generations blanked" in run(config, "forget", "--session", "s1", "--yes").stdout
    told = actions(engine)
    assert [line.split()[0] for line in told] == ["usage.forgotten"] * 2
    assert not any("u1" in line or "s1" in line for line in told), "the log must not remember"
    total = json.loads(run(config, "summary", "--json").stdout)["total"]
    assert total["cost_micro"] == 170


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "colour"), "colour"),
        (("--where", "team"), "DIMENSION=VALUE"),
        (("--since", "soon"), "no moment"),
        (("--time-zone", "Mars"), "time_zone"),
        (("--order", "salary"), "order"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_bad_questions(config: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in run(config, "summary", *arguments, status=1).stderr


def test_without_a_store(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text("{}\n")
    assert "no `store`" in run(config, "summary", status=1).stderr
    config.write_text(f"store: {{url: 'sqlite:///{tmp_path / 'none.db'}'}}\n")
    assert "relay:" in run(config, "summary", status=1).stderr
