"""The request of one answer, as the body of an OpenAI chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.adapters.llm.services.open_ai_adapter import openai_is_given
from pipecat.utils.types import is_given

if TYPE_CHECKING:
    from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMInvocationParams

    from rtrelay.pipecat.settings import RelayLLMSettings

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "max_tokens",
    "max_completion_tokens",
    "reasoning_effort",
    "parallel_tool_calls",
    "service_tier",
)
"""Settings that are fields of the body, by the same names."""


def chat_body(params: OpenAILLMInvocationParams, settings: RelayLLMSettings) -> dict[str, Any]:
    """What a context and the settings ask for; without the model, which the start names."""
    body: dict[str, Any] = {name: value for name, value in params.items() if openai_is_given(value)}
    for name in _SAMPLING:
        value = getattr(settings, name)
        if is_given(value) and value is not None:
            body[name] = value
    body.update(settings.extra)
    return body


def limit_tokens(body: dict[str, Any], max_tokens: int) -> None:
    """Let an answer have at most so many tokens, whatever the settings say."""
    body.pop("max_tokens", None)
    body["max_completion_tokens"] = max_tokens


def ask_for_schema(body: dict[str, Any], schema: dict[str, Any]) -> None:
    """Have the answer follow a JSON schema."""
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": schema, "strict": True},
    }
