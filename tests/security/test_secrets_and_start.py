"""Secrets that show themselves to nobody, and what a relay does not start on."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import pytest
import yaml

from relay import server
from relay.config import Config, parse
from relay.config.secret import Secret
from relay.governance.pepper import Pepper
from relay.http_server import StartError
from relay.server import Worker
from tests.fakes.command import relay_command

TEXT: Final = "sk-canary-0123456789abcdef0123456789"


@pytest.fixture
def config() -> Config:
    scan = {"kind": "webhook", "url": "https://hooks.test/${S}", "secret": "${S}"}
    document: dict[str, Any] = {
        "store": {"url": "postgresql://relay:${S}@db.test/relay", "redis": "redis://:${S}@r.test"},
        "auth": {"pepper": "${S}", "old_peppers": ["${OLD}"]},
        "audit": {"key": "${S}"},
        "budgets": {"alerts": {"url": "https://hooks.test/${S}", "secret": "${S}"}},
        "guardrails": {"rails": {"x": {"scan": scan, "action": "block"}}},
        "observability": {"tracing": {"headers": {"x-key": "${S}"}}},
        "providers": {
            "openai": {"api_key": "${S}", "headers": {"x-a": "b ${S}"}},
            "other": {
                "wire": "openai_chat",
                "base_url": "https://x.test/v1",
                "api_keys": ["${S}"],
                "egress_proxy": "http://me:${S}@proxy.test:3128",
            },
        },
    }
    return parse(document, {"S": TEXT, "OLD": f"{TEXT}-old"})


SHOWN: Final[dict[str, Callable[[Any], str]]] = {
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "percent": lambda one: "%s %r" % (one, one),  # noqa: UP031 - as old code does it
    "pprint": pprint.pformat,
    "log": lambda one: logging.LogRecord("x", 10, "x", 1, "%s", (one,), None).getMessage(),
}


@pytest.mark.parametrize("how", SHOWN)
def test_a_secret_shows_nothing(how: str) -> None:
    secret = Secret(TEXT)
    for one in (secret, [secret], {"a": secret}, (secret,)):
        assert "canary" not in SHOWN[how](one)


@pytest.mark.parametrize("how", SHOWN)
def test_a_configuration_shows_none(config: Config, how: str) -> None:
    assert "canary" not in SHOWN[how](config)


def test_no_form_of_json_shows_one(config: Config) -> None:
    assert "canary" not in config.model_dump_json()
    assert "canary" not in json.dumps(config.model_dump(mode="json"), default=str)
    assert "canary" not in json.dumps({"a": Secret(TEXT)}, default=str)
    for encode in (json.dumps, orjson.dumps, msgspec.json.encode):
        with pytest.raises(TypeError) as caught:
            encode({"a": Secret(TEXT)})
        assert "canary" not in str(caught.value)
    with pytest.raises(yaml.YAMLError):
        yaml.safe_dump({"a": Secret(TEXT)})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_with_a_secret_is_pickled(config: Config, protocol: int) -> None:
    for one in (Secret(TEXT), config, config.providers["openai"], [Secret(TEXT)]):
        with pytest.raises(TypeError, match="is not to be pickled"):
            pickle.dumps(one, protocol)


def test_a_copy_is_itself(config: Config) -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
    copied = config.model_copy(deep=True)
    assert copied.providers["openai"].api_key is config.providers["openai"].api_key


def test_every_secret_of_the_file_is_of_this_kind(config: Config) -> None:
    """Whatever the model says is secret is one that cannot be pickled either."""
    found: list[object] = []

    def walk(one: object) -> None:
        if hasattr(one, "get_secret_value"):
            found.append(one)
        elif isinstance(one, dict):
            for each in one.values():
                walk(each)
        elif isinstance(one, list | tuple):
            for each in one:
                walk(each)
        elif hasattr(type(one), "model_fields"):
            for name in type(one).model_fields:  # type: ignore[attr-defined]
                walk(getattr(one, name))

    walk(config)
    assert len(found) >= 12
    assert {type(one) for one in found} == {Secret}


def test_a_traceback_shows_none(config: Config) -> None:
    def fail(secret: Secret, settings: Config) -> None:
        raise RuntimeError(f"{secret} {settings.providers}")

    try:
        fail(Secret(TEXT), config)
    except RuntimeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert "canary" not in "".join(shown.format())


def test_a_pepper_shows_nothing_either() -> None:
    pepper = Pepper(TEXT)
    assert "canary" not in f"{pepper} {pepper!r}"


async def test_it_does_not_start_on_protobuf_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2025-4565: that one recurses as deep as a message of a caller's says."""
    monkeypatch.setattr(server, "protobuf_kind", lambda: "python")
    with pytest.raises(StartError, match="implementation in python reads messages"):
        await Worker(parse({})).start()


@pytest.mark.sockets
@pytest.mark.timeout(120)
async def test_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    path = tmp_path / "relay.yaml"
    path.write_text("server: {grpc: {address: '127.0.0.1:0'}, http: {address: '127.0.0.1:0'}}\n")
    ran = await relay_command("serve", "-c", str(path))
    assert ran.status not in (0, None)
    assert "reads messages here" in ran.errors
