"""What the relay sends to Converse is allowed by botocore's own model of the service.

Each request is recorded and put through the validation that boto3 does before it sends anything:
unknown names, missing ones, and values of another type are found.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from tests.doors.conversation import AFTER_A_TOOL, CHAT_TOOLS, CHAT_TURNS, SCHEMA, TOOL
from tests.doors.test_relay import start
from tests.doors.world import Relay, World

# One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)

ASKED: dict[str, dict[str, Any]] = {
    "plain": {"messages": CHAT_TURNS},
    "sampling": {
        "messages": CHAT_TURNS,
        "max_tokens": 9,
        "temperature": 0.1,
        "top_p": 0.5,
        "stop": ["x", "y"],
    },
    "tools": {"messages": AFTER_A_TOOL.chat, "tools": CHAT_TOOLS},
    "a tool by name": {
        "messages": CHAT_TURNS,
        "tools": CHAT_TOOLS,
        "tool_choice": {"type": "function", "function": {"name": TOOL}},
    },
    "any tool": {"messages": CHAT_TURNS, "tools": CHAT_TOOLS, "tool_choice": "required"},
    "an image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            }
        ]
    },
    "a schema": {
        "messages": CHAT_TURNS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True},
        },
    },
    "a tier": {"messages": CHAT_TURNS, "service_tier": "priority"},
}


@pytest.fixture(scope="module")
def relay(world: World) -> Relay:
    row: dict[str, object] = {
        "door": "bedrock",
        "region": "eu-central-1",
        "base_url": world.url,
        "api_key": world.secret("a-key"),
    }
    return start(world, {"bedrock": row})


@pytest.fixture(scope="module")
def shape() -> Any:
    model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
    return model.operation_model("ConverseStream").input_shape


def with_bytes(value: Any) -> Any:
    """Binary members as boto3's callers give them: JSON has them as base64."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each)
            if name == "bytes" and isinstance(each, str)
            else with_bytes(each)
            for name, each in value.items()
        }
    return [with_bytes(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ASKED)
def test_the_service_s_model_allows_it(world: World, relay: Relay, shape: Any, name: str) -> None:
    since = world.last_request()
    assert relay.chat({"model": f"bedrock/{world.scripted()}", **ASKED[name]})
    (seen,) = world.requests(since)
    given = {"modelId": seen["path"].split("/")[2], **with_bytes(seen["body"])}
    report = ParamValidator().validate(given, shape)
    assert not report.has_errors(), report.generate_report()


def test_the_judge_can_say_no(shape: Any) -> None:
    wrong = {"modelId": "m", "messages": [{"role": "user", "content": [{"txt": "x"}]}]}
    assert ParamValidator().validate(wrong, shape).has_errors()
