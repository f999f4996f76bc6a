"""boto3's `bedrock-runtime`: Converse, and a model's own interface, signed and by key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from tests.doors.conversation import CLAUDE_TURNS, CONVERSE_TOOLS, CONVERSE_TURNS, TEXT, is_trip
from tests.doors.world import World

REGION = "eu-central-1"
ONCE = Config(retries={"total_max_attempts": 1})
Make = Callable[..., Any]


def signing(world: World, **keys: str) -> Any:
    """A client with a pair, the emulator's own unless another is given."""
    given = keys or world.order("keys", kind="static")
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=world.url,
        region_name=REGION,
        aws_access_key_id=given["access_key_id"],
        aws_secret_access_key=given["secret_access_key"],
        aws_session_token=given.get("session_token") or None,
        config=ONCE,
    )


@pytest.fixture
def client(world: World) -> Any:
    return signing(world)


def test_whole(client: Any, world: World) -> None:
    answer = client.converse(modelId=world.scripted(text=TEXT), messages=CONVERSE_TURNS)
    assert answer["output"]["message"]["content"] == [{"text": TEXT}]
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"]["outputTokens"] > 0


def events(answer: Any) -> list[dict[str, Any]]:
    return list(answer["stream"])


def test_streamed(client: Any, world: World) -> None:
    model = world.scripted(text=TEXT, reason="2")
    read = events(client.converse_stream(modelId=model, messages=CONVERSE_TURNS))
    names = [next(iter(event)) for event in read]
    assert names[0] == "messageStart"
    assert names[-2:] == ["messageStop", "metadata"]
    deltas = [event["contentBlockDelta"]["delta"] for event in read if "contentBlockDelta" in event]
    assert "".join(delta.get("text", "") for delta in deltas) == TEXT
    thoughts = [delta["reasoningContent"] for delta in deltas if "reasoningContent" in delta]
    assert thoughts[-1]["signature"]
    assert read[-1]["metadata"]["usage"]["totalTokens"] > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_call(client: Any, world: World, streamed: bool) -> None:
    given = {
        "modelId": world.scripted(tools="1"),
        "messages": CONVERSE_TURNS,
        "toolConfig": CONVERSE_TOOLS,
    }
    if not streamed:
        answer = client.converse(**given)
        assert answer["stopReason"] == "tool_use"
        assert is_trip(answer["output"]["message"]["content"][0]["toolUse"]["input"])
        return
    read = events(client.converse_stream(**given))
    (start,) = [event["contentBlockStart"] for event in read if "contentBlockStart" in event]
    assert start["start"]["toolUse"]["name"] == "weather"
    pieces = [
        event["contentBlockDelta"]["delta"]["toolUse"]["input"]
        for event in read
        if "contentBlockDelta" in event
    ]
    assert is_trip(json.loads("".join(pieces)))


@pytest.mark.parametrize(
    "model",
    [
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
    ],
)
def test_names_with_signs_in_them(client: Any, world: World, model: str) -> None:
    since = world.last_request()
    events(client.converse_stream(modelId=model, messages=CONVERSE_TURNS))
    (seen,) = world.requests(since)
    assert seen["path"] == f"/model/{model}/converse-stream"


@pytest.mark.parametrize("kind", ["rate", "quota", "unavailable", "permission", "context"])
def test_error(client: Any, world: World, kind: str) -> None:
    names = {
        "rate": ("ThrottlingException", 429),
        "quota": ("ServiceQuotaExceededException", 400),
        "unavailable": ("ServiceUnavailableException", 503),
        "permission": ("AccessDeniedException", 403),
        "context": ("ValidationException", 400),
    }
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        client.converse(modelId=world.scripted(fault=f"error:{kind}"), messages=CONVERSE_TURNS)
    told = raised.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    assert (told["Error"]["Code"], status) == names[kind]
    assert told["Error"]["Message"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("rate", "throttlingException"),
        ("unavailable", "serviceUnavailableException"),
        ("server", "internalServerException"),
        ("gateway", "modelStreamErrorException"),
        ("auth", "InternalFailure"),
    ],
)
def test_error_in_mid_stream(client: Any, world: World, kind: str, code: str) -> None:
    model = world.scripted(text=TEXT, fault=f"error-mid@3:{kind}")
    answer = client.converse_stream(modelId=model, messages=CONVERSE_TURNS)
    read: list[Any] = []
    with pytest.raises(botocore.exceptions.EventStreamError) as raised:
        read.extend(answer["stream"])
    assert raised.value.response["Error"]["Code"] == code


def test_a_bad_checksum_is_seen(client: Any, world: World) -> None:
    model = world.scripted(text=TEXT, fault="bad-frame@3")
    answer = client.converse_stream(modelId=model, messages=CONVERSE_TURNS)
    with pytest.raises(Exception, match="Checksum mismatch"):
        list(answer["stream"])


def test_a_model_s_own_interface(client: Any, world: World) -> None:
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": CLAUDE_TURNS}
    given = {"modelId": world.scripted(text="Good day"), "body": json.dumps(body)}
    whole = json.loads(client.invoke_model(**given)["body"].read())
    assert whole["content"] == [{"type": "text", "text": "Good day"}]
    answer = client.invoke_model_with_response_stream(**given)
    read = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert read[0]["type"] == "message_start"
    assert read[-1]["type"] == "message_stop"


class TestCredentials:
    """What the service says of them."""

    @staticmethod
    def refusal(client: Any, world: World) -> str:
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            client.converse(modelId=world.scripted(), messages=CONVERSE_TURNS)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        error = raised.value.response["Error"]
        return f"{error['Code']}: {error['Message']}"

    def test_a_session(self, world: World) -> None:
        keys = world.order("keys", expires_in_s=60)
        client = signing(world, **keys)
        client.converse(modelId=world.scripted(), messages=CONVERSE_TURNS)
        world.order("revoke", value=keys["access_key_id"])
        assert self.refusal(client, world).startswith("UnrecognizedClientException")

    def test_a_session_that_is_over(self, world: World) -> None:
        keys = world.order("keys", expires_in_s=0)
        assert self.refusal(signing(world, **keys), world).startswith("ExpiredTokenException")

    def test_a_wrong_secret(self, world: World) -> None:
        keys = {**world.order("keys", kind="static"), "secret_access_key": "wrong"}
        found = self.refusal(signing(world, **keys), world)
        assert found.startswith("InvalidSignatureException: The request signature we calculated")

    @pytest.mark.parametrize(
        ("skew_s", "said"), [(301, "Signature expired: "), (-310, "Signature not yet current: ")]
    )
    def test_a_wrong_clock(self, world: World, skew_s: float, said: str) -> None:
        world.order("clock", skew_s=skew_s)
        try:
            found = self.refusal(signing(world), world)
        finally:
            world.order("clock")
        assert found.startswith(f"InvalidSignatureException: {said}")

    def test_a_clock_that_is_nearly_right(self, world: World) -> None:
        world.order("clock", skew_s=290)
        try:
            signing(world).converse(modelId=world.scripted(), messages=CONVERSE_TURNS)
        finally:
            world.order("clock")

    @pytest.mark.parametrize("key", ["a-bedrock-key", "bad-key"])
    def test_an_api_key(self, world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        # It is not sent without TLS.
        client = boto3.client(
            "bedrock-runtime",
            endpoint_url=world.tls_url,
            region_name=REGION,
            verify=world.ca_file,
            config=ONCE,
        )
        if key == "bad-key":
            assert "API Key is valid" in self.refusal(client, world)
        else:
            client.converse(modelId=world.scripted(), messages=CONVERSE_TURNS)
