"""Which codec serves which wire: the one place where a new codec is named."""

from __future__ import annotations

from relay.codecs.anthropic_messages import build_anthropic_messages
from relay.codecs.base import CodecBuilder
from relay.codecs.bedrock_converse import build_bedrock_converse
from relay.codecs.embeddings import build_no_embeddings
from relay.codecs.gemini import build_gemini
from relay.codecs.gemini_embeddings import build_gemini_embeddings
from relay.codecs.ollama import build_ollama
from relay.codecs.ollama_embeddings import build_ollama_embeddings
from relay.codecs.openai_chat import build_openai_chat
from relay.codecs.openai_embeddings import build_openai_embeddings, build_responses_embeddings
from relay.codecs.openai_responses import build_openai_responses

BUILDERS: dict[str, CodecBuilder] = {
    "anthropic_messages": build_anthropic_messages,
    "bedrock_converse": build_bedrock_converse,
    "gemini": build_gemini,
    "ollama": build_ollama,
    "openai_chat": build_openai_chat,
    "openai_responses": build_openai_responses,
}
"""By the `wire` of a provider row."""

EMBEDDERS: dict[str, CodecBuilder] = {
    "gemini": build_gemini_embeddings,
    "ollama": build_ollama_embeddings,
    "openai_chat": build_openai_embeddings,
    "openai_responses": build_responses_embeddings,
}
"""Of those that give vectors too; where a wire is not here it has none."""


def embedder_of(wire: str) -> CodecBuilder:
    """Of a wire without vectors one that refuses every request for them, by name."""
    return EMBEDDERS.get(wire, build_no_embeddings)
