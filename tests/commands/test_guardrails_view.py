"""What `relay check` says of guardrails."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from relay.commands.check import find, print_routes
from relay.commands.guardrails_view import guardrails_table
from relay.config import ConfigError, parse

FILE = """
providers:
  p: {wire: openai_chat, base_url: "http://127.0.0.1:9/v1", auth: none}
models:
  fast: {candidates: [{provider: p, model: m}]}
guardrails:
  rails:
    words:
      scan: {kind: denied, terms: [swordfish]}
      where: {models: [fast]}
      except: {tenants: [t_1]}
    advice:
      scan: {kind: judge, model: fast, rule: No advice., check_every_chars: 200}
      sides: [output]
      fail: open
"""


def test_each_is_told_with_what_it_is_worth(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(FILE, encoding="utf-8")
    found = find(path, {})
    console = Console(width=240, file=StringIO())
    with console.capture() as shown:
        print_routes(console, found.config, found.catalog)
    said = " ".join(shown.get().split())
    assert "guardrails (handed through unread: auto)" in said
    assert "barrier: what it knows by its letters does not pass" in said
    assert "signal: a text goes on where nobody could say in time" in said
    assert "models: fast" in said
    assert "but tenants: t_1" in said
    assert "judge: every 200 characters, before the release" in said


def test_none_are_not_told() -> None:
    assert guardrails_table(parse({}, {})) is None


def test_what_serve_would_refuse_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    wrong = FILE.replace("kind: denied, terms: [swordfish]", 'kind: patterns, patterns: {a: "("}')
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"guardrails\.rails\.words\.scan\.patterns\.a"):
        find(path, {})
