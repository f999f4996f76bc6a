"""docs/report.md: its commands are run as they stand, and its figures are those of the code."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from relay.config import parse
from relay.observability.report.build import DEAD_AIR_MS, MAX_GROUPS
from relay.observability.report.objectives import LEAST, WINDOWS
from relay.observability.report.page import _ANSWERS, _HEDGED
from relay.observability.report.sketch import FEW, RELATIVE_ERROR
from relay.store.engine import engine_for, migrate
from relay.whatif.recorded import SPEAKABLE_TOKENS
from tests.fakes.log_lines import attempt, line
from tests.fakes.usage_rows import DAY_US, LOSER, generation, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "report.md"
TEXT = PAGE.read_text(encoding="utf-8")
(SHELL,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
(YAML,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
PROVIDERS = """
store: {url: 'sqlite:///relay.db'}
providers: {lab: {wire: openai_chat, base_url: 'http://127.0.0.1:9/v1', auth: none}}
models: {fast: {candidates: [{provider: lab, model: m}]}}
"""


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = engine_for("sqlite:///relay.db")
    migrate(engine)
    lately_us = time.time_ns() // 1000 - DAY_US
    late = generation(3, admitted_at_us=lately_us)
    write(engine, generation(1), generation(2, [{}, LOSER]), late)
    engine.dispose()
    Path("copy.db").write_bytes(Path("relay.db").read_bytes())
    Path("relay.yaml").write_text(PROVIDERS + YAML)
    Path("relay.log").write_bytes(line([attempt("a/m", first_us=5)], received_s=0))
    commands = [shlex.split(each) for each in SHELL.splitlines()]
    assert len(commands) == 5
    for words in commands:
        assert words[0] == "relay"
        ran = CliRunner().invoke(app, words[1:])
        assert ran.exit_code == 0, f"{shlex.join(words)}: {ran.output}"
        if "json" in words:
            assert json.loads(ran.stdout)["objectives"][0]["percent"] == 99
    assert "2 generations" in Path("may.html").read_text()
    assert "voice (99 % of fast within 800 ms)" in Path("may.html").read_text()
    assert "## By team" in Path("teams.md").read_text()
    assert "1 generations" in Path("report.html").read_text()


def test_the_objectives_are_taken() -> None:
    found = parse(yaml.safe_load(PROVIDERS + YAML), {}).objectives
    assert found["voice"].aliases == ("fast",)
    assert found["everybody"].first_content_ms == 2500


def test_columns_are_explained() -> None:
    for column in (*_ANSWERS[1:], *_HEDGED[2:]):
        if column not in ("attempts", "cost", "at most"):
            assert f"`{column}`" in TEXT, column


def test_figures() -> None:
    assert f"under {FEW} first contents" in TEXT
    assert f"with {LEAST} generations in it" in TEXT
    assert (
        f"| `--dead-air` | milliseconds beyond which a wait is dead air; {DEAD_AIR_MS:.0f} |"
        in TEXT
    )
    assert "within 1 %" in TEXT
    assert RELATIVE_ERROR == 0.01
    assert (MAX_GROUPS, SPEAKABLE_TOKENS) == (50, 8)
    assert "the fifty that came first" in TEXT
    assert "the first eight tokens" in TEXT
    rates = re.findall(r"^\| \d .*? \| ([\d.]+) \| (page|ticket) \|", TEXT, re.MULTILINE)
    assert [(float(rate), told) for rate, told in rates] == [
        (window.burn, window.told) for window in WINDOWS
    ]
