"""`observability`: what is refused and how it is named, and where references lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, ConfigError, parse, secrets_in
from relay.trace_context import TraceRule

ENVIRONMENT = {
    "COLLECTOR": "https://collector.test",
    "TOKEN": "token-canary-0123456789",
    "POD": "relay-7f9c",
}


def read(folder: Path, **parts: Any) -> Config:
    return parse({"observability": parts}, ENVIRONMENT, folder=folder)


def test_nothing_is_on_by_default(tmp_path: Path) -> None:
    section = parse({}).observability
    assert (section.tracing, section.payloads, section.redact) == (None, None, ())
    assert (section.logs.share, section.logs.slow_ms) == (1.0, 2000)


def test_references_of_tracing(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        tracing={
            "endpoint": "${COLLECTOR}",
            "headers": {"Authorization": "Bearer ${TOKEN}"},
            "resource": {"k8s.pod.name": "${POD}"},
            "share": 0.5,
            "follow_parent": False,
        },
    )
    tracing = config.observability.tracing
    assert tracing is not None
    assert tracing.endpoint == "https://collector.test/v1/traces"
    assert tracing.resource == {"k8s.pod.name": "relay-7f9c"}
    assert tracing.rule == TraceRule(0.5, follows_parent=False)
    assert list(secrets_in(config)) == ["Bearer token-canary-0123456789"]
    assert "canary" not in repr(config)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"trace": {}}, "observability.trace: unknown key; did you mean 'tracing'?"),
        ({"tracing": {"endpoint": "collector:4318"}}, "observability.tracing.endpoint: "),
        (
            {"tracing": {"endpoint": "http://me:canary@there/v1/traces"}},
            "observability.tracing.endpoint: user and password do not belong here; use `headers`",
        ),
        (
            {"tracing": {"endpoint": "${NOWHERE}"}},
            "observability.tracing.endpoint: the environment variable NOWHERE is not set",
        ),
        ({"tracing": {"share": 1.5}}, "observability.tracing.share: "),
        ({"tracing": {"headers": {"a b": "c"}}}, "observability.tracing.headers: 'a' is not"),
        ({"tracing": {"resource": ["x"]}}, "observability.tracing.resource: a mapping"),
        ({"tracing": {"ca_file": "none.pem"}}, "observability.tracing.ca_file: cannot read"),
        ({"logs": {"share": -1}}, "observability.logs.share: "),
        ({"logs": {"max_waiting_bytes": 1}}, "observability.logs.max_waiting_bytes: "),
        ({"redact": ["("]}, "observability.redact[0]: '(' is no regular expression: "),
        ({"redact": ["x*"]}, "observability.redact[0]: 'x*' finds nothing everywhere"),
        ({"redact": [r"[\w.+-]+@[\w-]+\.\w+"]}, "it would stop the relay"),
        ({"redact": ["(a+)+b"]}, "it would stop the relay"),
        ({"payloads": {"folder": "no/where"}}, "observability.payloads.folder: there is no folder"),
        ({"payloads": {"folder": "file"}}, "observability.payloads.folder: a folder is expected"),
        ({"payloads": {"aliases": []}}, "observability.payloads.aliases: "),
        (
            {"payloads": {"max_total_bytes": 100_000}},
            "observability.payloads: max_total_bytes: is less than two files",
        ),
        (
            {"payloads": {"retention_days": 0.001}},
            "observability.payloads: max_file_s: files would be deleted",
        ),
    ],
)
def test_faults_name_their_fields(tmp_path: Path, parts: Any, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **parts)
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


def test_payloads_stand_beside_the_file(tmp_path: Path) -> None:
    payloads = read(tmp_path, payloads={}).observability.payloads
    assert payloads is not None
    assert payloads.folder == str(tmp_path / "payloads")
    assert payloads.wants("any", "")


def test_a_change_takes_a_restart(tmp_path: Path) -> None:
    one, other = read(tmp_path), read(tmp_path, logs={"share": 0.5}, tracing={})
    assert one.needing_restart(other) == ["observability.tracing", "observability.logs.share"]
    assert one.needing_restart(one) == []
