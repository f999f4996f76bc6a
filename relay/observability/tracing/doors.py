"""What OpenTelemetry's conventions call the providers (`gen_ai.provider.name`)."""

from __future__ import annotations

from typing import Final

from relay.observability.tracing.shapes import Door
from relay.routing.endpoint import Endpoint

_NAMES: Final = {
    "azure": "azure.ai.openai",
    "azure_deployments": "azure.ai.openai",
    "foundry_anthropic": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_messages": "aws.bedrock",
    "bedrock_openai": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "vertex_express": "gcp.vertex_ai",
    "vertex_anthropic": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""By the row of the known providers; others are called what they are called here."""


def door_of(endpoint: Endpoint) -> Door:
    """How spans tell of a provider, and where it is asked."""
    origin = endpoint.origin
    return Door(_NAMES.get(endpoint.door, endpoint.door), origin.host, origin.port)
