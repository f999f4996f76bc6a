"""The page on experiments: its commands are run as they stand, and its files are read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from relay.config import parse
from relay.governance.feedback import checked
from relay.store.engine import engine_for, migrate
from tests.docs.pages import DOCS, blocks
from tests.fakes.log_lines import attempt, line
from tests.fakes.usage_rows import generation, write

PAGE = "experiments.md"
FILES = [yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml"]
COMMANDS = [
    shlex.split(text)
    for block in blocks(PAGE)
    if block.language == "sh"
    for text in block.text.replace("\\\n", " ").splitlines()
]
DECISION = {"experiment": "voice-ab", "arm": "now", "unit": "1", "finish": "STOP"}


def whole(document: dict[str, Any]) -> dict[str, Any]:
    providers = {name: {"api_key": "${KEY}"} for name in ("openai", "anthropic")}
    return {"providers": providers, **document}


@pytest.mark.parametrize("document", FILES)
def test_files(document: dict[str, Any]) -> None:
    config = parse(whole(document), {"KEY": "some-secret-of-sufficient-length"})
    assert config.policies.experiments or config.policies.shadows


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", "some-secret-of-sufficient-length")
    engine = engine_for("sqlite:///relay.db")
    migrate(engine)
    write(engine, generation(1, decision=orjson.dumps(DECISION).decode()))
    engine.dispose()
    Path("copy.db").write_bytes(Path("relay.db").read_bytes())
    document = {**whole(FILES[0]), "store": {"url": "sqlite:///relay.db"}}
    Path("relay.yaml").write_text(yaml.safe_dump(document))
    told = line([attempt("a/m", first_us=1, ended_us=2)], received_s=1.0, decision=DECISION)
    Path("relay.log").write_bytes(told)
    commands = [words for words in COMMANDS if words[0] == "relay"]
    assert len(commands) == 9
    for words in commands:
        ran = CliRunner().invoke(app, words[1:])
        assert ran.exit_code == 0, f"{shlex.join(words)}: {ran.output}"
    assert "# Experiments" in Path("found.md").read_text()


def test_feedback() -> None:
    (words,) = (words for words in COMMANDS if words[0] == "curl")
    body = json.loads(words[words.index("-d") + 1])
    word = checked(*(body.get(name) for name in ("request_id", "score", "label", "comment")))
    assert word.comment


def test_every_setting_of_a_rail_is_there() -> None:
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    rails = FILES[1]["policies"]["experiments"]["voice-ab"]["guard_rails"]
    for name in rails:
        assert re.search(rf"\b{name}\b", text), name
