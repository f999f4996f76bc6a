"""Token counts from bytes: never less than nothing, and the same for the same text."""

from __future__ import annotations

import base64

import pytest

from relay.content import (
    FilePart,
    ImagePart,
    Message,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCall,
)
from relay.tokens import count_bytes, estimate_prompt_tokens, estimate_usage
from tests.fakes.scenario import request

EMPTY = Message(Role.USER)


def tokens(message: Message) -> int:
    """Of one message, beyond what every message costs."""
    return estimate_prompt_tokens(request(messages=(message,))) - estimate_prompt_tokens(
        request(messages=(EMPTY,))
    )


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("abc", 3), ("é", 2), ("日本", 6), ("😀", 4), ("\ud800", 3)]
)
def test_bytes_of_a_text(text: str, size: int) -> None:
    assert count_bytes(text) == size


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (Message(Role.USER, (TextPart("x" * 40),)), 10),
        (Message(Role.USER, (TextPart("日" * 40),)), 30),
        (Message(Role.ASSISTANT, (RefusalPart("x" * 40),)), 10),
        (Message(Role.ASSISTANT, reasoning="x" * 40), 10),
        (Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "x" * 20, "y" * 20),)), 10),
        (
            Message(Role.USER, (FilePart(data_base64=base64.b64encode(b"x" * 42).decode()),)),
            11,
        ),
        (Message(Role.USER, (ImagePart(url="https://x/" + "y" * 400),)), 0),
    ],
)
def test_tokens_of_a_message(message: Message, count: int) -> None:
    assert tokens(message) == count


def test_tools_count_with_their_schema() -> None:
    plain = estimate_prompt_tokens(request())
    tool = Tool("f", "d" * 20, b"{" + b"x" * 18 + b"}")
    assert estimate_prompt_tokens(request(tools=(tool,))) == plain + 10


def test_usage_is_marked_as_estimated_and_adds_up() -> None:
    usage = estimate_usage(request(), 9)
    assert usage.is_estimated
    assert usage.completion_tokens == 3
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
