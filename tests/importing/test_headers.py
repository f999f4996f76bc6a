"""Headers: what may be a secret is never written down."""

from __future__ import annotations

import pytest

from relay.importing import from_litellm, from_portkey, yaml_of
from relay.importing.headers import headers_of
from relay.importing.report import Report
from relay.importing.variables import Variables


def imported(name: str, value: str) -> dict[str, str]:
    report = Report()
    return headers_of({name: value}, "headers", report, Variables(report, {}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Title", "sk-TITLESECRET"),
        ("X-Title", "Bearer TITLESECRET"),
        ("X-Title", "rtk_0123"),
        ("X-Title", "key-abc"),
        ("X-Title", "ghp_abc"),
        ("X-Title", "xoxb-1"),
        ("X-Title", "AIzaSy"),
        ("X-Title", "eyJhbGciOi"),
        ("X-Title", "my app, 0123456789abcdef0123"),
        ("http-referer", "https://u:REFSECRET@x"),
        ("http-referer", "https://x.example/?api_key=REFSECRET"),
        ("openai-organization", "sk-ORGSECRET"),
        ("openai-project", "aB3/dE6+gH9_jK2-mN5=qR"),
    ],
)
def test_what_looks_like_a_secret_becomes_a_variable(name: str, value: str) -> None:
    variable = f"HEADER_{name.upper().replace('-', '_')}"
    assert imported(name, value) == {name.lower(): f"${{{variable}}}"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-title", "Our voice agent, task-runner 2"),
        ("http-referer", "https://voice.example.com/agents/front-desk"),
        ("anthropic-beta", "prompt-caching-2024-07-31,interleaved-thinking-2025-05-14"),
        ("openai-beta", "assistants=v2"),
        ("openai-organization", "org-voice"),
        ("accept", "application/json"),
    ],
)
def test_what_does_not_is_sent_along(name: str, value: str) -> None:
    assert imported(name, value) == {name: value}


def test_organizations_of_rows_too() -> None:
    params = {"model": "openai/gpt-4.1", "api_key": "k", "organization": "sk-ORGSECRET"}
    draft, _ = from_litellm({"model_list": [{"model_name": "a", "litellm_params": params}]}, {})
    assert "ORGSECRET" not in yaml_of(draft)
    assert "${HEADER_OPENAI_ORGANIZATION}" in yaml_of(draft)
    target = {"provider": "openai", "api_key": "k", "openai_project": "sk-ORGSECRET"}
    draft, _ = from_portkey(target, {}, "fast")
    assert "ORGSECRET" not in yaml_of(draft)
    assert "${HEADER_OPENAI_PROJECT}" in yaml_of(draft)
