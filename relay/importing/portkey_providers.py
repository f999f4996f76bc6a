"""Portkey's names of providers, and which door of ours each is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

DOORS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure-openai": "azure",
    "azure-ai": "foundry_anthropic",
    "bedrock": "bedrock",
    "cerebras": "cerebras",
    "dashscope": "qwen",
    "deepseek": "deepseek",
    "google": "gemini",
    "groq": "groq",
    "huggingface": "huggingface",
    "mistral-ai": "mistral",
    "ollama": "ollama",
    "openrouter": "openrouter",
    "perplexity-ai": "perplexity",
    "together-ai": "together",
    "vertex-ai": "vertex",
    "x-ai": "xai",
    "z-ai": "zai",
    "zhipu": "zai",
}
"""`provider` of a target."""


def by_slug(slug: str) -> str:
    """The provider that the name of a virtual key begins with: a guess; empty for none.

    Such names are the operator's own, made of the provider's name as a rule (`openai-prod-4f2a`).
    """
    plain = re.sub(r"[^a-z0-9]", "", slug.lower())
    names = {re.sub(r"[^a-z0-9]", "", name): name for name in DOORS} | {
        "azureopenai": "azure-openai",
        "gemini": "google",
        "mistral": "mistral-ai",
        "perplexity": "perplexity-ai",
        "together": "together-ai",
        "vertex": "vertex-ai",
        "xai": "x-ai",
        "awsbedrock": "bedrock",
    }
    for start in sorted(names, key=len, reverse=True):
        if plain.startswith(start):
            return names[start]
    return ""
