"""The compose file against what it mounts; it was not started here."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.files import CLOSE_S, DEPLOY, document, drain_s, ports, seconds, secret_names

RELAYS = ("relay-1", "relay-2")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return document("compose.yaml")


def test_what_is_mounted_is_declared_and_there(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    assert {name for row in services for name in row.get("secrets", ())} == set(compose["secrets"])
    used = {mount["source"] for row in services for mount in row.get("configs", ())}
    assert used == set(compose["configs"])
    for row in compose["configs"].values():
        assert (DEPLOY / row["file"]).is_file()
    folders = {row["file"].rpartition("/")[0] for row in compose["secrets"].values()}
    assert folders == {"./secrets"}
    assert "deploy/secrets/" in (DEPLOY.parent / ".gitignore").read_text().splitlines()
    networks = {name for row in services for name in row["networks"]}
    assert networks == set(compose["networks"])
    assert (DEPLOY / compose["x-relay"]["build"]["context"] / "requirements.lock").is_file()
    assert (DEPLOY.parent / compose["x-relay"]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", RELAYS)
def test_a_relay(compose: dict[str, Any], name: str) -> None:
    relay = compose["services"][name]
    assert set(relay["secrets"]) == secret_names("relay.yaml")
    assert relay["configs"][0]["target"] == relay["command"][2]
    assert seconds(relay["stop_grace_period"]) >= drain_s("relay.yaml") + CLOSE_S
    assert relay["read_only"]
    assert relay["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in relay["security_opt"]
    assert "ports" not in relay  # only the balancer is reached from outside
    assert "environment" not in relay


def test_the_admin_port_is_nowhere(compose: dict[str, Any]) -> None:
    published = [port for row in compose["services"].values() for port in row.get("ports", ())]
    assert published == ["443:8443"]
    assert str(ports("relay.yaml")["admin"]) not in str(compose["services"])


def test_stores_are_not_on_a_network_that_leads_out(compose: dict[str, Any]) -> None:
    for name in ("postgres", "redis"):
        row = compose["services"][name]
        assert row["networks"] == ["back"]
        assert "healthcheck" in row
    assert compose["networks"]["back"]["internal"]
    text = str(compose)
    assert not re.search(r"PASSWORD'?: (?!/run/secrets)\w*[a-z]", text)


def test_the_balancer_waits_for_relays_and_knows_them(compose: dict[str, Any]) -> None:
    assert set(compose["services"]["balancer"]["depends_on"]) == set(RELAYS)
    listeners = ports("relay.yaml")
    for name in ("proxy/nginx.conf", "proxy/envoy.yaml"):
        text = (DEPLOY / name).read_text("utf-8")
        for relay in RELAYS:
            for kind in ("grpc", "http"):
                assert re.search(rf"{relay}(:|, port_value: ){listeners[kind]}\b", text), (
                    name,
                    relay,
                    kind,
                )
