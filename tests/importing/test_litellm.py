"""LiteLLM's config.yaml: what becomes of each of its features. The files are of our own making."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, known_providers
from relay.config_warnings import warnings
from relay.importing import Draft, ImportFault, Report, from_litellm
from tests.importing.world import SECRET, differs, left, row, taken, targets


def model(name: str, asked: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": asked, **params}}


def read(*models: dict[str, Any], **sections: Any) -> tuple[Draft, Report, Config]:
    draft, report = from_litellm({"model_list": [*models], **sections}, {})
    return draft, report, taken(draft, report)


MINI = model("talk", "openai/gpt-4o-mini", api_key="os.environ/OPENAI_API_KEY")
LLAMA = model("llama", "groq/llama-3.3-70b-versatile", api_key="os.environ/GROQ_API_KEY")
CLAUDE = model("claude", "anthropic/claude-haiku-4-5", api_key="os.environ/ANTHROPIC_API_KEY")


def test_a_model_is_an_alias_and_a_row() -> None:
    draft, report, config = read(MINI)
    assert row(draft, "openai") == {"api_key": "${OPENAI_API_KEY}"}
    assert targets(config, "talk") == ["openai/gpt-4o-mini"]
    assert (report.left, report.differs) == ([], [])
    assert report.variables == {"OPENAI_API_KEY": "as their file does"}


@pytest.mark.parametrize(
    ("asked", "params", "door", "name"),
    [
        ("openai/gpt-5-mini", {}, "openai", "gpt-5-mini"),
        ("gpt-5-mini", {}, "openai", "gpt-5-mini"),
        ("claude-haiku-4-5", {}, "anthropic", "claude-haiku-4-5"),
        ("gemini/gemini-2.5-flash", {}, "gemini", "gemini-2.5-flash"),
        ("deepseek/deepseek-chat", {}, "deepseek", "deepseek-chat"),
        ("dashscope/qwen-plus", {}, "qwen", "qwen-plus"),
        ("mistral/mistral-small-latest", {}, "mistral", "mistral-small-latest"),
        ("groq/llama-3.1-8b-instant", {}, "groq", "llama-3.1-8b-instant"),
        ("openrouter/meta/llama-4", {}, "openrouter", "meta/llama-4"),
        ("xai/grok-4", {}, "xai", "grok-4"),
        ("together_ai/meta/llama-4", {}, "together", "meta/llama-4"),
        ("perplexity/sonar", {}, "perplexity", "sonar"),
        ("cerebras/llama3.1-8b", {}, "cerebras", "llama3.1-8b"),
        ("zai/glm-4.6", {}, "zai", "glm-4.6"),
        ("huggingface/qwen/qwen3", {}, "huggingface", "qwen/qwen3"),
        ("hosted_vllm/qwen3", {"api_base": "http://10.0.0.7:8000/v1"}, "vllm", "qwen3"),
        ("ollama_chat/qwen3", {"api_base": "http://10.0.0.7:11434"}, "ollama", "qwen3"),
        ("azure/mini", {"api_base": "https://lab.openai.azure.com"}, "azure", "mini"),
        (
            "azure/mini",
            {"api_base": "https://lab.openai.azure.com", "api_version": "2024-10-21"},
            "azure_deployments",
            "mini",
        ),
        (
            "azure_ai/claude-haiku-4-5",
            {"api_base": "https://lab.services.ai.azure.com/anthropic"},
            "foundry_anthropic",
            "claude-haiku-4-5",
        ),
        ("bedrock/us.amazon.nova-lite-v1:0", {"aws_region_name": "us-east-1"}, "bedrock", None),
        ("bedrock/converse/us.amazon.nova-lite-v1:0", {"aws_region_name": "x"}, "bedrock", None),
        ("bedrock/invoke/anthropic.claude-x", {"aws_region_name": "x"}, "bedrock_messages", None),
        ("vertex_ai/gemini-2.5-flash", {"vertex_project": "p"}, "vertex", "gemini-2.5-flash"),
        ("vertex_ai/gemini-2.5-pro", {"api_key": "k"}, "vertex_express", "gemini-2.5-pro"),
        ("vertex_ai/claude-x@1", {"vertex_project": "p"}, "vertex_anthropic", "claude-x@1"),
        ("glm-4.6", {"custom_llm_provider": "zai"}, "zai", "glm-4.6"),
    ],
)
def test_every_provider_that_has_a_row(
    asked: str, params: dict[str, Any], door: str, name: str | None
) -> None:
    draft, report, config = read(model("m", asked, **params))
    (made,) = draft.rows.values()
    assert made.fields.get("door", made.name) == door
    assert door in known_providers()
    assert config.models["m"].candidates[0].model == (name or asked.rpartition("/")[2])
    assert report.left == []


def test_a_key_in_the_file_becomes_a_variable() -> None:
    one, other = SECRET.format("one"), SECRET.format("other")
    draft, report, _ = read(
        model("a", "openai/x", api_key=one),
        model("b", "openai/y", api_key=one),
        model("c", "openai/z", api_key=other),
        model("d", "openai/z", api_key="os.environ/OPENAI_API_KEY_2"),
    )
    assert [made.fields["api_key"] for made in draft.rows.values()] == [
        "${OPENAI_API_KEY}",
        "${OPENAI_API_KEY_3}",
        "${OPENAI_API_KEY_2}",
    ]
    assert "model_list[0].litellm_params.api_key" in report.variables["OPENAI_API_KEY"]


def test_an_own_host_has_no_dialect_and_does_not_get_the_providers_key() -> None:
    draft, report, _ = read(
        model("a", "openai/qwen3", api_base="https://llm.lab.test/v1/chat/completions"),
        model("b", "openai/qwen3", api_base="http://127.0.0.1:9000/v1"),
        model("c", "openai/qwen3", api_base="http://10.0.0.7/v1", api_key="none"),
        model("d", "groq/llama", api_base="https://proxy.test/v1"),
    )
    assert row(draft, "lab") == {
        "wire": "openai_chat",
        "base_url": "https://llm.lab.test/v1",
        "api_key": "${LAB_API_KEY}",
    }
    assert row(draft, "host-127.0.0.1")["auth"] == "none"
    assert row(draft, "host-10.0.0.7")["auth"] == "none"
    assert row(draft, "groq") == {
        "base_url": "https://proxy.test/v1",
        "api_key": "${PROXY_API_KEY}",
    }
    assert {"OPENAI_API_KEY", "GROQ_API_KEY"}.isdisjoint(report.variables)


def test_what_an_address_hides_is_not_taken() -> None:
    hidden = SECRET.format("url")
    draft, report, _ = read(
        model("a", "openai/qwen3", api_base=f"https://me:{hidden}@lab.test/v1?key={hidden}"),
    )
    assert row(draft, "lab")["base_url"] == "https://lab.test/v1"
    assert left(report) == {"model_list[0].litellm_params.api_base"}


def test_addresses_in_the_environment() -> None:
    entry = model("a", "azure/mini", api_base="os.environ/AZURE_BASE", api_key="os.environ/K")
    document = {"model_list": [entry]}
    draft, report = from_litellm(document, {"AZURE_BASE": "https://lab.openai.azure.com"})
    assert row(draft, "azure")["resource"] == "lab"
    assert report.left == []
    draft, report = from_litellm(document, {})
    address = row(draft, "azure")["base_url"]
    assert ".invalid" in address
    assert left(report) == {"model_list[0].litellm_params.api_base"}
    assert f"{address!r} stands for it" in report.left[0].told
    (warning,) = warnings(taken(draft, report))
    assert "providers.azure.base_url: set-the-address.invalid stands for an address" in warning


@pytest.mark.parametrize("asked", ["openai/gpt-5-mini", "anthropic/c", "azure/m", "ollama_chat/q"])
@pytest.mark.parametrize("name", ["api_base", "base_url"])
def test_what_stands_for_an_unset_address_is_what_the_file_has(asked: str, name: str) -> None:
    draft, report, _ = read(
        model("a", asked, **{name: "os.environ/GONE"}, api_version="2024-10-21")
    )
    (address,) = [each.fields["base_url"] for each in draft.rows.values()]
    (told,) = [one for one in report.left if one.path == f"model_list[0].litellm_params.{name}"]
    assert f"{address!r} stands for it" in told.told


def test_credentials_of_clouds() -> None:
    draft, report, _ = read(
        model(
            "a",
            "bedrock/amazon.nova-lite-v1:0",
            aws_region_name="eu-west-1",
            aws_access_key_id="os.environ/AWS_ACCESS_KEY_ID",
            aws_secret_access_key=SECRET.format("aws"),
        ),
        model("b", "bedrock/amazon.nova-pro-v1:0", aws_region_name="eu-west-1"),
        model(
            "c",
            "azure/mini",
            api_base="https://lab.openai.azure.com",
            tenant_id="t",
            client_id="c",
            client_secret=SECRET.format("entra"),
        ),
        model("d", "vertex_ai/gemini-2.5-pro", vertex_project="p", vertex_credentials="k.json"),
    )
    assert row(draft, "bedrock")["credential"] == {
        "kind": "aws_sigv4",
        "access_key_id": "${AWS_ACCESS_KEY_ID}",
        "secret_access_key": "${AWS_SECRET_ACCESS_KEY}",
    }
    assert row(draft, "bedrock-2")["credential"] == {"kind": "aws_sigv4", "source": "chain"}
    assert row(draft, "azure")["credential"]["client_secret"] == "${AZURE_CLIENT_SECRET}"
    assert left(report) == {"model_list[3].litellm_params.vertex_credentials"}


def test_shared_credentials() -> None:
    draft, report, _ = read(
        model("a", "azure/mini", litellm_credential_name="lab"),
        model("b", "azure/mini", litellm_credential_name="gone", api_base="https://x.test"),
        credential_list=[
            {
                "credential_name": "lab",
                "credential_values": {
                    "api_key": SECRET.format("shared"),
                    "api_base": "https://lab.openai.azure.com",
                },
            }
        ],
    )
    assert row(draft, "azure") == {"resource": "lab", "api_key": "${AZURE_API_KEY}"}
    assert left(report) == {"model_list[1].litellm_params.litellm_credential_name"}


def test_limits_prices_tags_and_headers() -> None:
    entry = model(
        "a",
        "openai/gpt-4o-mini",
        rpm=100,
        tpm="20000",
        tags=["voice", "eu"],
        timeout=2.5,
        stream_timeout=1,
        organization="org-1",
        extra_headers={"anthropic-beta": "b", "X-Team-Token": SECRET.format("header")},
        input_cost_per_token=1.5e-7,
        output_cost_per_token=6e-7,
    )
    draft, report, config = read(entry)
    assert row(draft, "openai") == {
        "api_key": "${OPENAI_API_KEY}",
        "headers": {
            "anthropic-beta": "b",
            "openai-organization": "org-1",
            "x-team-token": "${HEADER_X_TEAM_TOKEN}",
        },
        "rpm": 100,
        "tpm": 20000,
        "prices": {"gpt-4o-mini": {"input": 0.15, "output": 0.6}},
    }
    alias = config.models["a"]
    assert alias.tags == ("voice", "eu")
    assert (alias.timeouts.total_ms, alias.timeouts.first_token_ms) == (2500, 1000)
    assert report.left == []


def test_groups_fallbacks_and_their_order() -> None:
    other = model("talk", "groq/llama-3.1-8b-instant", weight=9)
    _, report, config = read(
        MINI,
        other,
        LLAMA,
        CLAUDE,
        router_settings={
            "routing_strategy": "latency-based-routing",
            "fallbacks": [{"talk": ["claude", "nobody"]}, {"*": ["llama"]}],
            "model_group_alias": {"gpt": "talk", "x/y": {"model": "claude", "hidden": True}},
        },
        litellm_settings={"default_fallbacks": ["talk"]},
    )
    assert targets(config, "talk") == ["groq/llama-3.1-8b-instant", "openai/gpt-4o-mini"]
    assert config.models["talk"].choose.mode == "balanced"
    assert targets(config, "talk", "fallbacks") == ["anthropic/claude-haiku-4-5"]
    assert targets(config, "claude", "fallbacks") == [
        "groq/llama-3.3-70b-versatile",
        "groq/llama-3.1-8b-instant",
        "openai/gpt-4o-mini",
    ]
    assert targets(config, "gpt") == targets(config, "talk")
    assert targets(config, "x-y") == ["anthropic/claude-haiku-4-5"]
    assert left(report) == {
        "router_settings.fallbacks[0].talk",
        "router_settings.model_group_alias.x/y",
    }
    assert "router_settings.routing_strategy" in differs(report)


@pytest.mark.parametrize(
    ("strategy", "choose"),
    [
        ("simple-shuffle", ("balanced", "configured")),
        ("least-busy", ("balanced", "configured")),
        ("usage-based-routing-v2", ("balanced", "configured")),
        ("cost-based-routing", ("ordered", "cheapest")),
        ("of-their-own", ("ordered", "configured")),
    ],
)
def test_strategies(strategy: str, choose: tuple[str, str]) -> None:
    _, report, config = read(
        MINI,
        model("talk", "groq/llama-3.1-8b-instant"),
        router_settings={"routing_strategy": strategy},
    )
    found = config.models["talk"].choose
    assert (found.mode, found.sort) == choose
    assert bool(report.left) == (strategy == "of-their-own")


def test_order_goes_before_a_strategy() -> None:
    _, _, config = read(
        model("talk", "groq/llama-3.1-8b-instant", order=2),
        model("talk", "openai/gpt-4o-mini", order=1),
    )
    assert targets(config, "talk") == ["openai/gpt-4o-mini", "groq/llama-3.1-8b-instant"]
    assert config.models["talk"].choose.mode == "ordered"


def test_times_of_the_file_are_for_aliases_without_their_own() -> None:
    _, _, config = read(
        model("a", "openai/x", timeout=5),
        model("b", "openai/y"),
        router_settings={"timeout": 30, "stream_timeout": 6},
        litellm_settings={"request_timeout": 600},
    )
    assert config.models["a"].timeouts.total_ms == 5000
    assert config.models["a"].timeouts.first_token_ms == 5000
    assert config.models["b"].timeouts.total_ms == 30_000
    assert config.models["b"].timeouts.first_token_ms == 6000


def test_keys_and_a_store() -> None:
    master = SECRET.format("master")
    draft, report, config = read(
        MINI,
        general_settings={
            "master_key": master,
            "database_url": f"postgresql://u:{master}@db/x",
            "max_parallel_requests": 50,
            "maximum_spend_logs_retention_period": "30d",
        },
        router_settings={"redis_host": "redis.test", "redis_password": SECRET.format("redis")},
    )
    assert config.auth is not None
    assert config.store is not None
    assert config.store.retention_days == 30
    assert draft.sections["store"]["redis"] == "redis://:${REDIS_PASSWORD}@redis.test:6379"
    assert config.limits is not None
    assert config.limits.providers["openai"].generations == 50
    assert left(report) == {"general_settings.master_key", "general_settings.database_url"}


def test_wildcards() -> None:
    draft, report, config = read(
        model("openai/*", "openai/*", api_key="os.environ/K"),
        model("*", "groq/*"),
    )
    assert set(draft.rows) == {"openai", "groq"}
    assert not config.models
    assert left(report) == {"model_list[1]"}
    assert differs(report) == {"model_list[0]"}


def test_names_that_no_alias_can_have() -> None:
    _, report, config = read(
        model("groq/llama-3.1-8b-instant", "groq/llama-3.1-8b-instant"),
        model("team/fast", "openai/gpt-4o-mini"),
    )
    assert set(config.models) == {"team-fast"}
    assert left(report) == {"model_list[1]"}


def test_nothing_is_passed_over_in_silence() -> None:
    entry = model("a", "openai/x", temperature=0.2, brand_new=1)
    entry |= {"more": 2, "model_info": {"mode": "chat", "odd": 3, "base_model": "y"}}
    _, report, _ = read(
        entry,
        model("b", "cohere/command-r"),
        model("c", "openai/whisper-1") | {"model_info": {"mode": "audio_transcription"}},
        router_settings={"enable_tag_filtering": True, "num_retries": 3, "what": 1},
        litellm_settings={"cache": True, "callbacks": ["x"], "drop_params": True},
        general_settings={"alerting": ["slack"], "custom_auth": "x"},
        guardrails=[{"guardrail_name": "x"}],
        environment_variables={"A": SECRET.format("variable")},
        surprise={"a": 1},
    )
    assert left(report) == {
        "model_list[0].litellm_params.temperature",
        "model_list[0].litellm_params.brand_new",
        "model_list[0].more",
        "model_list[0].model_info.odd",
        "model_list[1].litellm_params.model",
        "model_list[2].model_info.mode",
        "router_settings.enable_tag_filtering",
        "router_settings.what",
        "litellm_settings.cache",
        "litellm_settings.callbacks",
        "general_settings.alerting",
        "general_settings.custom_auth",
        "guardrails",
        "environment_variables",
        "surprise",
    }
    assert differs(report) == {
        "model_list[0].model_info.base_model",
        "router_settings.num_retries",
        "litellm_settings.drop_params",
    }


def test_callbacks_name_what_there_is() -> None:
    _, report, _ = read(MINI, litellm_settings={"callbacks": ["prometheus", "langfuse"]})
    (entry,) = report.left
    assert entry.path == "litellm_settings.callbacks"
    assert "`/metrics`" in entry.told
    assert "`observability.tracing`" in entry.told


def test_a_file_of_something_else() -> None:
    with pytest.raises(ImportFault, match="model_list is missing"):
        from_litellm({"foo": 1}, {})
