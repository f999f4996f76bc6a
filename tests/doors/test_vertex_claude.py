"""Anthropic's client of Vertex."""

from __future__ import annotations

import anthropic
import pytest

from tests.doors.claude import ClaudeChecks, Make
from tests.doors.conversation import CLAUDE_TURNS, MAX_TOKENS
from tests.doors.world import World


def client_with(world: World, token: str) -> anthropic.AnthropicVertex:
    return anthropic.AnthropicVertex(
        base_url=f"{world.url}/v1",
        access_token=token,
        project_id="p",
        region="europe-west4",
        max_retries=0,
    )


class TestVertex(ClaudeChecks):
    @pytest.fixture
    def make(self, world: World) -> Make:
        token = world.token("google")
        return lambda: client_with(world, token)

    def test_count_tokens(self, make: Make, world: World) -> None:
        counted = make().messages.count_tokens(model=world.scripted(), messages=CLAUDE_TURNS)
        assert counted.input_tokens > 0

    @pytest.mark.parametrize("case", ["over", "revoked", "unknown"])
    def test_refusals(self, world: World, case: str) -> None:
        token = "ya29.made-up"
        if case != "unknown":
            token = world.token("google", expires_in_s=0 if case == "over" else 60)
        if case == "revoked":
            world.order("revoke", value=token)
        with pytest.raises(anthropic.AuthenticationError, match="invalid authentication"):
            client_with(world, token).messages.create(
                model=world.scripted(), max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS
            )

    def test_limits_are_the_platform_s(self, make: Make, world: World) -> None:
        with pytest.raises(anthropic.RateLimitError, match="RESOURCE_EXHAUSTED"):
            make().messages.create(
                model=world.scripted(fault="rate"), max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS
            )
