"""What a Gemini model's name tells: its generation, and how its thinking is asked for.

Sources, mid 2026: ai.google.dev "thinking" and "OpenAI compatibility" (whose mapping of efforts
to budgets this follows), docs.cloud.google.com "thinking". Names change faster than releases of
the relay, so a row can say `thinking:` itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from relay.content import ReasoningOptions

Style = Literal["budget", "level", "none"]

_VERSION: Final = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?:-|$)")
_LATEST: Final = re.compile(r"gemini-[a-z-]*latest$")
_OF_2_5_WITHOUT_THINKING: Final = ("image", "tts", "audio", "live", "embedding")

_BUDGETS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
_SMALLEST_PRO_BUDGET: Final = 128
"""2.5 Pro cannot stop thinking: 0 is answered with 400."""

_LEVELS: Final[Mapping[str, str]] = {
    "none": "minimal",  # there is no way to stop it
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_PRO_LEVELS: Final[Mapping[str, str]] = {**_LEVELS, "none": "low", "minimal": "low"}
_PRO_3_0_LEVELS: Final[Mapping[str, str]] = {**_PRO_LEVELS, "medium": "high"}


def generation(model: str) -> tuple[int, int] | None:
    """Version of the model, as (2, 5); None for names that tell none (tuned models, aliases)."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else None


def thinking_style(model: str) -> Style:
    """How this model's thinking is asked for; `none` for models that do not think, and for names
    that tell nothing, since asking those that do not is answered with 400."""
    version = generation(model)
    if version is None:
        # `gemini-flash-latest` and its like have meant models of generation 3 since early 2026.
        return "level" if _LATEST.search(model) else "none"
    if version >= (3, 0):
        return "level"
    if version < (2, 5) or any(word in model for word in _OF_2_5_WITHOUT_THINKING):
        return "none"
    return "budget"


def thinking_config(
    model: str, style: Style, reasoning: ReasoningOptions, *, want_thoughts: bool
) -> dict[str, Any]:
    """`generationConfig.thinkingConfig`, empty where the provider's default will do.

    Effort and budget are hints: what the style cannot say is turned into the nearest it can. Of
    the two the one that the style is made for wins; never both, which is answered with 400.
    """
    if style == "none":
        return {}
    config: dict[str, Any] = {"includeThoughts": True} if want_thoughts else {}
    effort, budget = reasoning.effort, reasoning.budget_tokens
    is_pro = "pro" in model.split("-")
    if style == "level" and effort:
        levels = _LEVELS
        if is_pro:
            levels = _PRO_3_0_LEVELS if generation(model) == (3, 0) else _PRO_LEVELS
        if effort in levels:
            config["thinkingLevel"] = levels[effort]
        return config
    if budget is None:
        budget = _BUDGETS.get(effort)
    if budget is not None:
        is_too_small = is_pro and 0 <= budget < _SMALLEST_PRO_BUDGET
        config["thinkingBudget"] = _SMALLEST_PRO_BUDGET if is_too_small else budget
    return config
