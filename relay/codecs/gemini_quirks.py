"""How one host of the Gemini wire differs from Google's AI endpoint, as data.

As for OpenAI's wire (`openai_quirks`): only what must be sent differently is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from relay.codecs.model_path import must_hold_model
from relay.codecs.quirk_checks import (
    Check,
    flag,
    header_name,
    names_among,
    one_of,
    read_quirks,
)

ThinkingStyle = Literal["auto", "budget", "level", "none"]
SchemaStyle = Literal["json_schema", "openapi"]

PART_FEATURES = frozenset({"image parts", "audio parts", "file parts"})

FIELDS = frozenset(
    {
        "frequency_penalty",
        "logprobs",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "response_format",
        "seed",
        "service_tier",
        "top_k",
    }
)
"""What a row can refuse or leave out, by OpenAI's names."""


@dataclass(frozen=True, slots=True)
class GeminiQuirks:
    """What differs in requests to one host; the defaults are those of the AI endpoint."""

    path: str = "/v1beta/models/{model}:streamGenerateContent?alt=sse"
    """After the base path; `{model}` is the model's name, percent-encoded."""
    thinking: ThinkingStyle = "auto"
    """How thinking is asked for. `budget`: `thinkingBudget` (2.5). `level`: `thinkingLevel` (3
    and later), and past function calls must be signed. `none`: not at all (400 where a model does
    not think). `auto`: as the model's name says (`gemini_models`)."""
    schemas: SchemaStyle = "json_schema"
    """`json_schema`: `parametersJsonSchema` and `responseJsonSchema`, sent as they are.
    `openapi`: the older `parameters` and `responseSchema`, cut to what these know
    (`gemini_schema`)."""
    has_call_ids: bool = True
    """Whether calls and responses may carry ids; without them they are matched by order."""
    streams_arguments: bool = False
    """Ask for arguments in pieces (`streamFunctionCallArguments`, Vertex with Gemini 3 only)."""
    tier_header: str = ""
    """Header that says the service tiers `flex` and `priority` beside the body's `serviceTier`
    (Vertex: `x-vertex-ai-llm-shared-request-type`); empty for none."""
    refuses: frozenset[str] = frozenset()
    """`FIELDS` and `PART_FEATURES` refused by name; values that are the default never are."""
    leaves_out: frozenset[str] = frozenset()
    """`FIELDS` left out silently."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], provider: str) -> GeminiQuirks:
        """Check a row's quirks.

        Raises:
            ValueError: an unknown key or a wrong value, named, with the nearest known one.
        """
        return cls(**read_quirks(values, _CHECKS, provider))


_CHECKS: Mapping[str, Check] = {
    "path": must_hold_model,
    "thinking": one_of(get_args(ThinkingStyle)),
    "schemas": one_of(get_args(SchemaStyle)),
    "has_call_ids": flag,
    "streams_arguments": flag,
    "tier_header": header_name,
    "refuses": names_among(FIELDS | PART_FEATURES),
    "leaves_out": names_among(FIELDS),
}
