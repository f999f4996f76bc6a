"""`audit`: what is refused and how it is named; what is told of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.auditing import described, keys_of, secrets_of, trail_of
from relay.config import Config, ConfigError, changed_paths, fingerprint_of, parse, secrets_in
from relay.config_warnings import warnings
from relay.governance.audit_chain import AuditKey
from relay.governance.pepper import Pepper
from relay.store.engine import engine_for

KEY = "audit-canary-0123456789abcdefghij"
ENVIRONMENT = {
    "AUDIT_KEY": KEY,
    "PEPPER": "pepper-canary-0123456789abcdefghij",
    "OLD_PEPPER": "old-pepper-canary-0123456789abcdefg",
    "SHORT": "x" * 31,
    "SAME": "x" * 40,
    "API_KEY": "sk-canary-1234567890",
    "PASSWORD": "canary-password",
}


def read(folder: Path, audit: Any, **document: Any) -> Config:
    whole = {"store": {}, "audit": audit, **document}
    return parse(whole, ENVIRONMENT, folder=folder)


def fault_of(folder: Path, audit: Any, **document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, audit, **document)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    audit = read(tmp_path, {"key": "${AUDIT_KEY}"}).audit
    assert audit is not None
    assert audit.anchor == str(tmp_path / "audit.anchor")
    assert (audit.checkpoint_s, audit.syslog, audit.max_waiting) == (60, None, 10_000)
    assert Config().audit is None


@pytest.mark.parametrize(
    ("audit", "fault"),
    [
        ({}, "audit.key: needed where there is no auth.pepper"),
        ({"key": KEY}, "audit.key: a secret is given as ${ENV_NAME}"),
        ({"key": "${SHORT}"}, "audit.key: at least 32 characters"),
        ({"key": "${SAME}"}, "audit.key: at least 32 characters are needed, made at random"),
        ({"key": "${AUDIT_KEY}", "old_keys": ["${SHORT}"]}, "audit.old_keys[0]: at least 32"),
        ({"key": "${AUDIT_KEY}", "anchor": "none/file"}, "audit.anchor: there is no folder"),
        ({"key": "${AUDIT_KEY}", "anchor": "."}, "audit.anchor: a file is expected"),
        ({"key": "${AUDIT_KEY}", "anchor": ""}, "audit.anchor: a file is expected"),
        ({"key": "${AUDIT_KEY}", "syslog": "localhost:514"}, "audit.syslog: udp://HOST:PORT"),
        ({"key": "${AUDIT_KEY}", "checkpoint_s": 0}, "audit.checkpoint_s: "),
        ({"key": "${AUDIT_KEY}", "enabled": False}, "audit.enabled: "),
    ],
)
def test_fault_names_its_field(tmp_path: Path, audit: Any, fault: str) -> None:
    told = fault_of(tmp_path, audit)
    assert fault in told
    assert KEY not in told


def test_store_is_needed(tmp_path: Path) -> None:
    assert "audit: needs a store" in fault_of(tmp_path, {"key": "${AUDIT_KEY}"}, store=None)


def test_log_without_anchors_is_warned_of(tmp_path: Path) -> None:
    config = read(tmp_path, {"key": "${AUDIT_KEY}", "anchor": None})
    assert "audit.anchor is null" in "\n".join(warnings(config))
    assert "audit.anchor" not in "\n".join(warnings(read(tmp_path, {"key": "${AUDIT_KEY}"})))


def test_change_needs_a_restart(tmp_path: Path) -> None:
    one = read(tmp_path, {"key": "${AUDIT_KEY}"})
    other = read(tmp_path, {"key": "${AUDIT_KEY}", "checkpoint_s": 5})
    assert one.needing_restart(other) == ["audit.checkpoint_s"]
    assert one.needing_restart(one) == []


def test_keys_are_the_present_one_and_older_ones(tmp_path: Path) -> None:
    config = read(tmp_path, {"key": "${AUDIT_KEY}", "old_keys": ["${AUDIT_KEY}"]})
    assert [key.id for key in keys_of(config)] == 2 * [AuditKey.from_text(KEY).id]
    assert keys_of(Config()) == ()
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
    with pytest.raises(ValueError, match="nothing is audited"):
        trail_of(Config(), engine, anchors=True)
    engine.dispose()


def test_keys_bring_an_audit_log_with_them(tmp_path: Path) -> None:
    """There is no way to have the one without the other."""
    auth = {"pepper": "${PEPPER}", "old_peppers": ["${OLD_PEPPER}"]}
    made = [
        AuditKey(Pepper(ENVIRONMENT[name]).key("audit")).id for name in ("PEPPER", "OLD_PEPPER")
    ]
    for audit in (None, dict[str, Any]()):
        config = read(tmp_path, audit, auth=auth)
        assert config.audit is not None
        assert config.audit.anchor == str(tmp_path / "audit.anchor")
        assert [key.id for key in keys_of(config)] == made
    own = AuditKey.from_text(KEY).id
    config = read(tmp_path, {"key": "${AUDIT_KEY}"}, auth=auth)
    assert [key.id for key in keys_of(config)] == [own, *made]
    config = read(tmp_path, {"old_keys": ["${AUDIT_KEY}"]}, auth=auth)
    assert [key.id for key in keys_of(config)] == [made[0], own, made[1]]
    assert "audit.checkpoint_s" in fault_of(tmp_path, {"checkpoint_s": 0}, auth=auth)
    assert fault_of(tmp_path, None, auth=auth, store=None).startswith("auth: keys are kept")


# --- what is told of a configuration ----------------------------------------------------------


def whole(folder: Path, **changed: Any) -> Config:
    row = {
        "wire": "openai_chat",
        "base_url": "https://x.test/v1",
        "api_key": "${API_KEY}",
        "headers": {"x-team": "canary-header-value"},
        "egress_proxy": "http://me:${PASSWORD}@proxy.test:3128",
        **changed,
    }
    store = {
        "url": "postgresql://relay:${PASSWORD}@db.test/relay",
        "redis": "redis://:${PASSWORD}@r",
    }
    return read(folder, {"key": "${AUDIT_KEY}"}, store=store, providers={"p": row})


def test_every_secret_is_known_and_hidden(tmp_path: Path) -> None:
    config = whole(tmp_path)
    known = list(secrets_in(config))
    for secret in (KEY, "sk-canary-1234567890", "canary-header-value"):
        assert secret in known
    hide = secrets_of(config).hide
    for secret in (*known, "canary-password"):
        assert "canary" not in hide(f"a text with {secret} in it")
    assert hide("sqlite:///relay.db") == "sqlite:///relay.db"
    assert "sqlite" not in "".join(secrets_in(read(tmp_path, {"key": "${AUDIT_KEY}"})))


def test_description_has_no_values(tmp_path: Path) -> None:
    before, after = whole(tmp_path), whole(tmp_path, api_key="${AUDIT_KEY}", models=["m"])
    said = described(after, before)
    assert said["changed"] == ["providers.p.api_key", "providers.p.models"]
    assert said["providers"] == ["p"]
    assert "canary" not in repr(said)
    assert fingerprint_of(after) != fingerprint_of(before)
    assert fingerprint_of(whole(tmp_path)) == fingerprint_of(before)
    assert fingerprint_of(whole(tmp_path, api_key="${AUDIT_KEY}")) == fingerprint_of(before)


def test_paths_of_what_came_and_went_are_told(tmp_path: Path) -> None:
    before = read(tmp_path, {"key": "${AUDIT_KEY}"})
    after = whole(tmp_path)
    assert changed_paths(before, after) == ["store.url", "store.redis", "providers.p"]
    assert changed_paths(after, before) == ["store.url", "store.redis", "providers.p"]
