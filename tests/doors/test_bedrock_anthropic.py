"""Anthropic's clients of Bedrock: invocations in event-stream frames, and the Mantle endpoint."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.doors.claude import ClaudeChecks, Make
from tests.doors.conversation import CLAUDE_TURNS, MAX_TOKENS
from tests.doors.world import World

REGION = "us-east-1"


def signing(world: World, **keys: str) -> anthropic.AnthropicBedrock:
    """A client with a pair, the emulator's own unless another is given."""
    given = keys or world.order("keys", kind="static")
    return anthropic.AnthropicBedrock(
        base_url=world.url,
        aws_access_key=given["access_key_id"],
        aws_secret_key=given["secret_access_key"],
        aws_session_token=given.get("session_token") or None,
        aws_region=REGION,
        max_retries=0,
    )


def ask(client: Any, model: str) -> Any:
    return client.messages.create(model=model, max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS)


class TestSigned(ClaudeChecks):
    stream_error = "serviceUnavailableException"

    @pytest.fixture
    def make(self, world: World) -> Make:
        return lambda: signing(world)

    @pytest.mark.parametrize(
        "model",
        [
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x",
        ],
    )
    def test_names_with_signs_in_them(self, world: World, model: str) -> None:
        assert ask(signing(world), model).content

    def test_sessions(self, world: World) -> None:
        keys = world.order("keys", expires_in_s=60)
        client = signing(world, **keys)
        ask(client, world.scripted())
        world.order("revoke", value=keys["access_key_id"])
        with pytest.raises(anthropic.PermissionDeniedError, match="security token"):
            ask(client, world.scripted())
        over = world.order("keys", expires_in_s=0)
        with pytest.raises(anthropic.PermissionDeniedError, match="expired"):
            ask(signing(world, **over), world.scripted())

    def test_a_wrong_clock(self, world: World) -> None:
        world.order("clock", skew_s=400)
        try:
            with pytest.raises(anthropic.PermissionDeniedError, match="Signature expired"):
                ask(signing(world), world.scripted())
        finally:
            world.order("clock")


class TestKey(ClaudeChecks):
    stream_error = "serviceUnavailableException"

    @pytest.fixture
    def make(self, world: World) -> Make:
        return lambda: anthropic.AnthropicBedrock(
            base_url=world.url, api_key="a-bedrock-key", aws_region=REGION, max_retries=0
        )

    def test_a_bad_key(self, world: World) -> None:
        client = anthropic.AnthropicBedrock(
            base_url=world.url, api_key="bad-key", aws_region=REGION, max_retries=0
        )
        with pytest.raises(anthropic.PermissionDeniedError, match="API Key is valid"):
            ask(client, world.scripted())


class TestMantle(ClaudeChecks):
    @pytest.fixture(params=["key", "signed"])
    def make(self, request: pytest.FixtureRequest, world: World) -> Make:
        given: dict[str, Any] = {"api_key": "a-bedrock-key"}
        if request.param == "signed":
            keys = world.order("keys", kind="static")
            given = {
                "aws_access_key": keys["access_key_id"],
                "aws_secret_key": keys["secret_access_key"],
            }
        base_url = f"{world.url}/mantle/anthropic"
        return lambda: anthropic.AnthropicBedrockMantle(
            base_url=base_url, aws_region=REGION, max_retries=0, **given
        )
