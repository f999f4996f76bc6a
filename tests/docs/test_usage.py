"""The page on usage: its commands are run as they stand, and its columns are those there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from relay.config import parse
from relay.store.engine import engine_for, migrate
from relay.store.usage_export import ATTEMPT_COLUMNS, GENERATION_COLUMNS
from relay.store.usage_fields import DIMENSIONS
from relay.store.usage_query import MEASURES
from tests.fakes.usage_rows import generation, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "usage.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = engine_for("sqlite:///relay.db")
    migrate(engine)
    write(engine, generation(1, labels={"user": "u1"}, session_id="call-4711"))
    engine.dispose()
    Path("relay.yaml").write_text("store: {url: 'sqlite:///relay.db'}\n")
    Path("invoice.csv").write_text("date,model,amount\n2026-05-28,gpt,0.00007\n")
    Path("costs.csv").write_text("Day,Model,Cost (USD)\n2026-05-28,gpt,0.00007\n")
    assert len(COMMANDS) >= 12
    for words in COMMANDS:
        assert words[0] == "relay"
        ran = CliRunner().invoke(app, words[1:])
        assert ran.exit_code == 0, f"{shlex.join(words)}: {ran.output}"


def test_names_are_all_there() -> None:
    for name in (*DIMENSIONS, *MEASURES):
        assert f"`{name}`" in TEXT, name
    generations, attempts = re.findall(r"^\| `(?:generations|attempts)` \| (.*) \|$", TEXT, re.M)
    assert re.findall(r"`(\w+)`", generations) == list(GENERATION_COLUMNS)
    told = re.findall(r"`(\w+)`", attempts)[1:]
    assert told == list(ATTEMPT_COLUMNS)[len(GENERATION_COLUMNS) - 2 :]


def test_configuration() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    store = parse(yaml.safe_load(block), {}).store
    assert store is not None
    assert store.retention_days == 400
