"""All wires."""

from __future__ import annotations

from tests.corpus.anthropic_wire import AnthropicWire
from tests.corpus.chat_wire import ChatWire
from tests.corpus.gemini_wire import GeminiWire
from tests.corpus.harness import Wire
from tests.corpus.ollama_wire import OllamaWire
from tests.corpus.responses_wire import ResponsesWire

WIRES: tuple[Wire, ...] = (
    ChatWire(),
    AnthropicWire(),
    GeminiWire(),
    ResponsesWire(),
    OllamaWire(),
)
