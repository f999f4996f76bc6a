"""What is asked of Claude behind every cloud that has it; each cloud's tests name its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from tests.doors.conversation import CLAUDE_TOOLS, CLAUDE_TURNS, MAX_TOKENS, SYSTEM, TEXT, is_trip
from tests.doors.world import World

Client = Any
"""One of Anthropic's clients of clouds, which share no type that has messages."""
Make = Callable[..., Client]


class ClaudeChecks:
    """A subclass has a fixture `make`, which makes a client of its cloud."""

    stream_error = "overloaded_error"
    """What an overload in mid-stream is called."""
    rate_error: type[anthropic.APIStatusError] = anthropic.RateLimitError
    unavailable_error: type[anthropic.APIStatusError] = anthropic.InternalServerError
    has_more_than_text = True

    def test_whole(self, make: Make, world: World) -> None:
        answer = make().messages.create(
            model=world.scripted(text=TEXT),
            max_tokens=MAX_TOKENS,
            system=SYSTEM,
            messages=CLAUDE_TURNS,
        )
        assert [block.text for block in answer.content] == [TEXT]
        assert answer.stop_reason == "end_turn"
        assert answer.usage.output_tokens > 0

    def test_streamed(self, make: Make, world: World) -> None:
        with make().messages.stream(
            model=world.scripted(text=TEXT), max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS
        ) as stream:
            pieces = list(stream.text_stream)
            final = stream.get_final_message()
        assert "".join(pieces) == TEXT
        assert len(pieces) > 3
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens > 0

    @pytest.mark.parametrize("streamed", [False, True])
    def test_tool_call(self, make: Make, world: World, streamed: bool) -> None:
        given = {
            "model": world.scripted(tools="1"),
            "max_tokens": MAX_TOKENS,
            "messages": CLAUDE_TURNS,
            "tools": CLAUDE_TOOLS,
        }
        if streamed:
            with make().messages.stream(**given) as stream:
                answer = stream.get_final_message()
        else:
            answer = make().messages.create(**given)
        assert answer.stop_reason == "tool_use"
        (call,) = [block for block in answer.content if block.type == "tool_use"]
        assert is_trip(call.input)

    @pytest.mark.parametrize("kind", ["rate", "unavailable"])
    def test_error(self, make: Make, world: World, kind: str) -> None:
        expected = self.rate_error if kind == "rate" else self.unavailable_error
        with pytest.raises(expected):
            make().messages.create(
                model=world.scripted(fault=f"error:{kind}"),
                max_tokens=MAX_TOKENS,
                messages=CLAUDE_TURNS,
            )

    def test_error_in_mid_stream(self, make: Make, world: World) -> None:
        model = world.scripted(text=TEXT, fault="error-mid@3:unavailable")
        stream = make().messages.create(
            model=model, max_tokens=MAX_TOKENS, messages=CLAUDE_TURNS, stream=True
        )
        kinds: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as raised:
            kinds += [event.type for event in stream]
        assert raised.value.status_code == 200
        body: Any = raised.value.body
        assert body["error"]["type"] == self.stream_error
