"""The relay asks at each door as that cloud's own SDK does, for the same conversation.

A conversation with a system prompt, a tool, a limit and a temperature, streamed: once by the SDK,
once through a relay with the door's row, both recorded by the emulator and compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pytest
from google.genai import types

from tests.doors import test_bedrock_boto3 as boto
from tests.doors import test_vertex_genai as vertex
from tests.doors.conversation import (
    AFTER_A_TOOL,
    CHAT_TOOLS,
    CLAUDE_TOOLS,
    CONVERSE_TOOLS,
    MAX_TOKENS,
    PLAIN,
    SYSTEM,
    TEXT,
    TIERED,
    Talk,
)
from tests.doors.shapes import Request, differences
from tests.doors.world import Relay, World

TEMPERATURE = 0.5
REGION = "eu-central-1"
LOCATION = "europe-west4"
VERSION = "2024-10-21"
TIER_HEADER = "x-amzn-bedrock-service-tier"
"""boto3's `invoke_model` writes its `serviceTier` so."""
NEWER_LIMIT = "max_completion_tokens"
"""OpenAI's name for it; other hosts have the older `max_tokens` in their rows."""

Row = Callable[[World], dict[str, object]]
Ask = Callable[[World, str, Talk], object]


@dataclass(frozen=True)
class Case:
    """One door, one client, and what may differ."""

    row: Row
    """Of the relay's configuration."""
    ask: Ask
    """By the SDK."""
    headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[dict[str, Any]], None] | None = None
    path: Callable[[str], str] | None = None
    is_claude: bool = False
    """By Anthropic's SDK, which has no temperature any more (2.14.0)."""
    model: str = ""
    """Asked for; empty: one of the test's own."""


# --- rows ------------------------------------------------------------------------------------


def aws_keys(world: World) -> dict[str, object]:
    """A session, whose token is signed too."""
    keys = world.order("keys", expires_in_s=600)
    return {"kind": "aws_sigv4", **{name: world.secret(value) for name, value in keys.items()}}


def azure_rows(wire: str, door: str) -> Row:
    paths = {"azure": "/azure/openai/v1", "azure_deployments": "/openai"}
    version = {"api_version": VERSION} if door == "azure_deployments" else {}
    return lambda world: {
        "door": door,
        "wire": wire,
        "base_url": world.url + paths[door],
        "api_key": world.secret("a-key"),
        **version,
    }


def foundry_row(world: World) -> dict[str, object]:
    base_url = f"{world.url}/foundry/anthropic"
    return {"door": "foundry_anthropic", "base_url": base_url, "api_key": world.secret("a-key")}


def bedrock_row(door: str, path: str = "", *, signed: bool = True, **more: object) -> Row:
    def row(world: World) -> dict[str, object]:
        who: dict[str, object] = {"api_key": world.secret("a-bedrock-key")}
        if signed:
            who = {"credential": aws_keys(world)}
        return {"door": door, "region": REGION, "base_url": world.url + path, **who, **more}

    return row


def vertex_row(door: str) -> Row:
    return lambda world: {
        "door": door,
        "project": "p",
        "region": LOCATION,
        "base_url": world.url,
        "api_key": world.secret(world.token("google")),
    }


def express_row(world: World) -> dict[str, object]:
    return {"door": "vertex_express", "base_url": world.url, "api_key": world.secret("a-key")}


# --- what the SDKs ask -----------------------------------------------------------------------


def azure_client(world: World, door: str) -> openai.OpenAI:
    if door == "azure":
        return openai.OpenAI(
            base_url=f"{world.url}/azure/openai/v1/", api_key="a-key", max_retries=0
        )
    return openai.AzureOpenAI(
        azure_endpoint=world.url, api_version=VERSION, api_key="a-key", max_retries=0
    )


def chat_at(client: Callable[[World], openai.OpenAI], limit: str = NEWER_LIMIT) -> Ask:
    given: Any = {limit: MAX_TOKENS}

    def ask(world: World, model: str, talk: Talk) -> object:
        tier: Any = {"service_tier": talk.tier} if talk.tier else {}
        with client(world) as made:
            return list(
                made.chat.completions.create(
                    model=model,
                    messages=talk.chat,
                    tools=CHAT_TOOLS,
                    temperature=TEMPERATURE,
                    stream=True,
                    stream_options={"include_usage": True},
                    **given,
                    **tier,
                )
            )

    return ask


def responses_at(client: Callable[[World], openai.OpenAI]) -> Ask:
    def ask(world: World, model: str, talk: Talk) -> object:
        tier: Any = {"service_tier": talk.tier} if talk.tier else {}
        tool: Any = {"type": "function", **CHAT_TOOLS[0]["function"], "strict": False}
        with client(world) as made:
            return list(
                made.responses.create(
                    model=model,
                    input=talk.responses,
                    tools=[tool],
                    max_output_tokens=MAX_TOKENS,
                    temperature=TEMPERATURE,
                    stream=True,
                    store=False,
                    **tier,
                )
            )

    return ask


def claude_at(client: Callable[[World], Any]) -> Ask:
    def ask(world: World, model: str, talk: Talk) -> object:
        tier = {TIER_HEADER: talk.tier} if talk.tier else {}
        with client(world) as made:
            return list(
                made.messages.create(
                    model=model,
                    system=SYSTEM,
                    messages=talk.claude,
                    tools=CLAUDE_TOOLS,
                    max_tokens=MAX_TOKENS,
                    stream=True,
                    extra_headers=tier,
                )
            )

    return ask


def converse(world: World, model: str, talk: Talk) -> object:
    keys = world.order("keys", expires_in_s=600)
    tier: Any = {"serviceTier": {"type": talk.tier}} if talk.tier else {}
    answer = boto.signing(world, **keys).converse_stream(
        **tier,
        modelId=model,
        system=[{"text": SYSTEM}],
        messages=talk.converse,
        toolConfig=CONVERSE_TOOLS,
        inferenceConfig={"maxTokens": MAX_TOKENS, "temperature": TEMPERATURE},
    )
    return list(answer["stream"])


def gemini_at(client: Callable[[World], Any]) -> Ask:
    def ask(world: World, model: str, talk: Talk) -> object:
        made = client(world)
        config = types.GenerateContentConfig(
            system_instruction=SYSTEM,
            max_output_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            tools=[*vertex.tools()],
            service_tier=types.ServiceTier(talk.tier) if talk.tier else None,
        )
        return list(
            made.models.generate_content_stream(model=model, contents=talk.contents, config=config)
        )

    return ask


def bedrock_claude(world: World) -> anthropic.AnthropicBedrock:
    keys = world.order("keys", expires_in_s=600)
    return anthropic.AnthropicBedrock(
        base_url=world.url,
        aws_access_key=keys["access_key_id"],
        aws_secret_key=keys["secret_access_key"],
        aws_session_token=keys["session_token"],
        aws_region=REGION,
        max_retries=0,
    )


def bedrock_claude_key(world: World) -> anthropic.AnthropicBedrock:
    return anthropic.AnthropicBedrock(
        base_url=world.url, api_key="a-bedrock-key", aws_region=REGION, max_retries=0
    )


def mantle_claude(world: World) -> anthropic.AnthropicBedrockMantle:
    return anthropic.AnthropicBedrockMantle(
        base_url=f"{world.url}/mantle/anthropic",
        api_key="a-bedrock-key",
        aws_region=REGION,
        max_retries=0,
    )


def vertex_claude(world: World) -> anthropic.AnthropicVertex:
    return anthropic.AnthropicVertex(
        base_url=f"{world.url}/v1",
        access_token=world.token("google"),
        project_id="p",
        region=LOCATION,
        max_retries=0,
    )


def foundry_claude(world: World) -> anthropic.AnthropicFoundry:
    return anthropic.AnthropicFoundry(
        base_url=f"{world.url}/foundry/anthropic", api_key="a-key", max_retries=0
    )


def openai_at(path: str) -> Callable[[World], openai.OpenAI]:
    return lambda world: openai.OpenAI(
        base_url=world.url + path, api_key="a-bedrock-key", max_retries=0
    )


# --- what may differ -------------------------------------------------------------------------


def no_version(body: dict[str, Any]) -> None:
    """Anthropic's SDKs from 2.0 on say 2026-10-21; the relay reads events of the versions before,
    which the clouds' pages name. Both say one."""
    assert body.pop("anthropic_version")


def vertex_words(body: dict[str, Any]) -> None:
    """Google's client writes one name in snake case on Vertex, and gives instructions a role."""
    for group in body.get("tools", []):
        for function in group["functionDeclarations"]:
            if "parameters_json_schema" in function:
                function["parametersJsonSchema"] = function.pop("parameters_json_schema")
    body.get("systemInstruction", {}).pop("role", None)


def any_version(path: str) -> str:
    """Google's client asks v1beta1, the relay what is not beta."""
    return path.replace("/v1beta1/", "/v1/")


VERSION_SAID = {"anthropic-version": "Anthropic's SDKs from 2.0 on say 2026-10-21"}
SIGNS_ALL = {"authorization": "Anthropic's SDK signs all that it sends; boto3 and the relay do not"}
TIER_AGAIN = {
    "x-vertex-ai-llm-shared-request-type": "Google's page names it; its client has the body alone"
}
TWO_KEYS = {"api-key": "Anthropic's SDK sends a key under both of its names"}
EITHER_NAME = dict.fromkeys(
    ("api-key", "authorization"), "Azure takes a key under either name; OpenAI's client has but one"
)

CASES: dict[str, Case] = {
    "azure-chat": Case(
        azure_rows("openai_chat", "azure"),
        chat_at(lambda world: azure_client(world, "azure")),
        headers=EITHER_NAME,
    ),
    "azure-responses": Case(
        azure_rows("openai_responses", "azure"),
        responses_at(lambda world: azure_client(world, "azure")),
        headers=EITHER_NAME,
    ),
    "deployments-chat": Case(
        azure_rows("openai_chat", "azure_deployments"),
        chat_at(lambda world: azure_client(world, "azure_deployments")),
    ),
    "deployments-responses": Case(
        azure_rows("openai_responses", "azure_deployments"),
        responses_at(lambda world: azure_client(world, "azure_deployments")),
    ),
    "foundry": Case(
        foundry_row,
        claude_at(foundry_claude),
        is_claude=True,
        headers=TWO_KEYS,
        values=VERSION_SAID,
    ),
    "converse": Case(bedrock_row("bedrock"), converse),
    "converse-arn": Case(
        bedrock_row("bedrock"),
        converse,
        model="arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
    ),
    "bedrock-messages": Case(
        bedrock_row("bedrock_messages"),
        claude_at(bedrock_claude),
        is_claude=True,
        values=SIGNS_ALL,
        body=no_version,
    ),
    "bedrock-messages-key": Case(
        bedrock_row("bedrock_messages", signed=False),
        claude_at(bedrock_claude_key),
        is_claude=True,
        body=no_version,
    ),
    "bedrock-openai": Case(
        bedrock_row("bedrock_openai", "/bedrock/openai/v1", signed=False),
        chat_at(openai_at("/bedrock/openai/v1"), "max_tokens"),
    ),
    "mantle-chat": Case(
        bedrock_row("bedrock_mantle", "/mantle/openai/v1", signed=False),
        chat_at(openai_at("/mantle/openai/v1"), "max_tokens"),
    ),
    "mantle-responses": Case(
        bedrock_row("bedrock_mantle", "/mantle/openai/v1", signed=False, wire="openai_responses"),
        responses_at(openai_at("/mantle/openai/v1")),
    ),
    "mantle-messages": Case(
        bedrock_row("bedrock_mantle", "/mantle/anthropic", signed=False, wire="anthropic_messages"),
        claude_at(mantle_claude),
        is_claude=True,
        values=VERSION_SAID,
    ),
    "vertex": Case(
        vertex_row("vertex"),
        gemini_at(vertex.by_token),
        headers=TIER_AGAIN,
        body=vertex_words,
        path=any_version,
    ),
    "express": Case(
        express_row,
        gemini_at(vertex.by_key),
        headers=TIER_AGAIN,
        body=vertex_words,
        path=any_version,
    ),
    "vertex-claude": Case(
        vertex_row("vertex_anthropic"), claude_at(vertex_claude), is_claude=True, body=no_version
    ),
}


@pytest.fixture(scope="module")
def relay(request: pytest.FixtureRequest, world: World) -> Relay:
    """One relay with a row for each case that is run."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    run = {str(item.callspec.params.get("name")) for item in items if hasattr(item, "callspec")}
    return world.start_relay(
        {
            "server": {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")},
            "providers": {name: case.row(world) for name, case in CASES.items() if name in run},
        }
    )


def recorded(world: World, act: Callable[[], object], method: str = "POST") -> Request:
    """The one generation that was asked for meanwhile."""
    since = world.last_request()
    act()
    asked = [
        each
        for each in world.requests(since)
        if each["method"] == method and not each["path"].startswith("/emulator/")
    ]
    assert len(asked) == 1, asked
    return copy.deepcopy(asked[0])


def compare(world: World, relay: Relay, name: str, talk: Talk) -> list[dict[str, Any]]:
    """Hold the two requests against each other; the relay's answer."""
    case = CASES[name]
    model = case.model or world.scripted(text=TEXT)
    sdk = recorded(world, lambda: case.ask(world, model, talk))
    chunks: list[dict[str, Any]] = []
    asked = {
        "model": f"{name}/{model}",
        "messages": talk.chat,
        "tools": CHAT_TOOLS,
        "max_completion_tokens": MAX_TOKENS,
        "stream_options": {"include_usage": True},
    }
    if not case.is_claude:
        asked["temperature"] = TEMPERATURE
    if talk.tier:
        asked["service_tier"] = talk.tier
    own = recorded(world, lambda: chunks.extend(relay.chat(asked)))
    found = differences(
        sdk, own, headers=case.headers, values=case.values, body=case.body, path=case.path
    )
    assert not found, "\n".join(found)
    return chunks


@pytest.mark.parametrize("name", CASES)
def test_the_relay_asks_as_the_sdk_does(world: World, relay: Relay, name: str) -> None:
    chunks = compare(world, relay, name, PLAIN)
    said = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert said == TEXT if not CASES[name].model else said
    assert chunks[-1]["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("name", CASES)
def test_after_a_tool(world: World, relay: Relay, name: str) -> None:
    assert compare(world, relay, name, AFTER_A_TOOL)


@pytest.mark.parametrize(
    "name",
    [
        "azure-chat",
        "azure-responses",
        "deployments-chat",
        "deployments-responses",
        "converse",
        "bedrock-messages",
        "vertex",
        "express",
    ],
)
def test_a_service_tier(world: World, relay: Relay, name: str) -> None:
    assert compare(world, relay, name, TIERED)
