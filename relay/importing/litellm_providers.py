"""LiteLLM's names of providers, and which door of ours each is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from relay.importing.rows import CUSTOM

DOORS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "custom_openai": CUSTOM,
    "openai_like": CUSTOM,
    "litellm_proxy": CUSTOM,
    "llamafile": CUSTOM,
    "lm_studio": CUSTOM,
    "xinference": CUSTOM,
    "azure": "azure",
    "azure_text": "azure",
    "azure_ai": "foundry_anthropic",
    "anthropic": "anthropic",
    "anthropic_text": "anthropic",
    "gemini": "gemini",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "deepseek": "deepseek",
    "dashscope": "qwen",
    "mistral": "mistral",
    "groq": "groq",
    "openrouter": "openrouter",
    "xai": "xai",
    "together_ai": "together",
    "perplexity": "perplexity",
    "cerebras": "cerebras",
    "zai": "zai",
    "huggingface": "huggingface",
    "hosted_vllm": "vllm",
    "vllm": "vllm",
    "ollama": "ollama",
    "ollama_chat": "ollama",
}
"""What stands before the first `/` of `model`, or in `custom_llm_provider`."""

_BY_MODEL: Final[tuple[tuple[str, str], ...]] = (
    (r"gpt-|o[1-9](-|$)|chatgpt-|text-embedding-|ft:", "openai"),
    (r"claude-", "anthropic"),
    (r"gemini-", "vertex_ai"),
    (r"deepseek-(chat|reasoner)$", "deepseek"),
    (r"(mistral|ministral|codestral|magistral)-", "mistral"),
)
"""Of models that name no provider: whose they are by LiteLLM's own list."""


def split(model: str, provider: str) -> tuple[str, str]:
    """LiteLLM's provider and the provider's own name of the model; an empty provider for one that
    is not known.

    Args:
        provider: `custom_llm_provider`; empty where there is none.
    """
    before, slash, after = model.partition("/")
    if provider:
        return provider, after if slash and before == provider else model
    if slash:
        return before, after
    found = (name for pattern, name in _BY_MODEL if re.match(pattern, model))
    return next(found, ""), model
