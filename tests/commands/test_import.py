"""`relay import`: what is written where, and with which status it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from relay.cli import app

MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)
"""A hundred million pairs, were they copied."""
SECRET = "canary-0123456789"
LITELLM: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "fast",
            "litellm_params": {"model": "groq/llama-3.1-8b-instant", "api_key": SECRET},
        }
    ],
    "litellm_settings": {"cache": True},
}
PORTKEY = {
    "strategy": {"mode": "fallback"},
    "targets": [
        {"provider": "groq", "api_key": SECRET, "override_params": {"model": "a"}},
        {"provider": "xai", "override_params": {"model": "b"}},
    ],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(LITELLM))
    (tmp_path / "portkey.json").write_text(json.dumps(PORTKEY))
    return tmp_path


def run(*arguments: str, status: int = 0) -> Result:
    ran = CliRunner().invoke(app, ["import", *arguments])
    assert ran.exit_code == status, ran.output
    assert SECRET not in ran.output
    return ran


def test_file_and_report_go_their_ways(folder: Path) -> None:
    ran = run("litellm", "config.yaml")
    assert set(yaml.safe_load(ran.stdout)) == {"providers", "models"}
    assert "litellm_settings.cache" in ran.stderr
    assert "GROQ_API_KEY" in ran.stderr


def test_a_file_of_something_else(folder: Path) -> None:
    (folder / "config.yaml").write_text("foo: 1")
    (folder / "portkey.json").write_text('{"foo": 1}')
    ran = run("litellm", "config.yaml", "-o", "relay.yaml", status=2)
    assert ran.stderr == "relay: no LiteLLM configuration (model_list is missing)\n"
    ran = run("portkey", "portkey.json", "-o", "relay.yaml", status=2)
    assert "no Portkey configuration (none of strategy, targets, provider" in ran.stderr
    assert not (folder / "relay.yaml").exists()


def test_what_is_written_is_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("litellm", "config.yaml", "-o", "relay.yaml", "--report", "report.md")
    assert "`litellm_settings.cache`" in (folder / "report.md").read_text()
    monkeypatch.setenv("GROQ_API_KEY", "k")
    checked = CliRunner().invoke(app, ["check", "-c", "relay.yaml"])
    assert checked.exit_code == 0
    assert "groq/llama-3.1-8b-instant" in checked.stdout


def test_what_the_environment_holds_is_not_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "no key with blanks")
    assert "no key" not in run("litellm", "config.yaml").output


def test_strict_ends_with_1_where_something_is_left(folder: Path) -> None:
    run("litellm", "config.yaml", "--strict", status=1)
    whole = {"model_list": LITELLM["model_list"]}
    (folder / "whole.yaml").write_text(yaml.safe_dump(whole))
    assert "Not carried over" not in run("litellm", "whole.yaml", "--strict").stderr


def test_nothing_is_written_over(folder: Path) -> None:
    (folder / "relay.yaml").write_text("mine")
    ran = run("litellm", "config.yaml", "-o", "relay.yaml", status=2)
    assert "relay.yaml is there already" in ran.stderr
    assert (folder / "relay.yaml").read_text() == "mine"
    run("litellm", "config.yaml", "-o", "relay.yaml", "--force")
    assert "groq" in (folder / "relay.yaml").read_text()


def test_portkey(folder: Path) -> None:
    ran = run("portkey", "portkey.json", "--name", "talk")
    assert list(yaml.safe_load(ran.stdout)["models"]) == ["talk"]
    assert "targets[1]" in ran.stderr


@pytest.mark.parametrize(
    ("of", "text", "told"),
    [
        ("litellm", f"a: [{SECRET}\n", "no valid YAML in line"),
        ("litellm", "- a\n", "no mapping"),
        ("litellm", "", "no mapping"),
        ("litellm", MERGES, "odd holds more than 100000 keys"),
        ("litellm", f"router_settings: {{timeout: {'9' * 400}}}", "more than 300 digits"),
        ("litellm", f"router_settings: {{timeout: 0x{'f' * 5000}}}", "more than 300 digits"),
        ("litellm", f"a: 1{':1' * 400}.5", "no valid YAML"),
        ("portkey", f'{{"request_timeout": {"9" * 5000}}}', "more than 300 digits"),
        ("portkey", '{"api_key": "' + SECRET, "no valid JSON in line 1"),
        ("portkey", "[]", "no mapping"),
        ("portkey", "[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_none(folder: Path, of: str, text: str, told: str) -> None:
    (folder / "odd").write_text(text)
    assert told in run(of, "odd", status=2).stderr


def test_no_file(folder: Path) -> None:
    assert "cannot read gone.yaml" in run("litellm", "gone.yaml", status=2).stderr


def test_a_time_beyond_all_is_a_day_at_most(folder: Path) -> None:
    document = {**LITELLM, "litellm_settings": {"request_timeout": 1e308}}
    (folder / "long.yaml").write_text(yaml.safe_dump(document))
    run("litellm", "long.yaml")


def test_merges_are_read(folder: Path) -> None:
    (folder / "merged.yaml").write_text(
        "base: &base {model: groq/llama-3.1-8b-instant, api_key: os.environ/K}\n"
        "model_list:\n  - model_name: fast\n    litellm_params: {<<: *base}\n"
    )
    assert "llama-3.1-8b-instant" in run("litellm", "merged.yaml").stdout


def test_signs_of_control_are_shown_and_not_obeyed(folder: Path) -> None:
    document = {**LITELLM, "\x1b]0;title\x07\u202e\nforged": 1}
    (folder / "odd.yaml").write_text(yaml.safe_dump(document))
    ran = run("litellm", "odd.yaml", "--report", "report.md")
    for text in (ran.stderr, (folder / "report.md").read_text()):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "\\x1b]0;title\\x07\\u202e\\nforged" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "new.yaml", "--report", "there.md"), "there.md is there already"),
        (("-o", "x", "--report", "./x", "--force"), "x and x are the same file"),
        (("-o", "there.md", "--report", "link.md", "--force"), "are the same file"),
        (("-o", "config.yaml", "--force"), "config.yaml is the file that is read"),
        (("--report", "config-link.yaml", "--force"), "is the file that is read"),
        (("-o", "new.yaml", "--report", "."), "there already"),
        (("-o", "new.yaml", "--report", ".", "--force"), "is a directory"),
        (("-o", "new.yaml", "--report", "gone/report.md"), "cannot write gone/report.md"),
    ],
)
def test_all_is_written_or_nothing(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    (folder / "there.md").write_text("mine")
    (folder / "link.md").symlink_to("there.md")
    (folder / "config-link.yaml").hardlink_to(folder / "config.yaml")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert told in run("litellm", "config.yaml", *arguments, status=2).stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_a_link_stays_one_and_keeps_the_mode(folder: Path) -> None:
    (folder / "there.yaml").write_text("old")
    (folder / "there.yaml").chmod(0o600)
    (folder / "link.yaml").symlink_to("there.yaml")
    run("litellm", "config.yaml", "-o", "link.yaml", "--report", "/dev/null", "--force")
    assert (folder / "link.yaml").is_symlink()
    assert "groq" in (folder / "there.yaml").read_text()
    assert (folder / "there.yaml").stat().st_mode & 0o777 == 0o600
    assert not Path("/dev/null").is_file()


def test_anchors_in_place_of_a_text_are_not_spelt_out(folder: Path) -> None:
    anchors = "a0: &a0 {k: x}\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
    )
    (folder / "odd.yaml").write_text(
        f"{anchors}model_list:\n  - model_name: fast\n    litellm_params:"
        " {model: groq/a, api_base: *a8, api_key: *a8, organization: *a8}\n"
    )
    assert "api_base`: a text is expected" in run("litellm", "odd.yaml").stderr
