"""Portkey's config objects: what becomes of each of their features, in files of our own making."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, known_providers
from relay.importing import Draft, Report, from_portkey
from relay.importing.portkey_providers import DOORS, by_slug
from tests.importing.world import SECRET, differs, left, row, taken, targets


def read(document: dict[str, Any]) -> tuple[Draft, Report, Config]:
    draft, report = from_portkey(document, {}, "fast")
    return draft, report, taken(draft, report)


def target(provider: str, model: str = "m", **more: Any) -> dict[str, Any]:
    return {
        "provider": provider,
        "api_key": SECRET.format(provider),
        "override_params": {"model": model},
        **more,
    }


A, B, C = target("openai", "a"), target("groq", "b"), target("anthropic", "c")


def test_a_single_provider() -> None:
    draft, report, config = read(A)
    assert row(draft, "openai") == {"api_key": "${OPENAI_API_KEY}"}
    assert targets(config, "fast") == ["openai/a"]
    assert (report.left, report.differs) == ([], [])


def test_every_provider_has_a_row() -> None:
    for provider, door in DOORS.items():
        assert door in known_providers()
        more = {"resource_name": "lab"} if provider == "azure-openai" else {}
        more |= {"aws_region": "eu-west-1"} if provider == "bedrock" else {}
        more |= {"vertex_project_id": "p"} if provider == "vertex-ai" else {}
        more |= (
            {"azure_foundry_url": "https://lab.services.ai.azure.com/anthropic"}
            if provider == "azure-ai"
            else {}
        )
        draft, _, config = read(target(provider, "m", **more))
        (made,) = draft.rows.values()
        assert made.fields.get("door", made.name) == door
        assert targets(config, "fast") == [f"{made.name}/m"]


def test_a_fallback() -> None:
    _, report, config = read(
        {"strategy": {"mode": "fallback", "on_status_codes": [429]}, "targets": [A, B, C]}
    )
    assert targets(config, "fast") == ["openai/a"]
    assert targets(config, "fast", "fallbacks") == ["groq/b", "anthropic/c"]
    assert differs(report) == {"strategy.on_status_codes"}


def test_a_balance_with_weights() -> None:
    _, report, config = read(
        {
            "strategy": {"mode": "loadbalance"},
            "targets": [{**A, "weight": 0.7}, {**B, "weight": 0.3}, {**C, "weight": 0}],
        }
    )
    assert targets(config, "fast") == ["openai/a", "groq/b"]
    assert config.models["fast"].choose.mode == "balanced"
    assert left(report) == {"targets[2].weight"}


def test_nested() -> None:
    balance = {"strategy": {"mode": "loadbalance"}, "targets": [A, B]}
    first = {"strategy": {"mode": "fallback"}, "targets": [balance, C]}
    _, _, config = read(first)
    assert targets(config, "fast") == ["openai/a", "groq/b"]
    assert targets(config, "fast", "fallbacks") == ["anthropic/c"]
    assert config.models["fast"].choose.mode == "balanced"
    inner = {"strategy": {"mode": "fallback"}, "targets": [B, C]}
    _, _, config = read({"strategy": {"mode": "loadbalance"}, "targets": [A, inner]})
    assert targets(config, "fast") == ["openai/a", "groq/b"]
    assert targets(config, "fast", "fallbacks") == ["anthropic/c"]


def test_conditions_are_aliases() -> None:
    _, report, config = read(
        {
            "strategy": {
                "mode": "conditional",
                "conditions": [{"query": {"metadata.plan": {"$eq": "paid"}}, "then": "best"}],
                "default": "base",
            },
            "targets": [{**A, "name": "best"}, {**B, "name": "base"}],
        }
    )
    assert targets(config, "fast") == ["groq/b"]
    assert targets(config, "fast-best") == ["openai/a"]
    assert left(report) == {"strategy.conditions[0]"}
    assert "fast-best" in report.left[0].told


def test_both_spellings() -> None:
    _, report, config = read(
        {
            "provider": "openai",
            "apiKey": SECRET.format("camel"),
            "requestTimeout": 8000,
            "overrideParams": {"model": "a", "temperature": 1},
            "strictOpenAiCompliance": False,
        }
    )
    assert config.models["fast"].timeouts.total_ms == 8000
    assert left(report) == {"overrideParams.temperature"}
    assert differs(report) == {"strictOpenAiCompliance"}


def test_virtual_keys() -> None:
    draft, report, config = read(
        {
            "strategy": {"mode": "fallback"},
            "targets": [
                {"virtual_key": "openai-one-1a", "override_params": {"model": "a"}},
                {"provider": "@openai-two", "override_params": {"model": "b"}},
                {"override_params": {"model": "@groq-x/llama"}},
                {"virtual_key": "somebody", "override_params": {"model": "c"}},
            ],
        }
    )
    assert row(draft, "openai")["api_key"] == "${OPENAI_API_KEY}"
    assert row(draft, "openai-2")["api_key"] == "${OPENAI_TWO_API_KEY}"
    assert targets(config, "fast", "fallbacks")[:2] == ["openai-2/b", "groq/llama"]
    assert left(report) == {"targets[3]"}
    assert len(differs(report)) == 3


@pytest.mark.parametrize(
    ("slug", "provider"),
    [("open-ai-prod", "openai"), ("azure-openai-x", "azure-openai"), ("mistral-1", "mistral-ai")],
)
def test_slugs(slug: str, provider: str) -> None:
    assert by_slug(slug) == provider


def test_own_hosts() -> None:
    draft, report, _ = read(
        {
            "strategy": {"mode": "fallback"},
            "targets": [
                {
                    "provider": "openai",
                    "custom_host": "http://10.0.0.7:8000/v1",
                    "override_params": {"model": "qwen3"},
                },
                {
                    "provider": "anthropic",
                    "custom_host": "https://claude.lab.test/v1",
                    "api_key": SECRET.format("lab"),
                    "override_params": {"model": "c"},
                },
                {
                    "provider": "of-their-own",
                    "custom_host": "https://x.test/v1",
                    "override_params": {"model": "d"},
                },
            ],
        }
    )
    assert row(draft, "openai")["base_url"] == "http://10.0.0.7:8000/v1"
    assert row(draft, "openai")["api_key"] == "${HOST_10_0_0_7_API_KEY}"
    assert row(draft, "anthropic")["base_url"] == "https://claude.lab.test"
    assert row(draft, "of-their-own")["wire"] == "openai_chat"
    assert "OPENAI_API_KEY" not in report.variables


def test_clouds() -> None:
    draft, report, _ = read(
        {
            "strategy": {"mode": "fallback"},
            "targets": [
                {
                    "provider": "azure-openai",
                    "resource_name": "lab",
                    "deployment_id": "mini",
                    "api_version": "2024-10-21",
                    "azure_auth_mode": "managed",
                },
                {
                    "provider": "bedrock",
                    "aws_region": "eu-west-1",
                    "aws_access_key_id": SECRET.format("id"),
                    "aws_secret_access_key": SECRET.format("secret"),
                    "override_params": {"model": "amazon.nova-lite-v1:0"},
                },
                {
                    "provider": "vertex-ai",
                    "vertex_project_id": "p",
                    "vertex_region": "europe-west4",
                    "vertex_service_account_json": {"private_key": SECRET.format("google")},
                    "override_params": {"model": "gemini-2.5-flash"},
                },
            ],
        }
    )
    assert row(draft, "azure_deployments") == {
        "resource": "lab",
        "api_version": "2024-10-21",
        "credential": {"kind": "azure_entra", "source": "managed_identity"},
    }
    assert row(draft, "bedrock")["credential"] == {
        "kind": "aws_sigv4",
        "access_key_id": "${AWS_ACCESS_KEY_ID}",
        "secret_access_key": "${AWS_SECRET_ACCESS_KEY}",
    }
    assert row(draft, "vertex")["region"] == "europe-west4"
    assert left(report) == {"targets[2].vertex_service_account_json"}


def test_nothing_is_passed_over_in_silence() -> None:
    _, report, _ = read(
        {
            **A,
            "cache": {"mode": "semantic"},
            "retry": {"attempts": 3},
            "input_guardrails": [{"default.contains": {}}],
            "forward_headers": ["x"],
            "brand_new": 1,
        }
    )
    assert left(report) == {"cache", "input_guardrails", "forward_headers", "brand_new"}
    assert differs(report) == {"retry"}


def test_a_model_that_nobody_names() -> None:
    _, report, config = read({"provider": "groq", "api_key": SECRET.format("groq")})
    assert targets(config, "fast") == ["groq/llama-3.3-70b-versatile"]
    assert left(report) == {"the file"}


def test_nobody_to_ask() -> None:
    draft, report, _ = read({"targets": [{"provider": "nobody"}]})
    assert not draft.aliases
    assert left(report) == {"targets[0]", "targets"}
