"""Which codec serves which wire: the one place where a new codec is named."""

from __future__ import annotations

from relay.codecs.anthropic_messages import build_anthropic_messages
from relay.codecs.base import CodecBuilder
from relay.codecs.gemini import build_gemini
from relay.codecs.ollama import build_ollama
from relay.codecs.openai_chat import build_openai_chat
from relay.codecs.openai_responses import build_openai_responses

BUILDERS: dict[str, CodecBuilder] = {
    "anthropic_messages": build_anthropic_messages,
    "gemini": build_gemini,
    "ollama": build_ollama,
    "openai_chat": build_openai_chat,
    "openai_responses": build_openai_responses,
}
"""By the `wire` of a provider row."""
