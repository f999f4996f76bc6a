"""The page on keys and budgets: its configuration is one, and its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from relay.config import parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "governance.md"
PEPPER = "pepper-of-the-tests-0123456789abcdef"


def test_first_steps_work_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTRELAY_PEPPER", PEPPER)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    (document,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    parse(yaml.safe_load(document))
    (tmp_path / "relay.yaml").write_text(document)
    (shell,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"relay ((?:keys|budgets) [^\n\")]*)", shell)
    assert len(lines) == 2
    for line in lines:
        ran = CliRunner().invoke(app, line.split())
        assert ran.exit_code == 0, ran.output


def test_commands_of_the_page_are_there() -> None:
    rows = re.findall(r"\| `relay (\w+) ([a-z\\|]+)` \|", PAGE.read_text())
    assert len(rows) == 8
    for group, verbs in rows:
        told = CliRunner().invoke(app, [group, "--help"]).stdout
        for verb in verbs.split("\\|"):
            assert verb in told, f"{group} {verb}"
