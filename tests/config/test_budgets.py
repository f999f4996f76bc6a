"""`budgets`: where alerts go, and what a request without a limit gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError, json_schema, parse

SECRET = "canary-0123456789abcdef0123456789"
STORE = {"url": "sqlite:///x.db"}


def document(**alerts: Any) -> dict[str, Any]:
    given = {"url": "https://hooks.test/relay", "secret": "${SECRET}", **alerts}
    return {"store": STORE, "budgets": {"alerts": given}}


def fault_of(given: object, secret: str = SECRET) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(given, {"SECRET": secret})
    return str(raised.value)


def test_defaults() -> None:
    budgets = parse({"store": STORE, "budgets": {}}).budgets
    assert budgets is not None
    assert (budgets.unset_max_tokens, budgets.default_max_tokens) == ("set", 4096)
    assert budgets.lease_s == 30
    assert budgets.alerts is None


def test_alerts() -> None:
    config = parse(document(), {"SECRET": SECRET})
    assert config.budgets is not None
    alerts = config.budgets.alerts
    assert alerts is not None
    assert alerts.url.get_secret_value() == "https://hooks.test/relay"
    assert alerts.secret.get_secret_value() == SECRET
    assert SECRET not in repr(config)
    assert "hooks.test" not in repr(config)


def test_address_may_hold_references(tmp_path: Path) -> None:
    given = document(url="https://hooks.test/${TOKEN}")
    config = parse(given, {"SECRET": SECRET, "TOKEN": "abc"}, folder=tmp_path)
    assert config.budgets is not None
    assert config.budgets.alerts is not None
    assert config.budgets.alerts.url.get_secret_value() == "https://hooks.test/abc"


@pytest.mark.parametrize("host", ["127.0.0.1:9", "[::1]:9", "localhost", "127.8.8.8"])
def test_plain_http_for_this_machine(host: str) -> None:
    assert parse(document(url=f"http://{host}/x"), {"SECRET": SECRET}).budgets is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.test/x",
        "http://127.0.0.1.test/x",
        "http://10.0.0.1/x",
        "ftp://hooks.test/x",
        "hooks.test",
        "https://",
        "https://user:pw@hooks.test/x",
        "https://hooks.test/x#part",
        "https://hooks.test/ x",
        7,
    ],
)
def test_wrong_address(url: object) -> None:
    fault = fault_of(document(url=url))
    assert "budgets.alerts.url" in fault
    assert "pw" not in fault.replace("password", "")


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_secret_is_no_short_one(secret: str) -> None:
    fault = fault_of(document(), secret)
    assert "budgets.alerts.secret" in fault
    assert "32 characters" in fault or "not set" in fault


def test_secret_is_not_in_the_file() -> None:
    fault = fault_of(document(secret=SECRET))
    assert "budgets.alerts.secret" in fault
    assert SECRET not in fault


def test_secret_is_needed() -> None:
    given = document()
    del given["budgets"]["alerts"]["secret"]
    assert "budgets.alerts.secret" in fault_of(given)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unset_max_tokens", "ignore"),
        ("default_max_tokens", 0),
        ("lease_s", 1),
        ("lease", 30),
        ("alerts", {"url": "https://x.test", "secret": "${SECRET}", "timeout_ms": 0}),
        ("alerts", {"url": "https://x.test", "secret": "${SECRET}", "give_up_h": 0}),
    ],
)
def test_wrong_field_is_named(field: str, value: object) -> None:
    assert f"budgets.{field}" in fault_of({"store": STORE, "budgets": {field: value}})


@pytest.mark.parametrize("given", [{}, {"store": {**STORE, "ledger": False}}])
def test_budgets_are_kept_in_a_store(given: dict[str, Any]) -> None:
    assert "budgets" in fault_of({**given, "budgets": {}})


def test_schema_names_the_fields() -> None:
    assert "budgets" in json_schema()["properties"]


def test_a_reload_takes_up_all_but_the_lease() -> None:
    before = parse({"store": STORE, "budgets": {"default_max_tokens": 100}})
    after = parse({"store": STORE, "budgets": {"lease_s": 60, "unset_max_tokens": "refuse"}})
    assert before.needing_restart(after) == ["budgets.lease_s"]
    assert parse({"store": STORE}).needing_restart(before) == []
