"""How one provider's Responses API differs from OpenAI's, as data.

Only what must be *sent* differently is here: answers are read liberally for every provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from relay.codecs import quirk_checks
from relay.codecs.model_path import may_hold_model
from relay.codecs.quirk_checks import (
    Check,
    flag,
    names,
    names_among,
    one_of,
    read_quirks,
    text,
    whole_number,
)

ReasoningSummary = Literal["auto", "concise", "detailed", "none"]

REFUSABLE = frozenset(
    {
        "audio parts",
        "file parts",
        "forced tool_choice",
        "image parts",
        "json_schema",
        "logprobs",
        "response_format",
        "temperature",
        "tools",
        "tools.strict",
        "top_p",
    }
)
"""What a row may refuse: left out, the answer would be another one."""

LEAVABLE = frozenset(
    {
        "include",
        "messages.phase",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning",
        "service_tier",
        "stream_options",
        "text",
        "tools.strict",
        "user",
    }
)
"""What a row may leave out: fields of the body as this API calls them, and two things within."""


@dataclass(frozen=True, slots=True)
class ResponsesQuirks:
    """What differs in requests to one provider. The defaults suit OpenAI and what copies it."""

    path: str = "/responses"
    """After the base path; may hold a query (Azure: `?api-version=...`)."""
    embeddings_path: str = "/embeddings"
    """Where vectors come from; may hold `{model}` (Azure's deployments)."""
    has_developer_role: bool = False
    """Whether role `developer` exists; else it is sent as `system`."""
    reasoning_format: str = "openai-responses-v1"
    """`format` of the reasoning state this provider gives out, and the only one it gets back:
    nobody but its maker can read it."""
    reasoning_models: str = r"(^|/)(o\d|codex|gpt-oss|gpt-(?!5-chat)([5-9]|1\d))"
    """Regular expression, searched for in the provider's model name: models that reason unasked,
    so that their encrypted reasoning is wanted back (others answer the wish with 400)."""
    least_output_tokens: int = 16
    """The lowest `max_output_tokens`; OpenAI answers 400 below it. A lower limit is refused by
    name, since a raised one would give, and cost, more than was asked for."""
    reasoning_summary: ReasoningSummary = "auto"
    """Asked for where the client wants reasoning and asks the model for some. `none` for OpenAI
    organisations that are not verified: they get 400."""
    refuses: frozenset[str] = frozenset()
    """Of `REFUSABLE`: refused by name."""
    leaves_out: frozenset[str] = frozenset()
    """Of `LEAVABLE`: left out silently."""
    passes: frozenset[str] = frozenset()
    """Extra body fields sent on beside those of OpenAI's API."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], provider: str) -> ResponsesQuirks:
        """Check a row's quirks.

        Raises:
            ValueError: an unknown key or a wrong value, named, with the nearest known one.
        """
        return cls(**read_quirks(values, _CHECKS, provider))


def _pattern(value: Any, where: str) -> str:
    """A regular expression."""
    try:
        re.compile(text(value, where))
    except re.error as error:
        raise ValueError(f"{where} is no regular expression: {error}") from None
    return str(value)


_CHECKS: Final[Mapping[str, Check]] = {
    "path": quirk_checks.path,
    "embeddings_path": may_hold_model,
    "has_developer_role": flag,
    "reasoning_format": text,
    "reasoning_models": _pattern,
    "least_output_tokens": whole_number(1, 1_000_000),
    "reasoning_summary": one_of(get_args(ReasoningSummary)),
    "refuses": names_among(REFUSABLE),
    "leaves_out": names_among(LEAVABLE),
    "passes": names,
}
