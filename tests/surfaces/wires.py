"""The matrix's provider wires: how the emulator speaks each, and what it calls things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.emulator.answer import Answer, Usage
from relay.emulator.wires.anthropic import AnthropicMessages
from relay.emulator.wires.base import TOKEN, Wire
from relay.emulator.wires.gemini import Gemini
from relay.emulator.wires.ollama import OllamaChat
from relay.emulator.wires.openai_chat import OpenAIChat
from relay.emulator.wires.responses import OpenAIResponses

RETRY_AFTER_S = 7
"""Of the header that the emulator is asked for; its Gemini has two seconds in the body."""


@dataclass(frozen=True)
class ProviderWire:
    """One wire."""

    name: str
    base_path: str
    path: str
    """Where a streamed request of `ORDER_MODEL` goes."""
    emulated: Wire
    rate_code: str
    """Its own word for a rate limit; empty where it has none."""
    retry_after_s: int = RETRY_AFTER_S
    """What it says of another try; Gemini says it in the body, in its own words."""
    call_prefix: str = ""
    """What its ids of tool calls begin with."""
    reasoning: str = ""
    """The emulator's dialect for an answer with reasoning; empty for the usual one."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Columns that it cannot have, and why."""


ORDER_MODEL = "m"

WIRES: tuple[ProviderWire, ...] = (
    ProviderWire(
        "openai_chat",
        "/v1",
        "/v1/chat/completions",
        OpenAIChat(),
        "rate_limit_exceeded",
        call_prefix="call_",
        reasoning="deepseek",
    ),
    ProviderWire(
        "openai_responses",
        "/v1",
        "/v1/responses",
        OpenAIResponses(),
        "rate_limit_exceeded",
        call_prefix="call_",
    ),
    ProviderWire(
        "anthropic_messages",
        "",
        "/v1/messages",
        AnthropicMessages(),
        "rate_limit_error",
        call_prefix="toolu_",
    ),
    ProviderWire(
        "gemini",
        "",
        f"/v1beta/models/{ORDER_MODEL}:streamGenerateContent",
        Gemini(),
        "RESOURCE_EXHAUSTED",
        retry_after_s=2,
    ),
    ProviderWire("ollama", "", "/api/chat", OllamaChat(), "", call_prefix="call_"),
)


@dataclass(frozen=True)
class Halves:
    """A clean streamed answer, cut behind its first token."""

    headers: list[tuple[str, str]]
    first: bytes
    rest: bytes


def halves(wire: Wire, *tokens: str) -> Halves:
    """Of an answer that says these tokens."""
    answer = Answer(
        id="emu0000000001",
        model=ORDER_MODEL,
        created=1,
        tokens=list(tokens),
        finish="stop",
        usage=Usage(3, len(tokens)),
        include_usage=True,
    )
    parts = [b"", b""]
    seen = 0
    for kind, data, _ in wire.events(answer):
        seen += kind == TOKEN
        parts[seen > 1] += data
    return Halves(wire.stream_head(answer), *parts)
