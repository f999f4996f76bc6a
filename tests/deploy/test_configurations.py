"""The configurations that come with the deployment files are taken, and fit what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.files import (
    DEPLOY,
    STATE_FOLDER,
    configuration,
    document,
    documents,
    drain_s,
    longest_answer_s,
)

CONFIGURATIONS = ["relay.yaml", "systemd/relay.yaml"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_is_taken(name: str, tmp_path: Path) -> None:
    config = configuration(name, tmp_path)
    assert not config.exposed
    assert config.store is not None
    assert config.server.admin.is_loopback
    assert config.audit is not None
    assert config.audit.anchor == str(tmp_path / "audit.anchor"), "the rest is read-only"
    assert "canary" not in repr(config)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_longest_answer_may_end_while_it_drains(name: str) -> None:
    assert drain_s(name) >= longest_answer_s(name)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_anchor_is_written_beside_it(name: str) -> None:
    """Its folder, /etc/rtrelay, is read-only to the relay, and there is the default."""
    anchor = document(name)["audit"]["anchor"]
    assert anchor is None or anchor.startswith(f"{STATE_FOLDER}/")


def test_every_yaml_file_is_yaml() -> None:
    paths = list(DEPLOY.rglob("*.yaml"))
    assert len(paths) >= 10
    for path in paths:
        assert all(documents(str(path.relative_to(DEPLOY)))), path


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            for sign in ("sk-", "PRIVATE KEY", "rta_", "rtk_"):
                assert sign not in text, (path, sign)
            assert not re.search(r"://\w*:[^&@\s]+@", text), path  # a password in an address
