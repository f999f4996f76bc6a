"""Which of the clouds' doors a path belongs to.

    [/azure]/openai/deployments/D/chat/completions?api-version=V     azure_deployments
    [/azure]/openai/responses?api-version=V                          azure_deployments
    /azure/openai/v1/{chat/completions,responses}                    azure
    /foundry/anthropic/v1/messages                                   foundry_anthropic
    [/bedrock]/model/M/{converse,converse-stream}                    bedrock
    [/bedrock]/model/M/{invoke,invoke-with-response-stream}          bedrock_messages
    /bedrock/{openai/v1,v1}/chat/completions                         bedrock_openai
    /mantle/{openai/v1,v1}/{chat/completions,responses}              bedrock_mantle
    /mantle/anthropic/v1/messages                                    bedrock_mantle
    [/vertex]/V/projects/P/locations/L/publishers/google/models/M:METHOD      vertex
    [/vertex]/V/publishers/google/models/M:METHOD                             vertex_express
    [/vertex]/V/projects/P/locations/L/publishers/anthropic/models/M:METHOD   vertex_anthropic

Clouds have hosts of their own; the emulator has one, so what one path would be at two of them has
the cloud's name in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Door:
    """One door of a cloud."""

    name: str
    wire: str
    """Of `wires.clouds.WIRES`."""
    auth: str
    """azure | entra_only | foundry | google | google_express | aws"""
    service: str = ""
    """What an AWS signature is scoped to."""
    needs: Mapping[str, str] | None = None
    """Headers without which it answers 400, with what it says."""
    needs_api_version: bool = False


_VERSION = {"anthropic-version": "anthropic-version: header is required"}
_MANTLE = "bedrock-mantle"

_DOORS: tuple[tuple[re.Pattern[str], Door], ...] = tuple(
    (re.compile(pattern), door)
    for pattern, door in (
        (
            r"(/azure)?/openai/deployments/[^/]+/(chat/completions|embeddings)",
            Door("azure_deployments", "azure_chat", "azure_deployments", needs_api_version=True),
        ),
        (
            r"(/azure)?/openai/responses",
            Door(
                "azure_deployments", "azure_responses", "azure_deployments", needs_api_version=True
            ),
        ),
        (r"/azure/openai/v1/chat/completions", Door("azure", "azure_chat", "azure")),
        (r"/azure/openai/v1/embeddings", Door("azure", "azure_chat", "azure")),
        (r"/azure/openai/v1/responses", Door("azure", "azure_responses", "azure")),
        (
            r"/foundry/anthropic/v1/messages",
            Door("foundry_anthropic", "anthropic", "foundry", needs=_VERSION),
        ),
        (
            r"(/bedrock)?/model/.+/converse(-stream)?",
            Door("bedrock", "bedrock_converse", "aws", "bedrock"),
        ),
        (
            r"(/bedrock)?/model/.+/invoke(-with-response-stream)?",
            Door("bedrock_messages", "bedrock_messages", "aws", "bedrock"),
        ),
        (
            r"/bedrock/(openai/)?v1/chat/completions",
            Door("bedrock_openai", "openai_chat", "aws", "bedrock"),
        ),
        (
            r"/mantle/(openai/)?v1/chat/completions",
            Door("bedrock_mantle", "openai_chat", "aws", _MANTLE),
        ),
        (
            r"/mantle/(openai/)?v1/responses",
            Door("bedrock_mantle", "openai_responses", "aws", _MANTLE),
        ),
        (
            r"/mantle/anthropic/v1/messages",
            Door("bedrock_mantle", "anthropic", "aws", _MANTLE, needs=_VERSION),
        ),
        (
            r"(/vertex)?/v1(beta1)?/projects/.+/publishers/google/models/[^/]+",
            Door("vertex", "vertex_gemini", "google"),
        ),
        (
            r"(/vertex)?/v1(beta1)?/publishers/google/models/[^/]+",
            Door("vertex_express", "vertex_gemini", "google_express"),
        ),
        (
            r"(/vertex)?/v1(beta1)?/projects/.+/publishers/anthropic/models/[^/]+",
            Door("vertex_anthropic", "vertex_claude", "google"),
        ),
    )
)


@lru_cache(maxsize=1024)
def find_door(path: str) -> Door | None:
    """The door of a decoded path, or None if it is no cloud's."""
    for pattern, door in _DOORS:
        if pattern.fullmatch(path):
            return door
    return None
