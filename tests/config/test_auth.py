"""`auth`: peppers that are strong, from outside and shown nowhere; and a store for keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import AuthConfig, Config, ConfigError, parse
from relay.governance.access import peppers_of

PEPPER = "canary-pepper-0123456789-abcdefghijkl"
OLD = "canary-older-0123456789-abcdefghijklm"
ENVIRONMENT = {"PEPPER": PEPPER, "OLD": OLD, "SHORT": "canary-short", "SAME": "canary" + "y" * 40}


def parsed(auth: Any, **more: Any) -> Config:
    return parse({"store": {}, "auth": auth, **more}, ENVIRONMENT)


def fault_of(auth: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(auth)
    assert "canary" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    config = parsed({"pepper": "${PEPPER}"})
    assert config.auth is not None
    assert (config.auth.sync_ms, config.auth.stale_s, config.auth.old_peppers) == (250, 60, ())
    assert config.has_keys
    assert not parse({}).has_keys


def test_peppers_are_taken_up_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text(f"{PEPPER}\n")
    config = parse(
        {"store": {}, "auth": {"pepper": "${file:pepper}", "old_peppers": ["${OLD}"]}},
        ENVIRONMENT,
        folder=tmp_path,
    )
    assert config.auth is not None
    assert "canary" not in f"{config!r} {config} {config.model_dump_json()}"
    peppers = peppers_of(config.auth)
    assert len(peppers.all) == 2
    assert "canary" not in repr(peppers.all)
    assert peppers.current.id == peppers_of(AuthConfig.model_validate(config.auth)).current.id


@pytest.mark.parametrize(
    ("auth", "fault"),
    [
        ({}, "auth.pepper: is required"),
        (None, ""),
        ({"pepper": PEPPER}, "auth.pepper: a secret is given as ${ENV_NAME}"),
        ({"pepper": "${NONE}"}, "auth.pepper: the environment variable NONE is not set"),
        ({"pepper": "${SHORT}"}, "auth.pepper: a pepper has at least 32 characters"),
        ({"pepper": "${SAME}"}, "auth.pepper: a pepper is made at random"),
        (
            {"pepper": "${PEPPER}", "old_peppers": ["${OLD}", "${SHORT}"]},
            "auth.old_peppers[1]: a pepper has at least 32",
        ),
        ({"pepper": "${PEPPER}", "old_peppers": "${OLD}"}, "auth.old_peppers: must be a list"),
        ({"pepper": "${PEPPER}", "sync_ms": 1000}, "auth.sync_ms"),
        ({"pepper": "${PEPPER}", "stale_s": 1}, "auth.stale_s"),
        ({"pepper": "${PEPPER}", "peper": 1}, "auth.peper: unknown key; did you mean 'pepper'?"),
    ],
)
def test_faults_are_named(auth: Any, fault: str) -> None:
    if auth is None:
        assert parsed(None).auth is None
    else:
        assert fault_of(auth).startswith(fault)


def test_keys_need_a_store() -> None:
    with pytest.raises(ConfigError, match="auth: keys are kept in a store"):
        parse({"auth": {"pepper": "${PEPPER}"}}, ENVIRONMENT)


def test_a_change_needs_a_restart() -> None:
    one, other = parsed({"pepper": "${PEPPER}"}), parsed({"pepper": "${OLD}", "stale_s": 30})
    assert one.needing_restart(other) == ["auth.pepper", "auth.stale_s"]
    assert one.needing_restart(parse({}, ENVIRONMENT)) == ["store", "auth"]
    assert one.needing_restart(one) == []
