"""`relay orgs|teams|keys|budgets|admins` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from relay.cli import app

CONFIG = """
store: {url: "sqlite:///%s"}
auth: {pepper: "${CLI_PEPPER}"}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLI_PEPPER", "pepper-of-the-tests-0123456789abcdef")
    path = tmp_path / "relay.yaml"
    path.write_text(CONFIG % (tmp_path / "relay.db"))
    return path


def run(config: Path, *arguments: str) -> Result:
    group, verb, *rest = arguments
    return CliRunner().invoke(app, [group, verb, "-c", str(config), *rest], env={"COLUMNS": "200"})


def good(config: Path, *arguments: str) -> str:
    ran = run(config, *arguments)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_first_steps(config: Path) -> None:
    secret = good(config, "keys", "create", "--team", "voice", "--create", "--quiet").strip()
    assert secret.startswith("rtk_")
    (row,) = json.loads(good(config, "keys", "list", "--json"))
    assert secret not in good(config, "keys", "list")
    assert good(config, "orgs", "list").count("default") == 1
    rotated = good(config, "keys", "rotate", row["id"], "--overlap", "0s", "--quiet").strip()
    assert rotated != secret
    good(config, "keys", "change", row["id"], '{"limits": {"rpm": 6}}')
    good(config, "keys", "revoke", row["id"])
    shown = json.loads(good(config, "keys", "show", row["id"]))
    assert shown["limits"] == {"rpm": 6}
    assert shown["revoked_at_us"]
    assert "mac" not in repr(shown)


def test_budgets_in_dollars(config: Path) -> None:
    good(config, "orgs", "create", "acme")
    good(config, "teams", "create", "voice", "--org", "acme", "--rpm", "60")
    budget_id = good(config, "budgets", "create", "--team", "voice", "--usd", "12.34").strip()
    (row,) = json.loads(good(config, "budgets", "list", "--json"))
    assert (row["id"], row["limit_micro"], row["period"]) == (budget_id, 12_340_000, "month")
    good(config, "budgets", "set", budget_id, "--usd", "0.000001")
    assert "$0.000001" in good(config, "budgets", "list")
    good(config, "budgets", "set", budget_id, "--soft", "--alert", "50", "--alert", "90")
    (row,) = json.loads(good(config, "budgets", "list", "--json"))
    assert (row["limit_micro"], row["is_hard"], row["alert_percents"]) == (1, 0, [50, 90])
    good(config, "budgets", "set", budget_id, "--hard", "--no-alerts")
    (row,) = json.loads(good(config, "budgets", "list", "--json"))
    assert (row["limit_micro"], row["is_hard"], row["alert_percents"]) == (1, 1, [])
    assert "name what to change" in run(config, "budgets", "set", budget_id).stderr
    good(config, "budgets", "create", "--tag", "trial", "--usd", "5", "--soft")


def test_administrators(config: Path) -> None:
    token = good(config, "admins", "create", "ann", "--role", "owner", "--quiet").strip()
    assert token.startswith("rta_")
    assert "ann" in good(config, "admins", "list")
    good(config, "admins", "revoke", "ann")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("keys", "create", "--team", "nobody"), "no team 'nobody'"),
        (("budgets", "create", "--usd", "5"), "name one of"),
        (("budgets", "create", "--usd", "five", "--org", "x"), "--usd"),
        (("admins", "create", "a", "--role", "king"), "role must be one of"),
        (("keys", "rotate", "nothing", "--overlap", "soon"), "--overlap"),
        (("keys", "change", "nothing", "{"), "no JSON"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    config: Path, arguments: tuple[str, ...], words: str
) -> None:
    ran = run(config, *arguments)
    assert ran.exit_code == 1
    assert words in ran.stderr
    assert "Traceback" not in ran.output


def test_without_keys_there_is_nothing_to_administer(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("store: {}\n")
    ran = run(path, "orgs", "list")
    assert ran.exit_code == 1
    assert "there are no keys without it" in ran.stderr


def test_keys_without_names_are_given_some(config: Path) -> None:
    for _ in range(2):
        good(config, "keys", "create", "--team", "voice", "--create", "--quiet")
    first, second = json.loads(good(config, "keys", "list", "--json"))
    assert first["name"] != second["name"]
    again = run(config, "keys", "create", "--team", "voice", "--name", first["name"])
    assert again.exit_code == 1
    assert "another one has the name" in again.stderr


def test_an_administrators_token_is_rotated(config: Path) -> None:
    before = good(config, "admins", "create", "root", "--role", "owner", "--quiet").strip()
    after = good(config, "admins", "rotate", "root", "--overlap", "0s", "--quiet").strip()
    assert after.startswith("rta_")
    assert after != before
    old, new = json.loads(good(config, "admins", "list", "--json"))
    assert old["revoked_at_us"] is not None
    assert (new["name"], new["role"], new["revoked_at_us"]) == ("root", "owner", None)


def test_a_name_is_shown_as_it_is(config: Path) -> None:
    for name in ("[/x]", "[red]y"):  # rich would take them for its own words
        good(config, "orgs", "create", name)
        assert name in good(config, "orgs", "list")
    scopes = '{"scopes": {"models": ["[/z]"]}}'
    good(config, "keys", "create", "--team", "voice", "--create", "--name", "k", "--quiet")
    good(config, "keys", "change", "k", scopes)
    assert "[/z]" in good(config, "keys", "list")


def test_limits_are_set_as_a_whole(config: Path) -> None:
    def limits(group: str) -> object:
        (row,) = json.loads(good(config, group, "list", "--json"))
        return row["limits"]

    good(config, "orgs", "create", "acme", "--rpm", "60", "--input-tpm", "1000")
    assert limits("orgs") == {"rpm": 60, "input_tpm": 1000}
    good(config, "orgs", "limit", "acme", "--output-tpm", "7", "--generations", "8")
    assert limits("orgs") == {"output_tpm": 7, "generations": 8}
    good(config, "teams", "create", "voice", "--org", "acme", "--sessions", "3")
    assert limits("teams") == {"sessions": 3}
    good(config, "teams", "limit", "voice")
    assert limits("teams") in (None, {})
    good(config, "keys", "create", "--team", "voice", "--rpm", "5", "--quiet")
    assert limits("keys") == {"rpm": 5}
    assert "--rpm" in run(config, "orgs", "limit", "acme", "--rpm", "0").stderr


def test_zones_of_a_key(config: Path) -> None:
    good(config, "keys", "create", "--team", "voice", "--create", "--name", "k", "--zone", "eu")
    good(config, "keys", "create", "--team", "voice", "--name", "free", "--quiet")
    assert json.loads(good(config, "keys", "show", "k"))["scopes"] == {"zones": ["eu"]}
    assert json.loads(good(config, "keys", "show", "free"))["scopes"] == {}
    wrong = run(config, "keys", "create", "--team", "voice", "--name", "x", "--zone", "EU")
    assert wrong.exit_code != 0
    assert "zones must hold names of data zones" in wrong.output
