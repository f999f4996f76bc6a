"""Whatever is in their file: the relay takes what is written, and no secret is shown."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.importing import from_litellm, from_portkey
from relay.importing.litellm_providers import DOORS
from relay.importing.litellm_settings import DIFFERS, LEFT, SECTIONS
from relay.importing.portkey_providers import DOORS as PORTKEY_DOORS
from tests.fakes.properties import examples
from tests.importing.world import SECRET, taken

KEYS = st.sampled_from(
    ["os.environ/OPENAI_API_KEY", "os.environ/odd name", "none", "", SECRET.format("a")]
)
ADDRESSES = st.sampled_from(
    [
        "https://lab.openai.azure.com/",
        "https://lab.services.ai.azure.com/anthropic",
        "https://api.openai.com/v1",
        "http://10.0.0.7:8000/v1/chat/completions",
        "http://[::1]:8000",
        "os.environ/SOME_BASE",
        f"https://u:{SECRET.format('b')}@x.test/v1?k={SECRET.format('c')}",
        "no address",
        "https://x.test:99999/",
    ]
)
NAMES = st.sampled_from(["talk", "claude", "team/fast", "openai/*", "*", "é", "a" * 80])
NUMBERS = st.sampled_from([1, 0.5, 30, 10**12, 0, -1, "7", "seven", True, None, float("nan")])
PARAMS = st.fixed_dictionaries(
    {
        "model": st.one_of(
            st.builds("{}/{}".format, st.sampled_from([*DOORS, "cohere"]), st.just("m-1")),
            st.sampled_from(["gpt-5-mini", "claude-x", "bedrock/invoke/anthropic.claude-x", "x"]),
        )
    },
    optional={
        "api_key": KEYS,
        "api_base": ADDRESSES,
        "api_version": st.sampled_from(["2024-10-21", "v1", "os.environ/VERSION", "a b"]),
        "custom_llm_provider": st.sampled_from(["groq", "nobody"]),
        "litellm_credential_name": st.sampled_from(["lab", "gone"]),
        "aws_region_name": st.sampled_from(["eu-west-1", "os.environ/REGION", "a/b"]),
        "aws_access_key_id": KEYS,
        "aws_secret_access_key": KEYS,
        "aws_session_token": KEYS,
        "aws_profile_name": st.just("work"),
        "aws_role_name": st.just("r"),
        "tenant_id": st.just("t"),
        "client_id": st.just("c"),
        "client_secret": KEYS,
        "vertex_project": st.sampled_from(["p", "os.environ/PROJECT", "a b"]),
        "vertex_location": st.sampled_from(["global", "us-central1"]),
        "vertex_credentials": st.sampled_from(["k.json", SECRET.format("json")]),
        "organization": st.sampled_from(["org-1", "os.environ/ORG"]),
        "extra_headers": st.dictionaries(
            st.sampled_from(["x-team", "authorization", "user-agent", "a b", "host"]),
            st.sampled_from([SECRET.format("h"), "os.environ/H", 7, None, "plain"]),
        ),
        "service_tier": st.sampled_from(["flex", "odd"]),
        "tags": st.sampled_from([["a"], "a", [1, None]]),
        "use_in_pass_through": st.booleans(),
        **dict.fromkeys(
            ("rpm", "tpm", "weight", "order", "timeout", "stream_timeout"),
            NUMBERS,
        ),
        "max_parallel_requests": NUMBERS,
        "input_cost_per_token": NUMBERS,
        "output_cost_per_token": NUMBERS,
    },
)
MODELS = st.lists(
    st.fixed_dictionaries(
        {"model_name": NAMES, "litellm_params": PARAMS},
        optional={
            "rpm": NUMBERS,
            "model_info": st.fixed_dictionaries(
                {}, optional={"mode": st.sampled_from(["chat", "embedding", "odd"]), "rpm": NUMBERS}
            ),
        },
    ),
    max_size=4,
)
GROUPS = st.lists(
    st.dictionaries(NAMES, st.lists(st.one_of(NAMES, st.just({"model": "x"})), max_size=2)),
    max_size=2,
)
ROUTER = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": GROUPS,
        "default_fallbacks": st.lists(NAMES, max_size=2),
        "context_window_fallbacks": GROUPS,
        "routing_strategy": st.sampled_from(["simple-shuffle", "cost-based-routing", "odd"]),
        "model_group_alias": st.dictionaries(NAMES, NAMES, max_size=2),
        "timeout": NUMBERS,
        "stream_timeout": NUMBERS,
        "redis_host": st.sampled_from(["redis.test", "os.environ/REDIS_HOST", "a b"]),
        "redis_port": st.sampled_from([6379, "os.environ/REDIS_PORT"]),
        "redis_password": KEYS,
        "redis_url": st.sampled_from(
            ["os.environ/REDIS_URL", "os.environ/OURS", f"redis://:{SECRET.format('r')}@h"]
        ),
    },
)
GENERAL = st.fixed_dictionaries(
    {},
    optional={
        "master_key": KEYS,
        "database_url": st.just(f"postgresql://u:{SECRET.format('d')}@h/x"),
        "max_parallel_requests": NUMBERS,
        "maximum_spend_logs_retention_period": st.sampled_from(["30d", "1w", "0d", 30]),
    },
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["text", "${NAME}", "a b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab.", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"model_list": MODELS},
        optional={
            "router_settings": ROUTER,
            "litellm_settings": ROUTER,
            "general_settings": GENERAL,
            "credential_list": st.just(
                [
                    {
                        "credential_name": "lab",
                        "credential_values": {"api_key": SECRET.format("l"), "api_base": "x"},
                    }
                ]
            ),
        },
    )
)
@examples(150, full=3000)
def test_any_features_of_litellm_are_taken(document: dict[str, Any]) -> None:
    taken(*from_litellm(document, {}))


KNOWN = (*DIFFERS, *LEFT, "fallbacks", "model_group_alias", "redis_host", "master_key", "timeout")


@given(
    st.dictionaries(st.sampled_from([*SECTIONS, "credential_list", "odd"]), ANYTHING, max_size=3),
    st.dictionaries(
        st.sampled_from(["model_list", "router_settings", "general_settings", "litellm_settings"]),
        st.one_of(ANYTHING, st.dictionaries(st.sampled_from(KNOWN), ANYTHING, max_size=4)),
    ),
    st.dictionaries(st.sampled_from(["model_name", "model_info", "litellm_params"]), ANYTHING),
    PARAMS,
    st.dictionaries(
        st.sampled_from(["api_key", "tags", "extra_headers", "tenant_id", "rpm", "headers"]),
        ANYTHING,
    ),
)
@examples(150, full=3000)
def test_any_values_at_all_are_read(
    sections: dict[str, Any],
    settings: dict[str, Any],
    entry: dict[str, Any],
    params: dict[str, Any],
    odd: dict[str, Any],
) -> None:
    document = {**sections, **settings}
    mine = [entry, {"model_name": "talk", "litellm_params": {**params, **odd}}]
    given_list = document.get("model_list")
    document["model_list"] = [*given_list, *mine] if isinstance(given_list, list) else mine
    taken(*from_litellm(document, {}))


LEAVES: Any = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from([*PORTKEY_DOORS, "cohere", "@openai-x"]),
        "virtual_key": st.sampled_from(["openai-1", "azure-openai-2", "nobody", "vertex-x"]),
        "api_key": KEYS,
        "custom_host": ADDRESSES,
        "override_params": st.dictionaries(
            st.sampled_from(["model", "temperature", "service_tier"]),
            st.sampled_from(["m-1", "@groq-a/b", "claude-x", "flex"]),
        ),
        "weight": NUMBERS,
        "request_timeout": NUMBERS,
        "retry": st.just({"attempts": 2}),
        "resource_name": st.sampled_from(["lab", "a b"]),
        "deployment_id": st.just("mini"),
        "api_version": st.sampled_from(["2024-10-21", "v1"]),
        "aws_access_key_id": KEYS,
        "aws_secret_access_key": KEYS,
        "aws_region": st.just("eu-west-1"),
        "vertex_project_id": st.just("p"),
        "vertex_service_account_json": ANYTHING,
        "azure_auth_mode": st.sampled_from(["managed", "entra"]),
        "openai_organization": st.just("org-1"),
        "name": st.sampled_from(["one", "two"]),
        "odd": ANYTHING,
    },
)
NODES: Any = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {
            "strategy": st.fixed_dictionaries(
                {
                    "mode": st.sampled_from(
                        ["single", "fallback", "loadbalance", "conditional", "x"]
                    )
                },
                optional={
                    "default": st.sampled_from(["one", "two"]),
                    "conditions": st.lists(
                        st.one_of(ANYTHING, st.just({"then": "one", "query": {}})), max_size=2
                    ),
                    "on_status_codes": st.just([429]),
                },
            ),
            "targets": st.lists(inner, max_size=3),
        },
        optional={"weight": NUMBERS, "name": st.sampled_from(["one", "two"]), "cache": ANYTHING},
    ),
    max_leaves=5,
)


@given(NODES, NAMES)
@examples(150, full=3000)
def test_any_features_of_portkey_are_taken(document: dict[str, Any], name: str) -> None:
    document.setdefault("strategy", {})  # without any of its keys it is none of theirs
    taken(*from_portkey(document, {}, name))


@given(
    st.dictionaries(
        st.sampled_from(["strategy", "targets", "provider", "apiKey", "overrideParams", "x"]),
        ANYTHING,
    )
)
@examples(100, full=3000)
def test_any_values_of_portkey_are_read(document: dict[str, Any]) -> None:
    document.setdefault("strategy", None)  # without any of its keys it is none of theirs
    taken(*from_portkey(document, {}, "fast"))
