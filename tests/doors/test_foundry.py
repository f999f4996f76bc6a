"""Anthropic's client of Azure's Foundry."""

from __future__ import annotations

import anthropic
import pytest

from tests.doors.claude import ClaudeChecks, Make
from tests.doors.conversation import CLAUDE_TURNS, MAX_TOKENS
from tests.doors.world import World


def base_url(world: World) -> str:
    return f"{world.url}/foundry/anthropic"


class TestFoundry(ClaudeChecks):
    @pytest.fixture(params=["key", "token"])
    def make(self, request: pytest.FixtureRequest, world: World) -> Make:
        if request.param == "key":
            return lambda: anthropic.AnthropicFoundry(
                base_url=base_url(world), api_key="a-key", max_retries=0
            )
        token = world.token("entra", audience="https://ai.azure.com")
        return lambda: anthropic.AnthropicFoundry(
            base_url=base_url(world), azure_ad_token_provider=lambda: token, max_retries=0
        )

    @pytest.mark.parametrize("case", ["bad-key", "over", "unknown"])
    def test_refusals(self, world: World, case: str) -> None:
        token = world.token("entra", expires_in_s=0) if case == "over" else "e.y.J"
        client = (
            anthropic.AnthropicFoundry(base_url=base_url(world), api_key=case, max_retries=0)
            if case == "bad-key"
            else anthropic.AnthropicFoundry(
                base_url=base_url(world), azure_ad_token_provider=lambda: token, max_retries=0
            )
        )
        with pytest.raises(anthropic.AuthenticationError):
            client.messages.create(
                model=world.scripted(), max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS
            )
