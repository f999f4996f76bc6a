"""What a request wants of the model's thinking, as this wire says it.

A wish is a hint: what a model cannot do is left out, never refused. Its sources, the first that
says something: the wire's own `thinking` object in the request's extra fields, taken as it is;
`ReasoningOptions`; OpenRouter's `reasoning: {effort, max_tokens, enabled}` in the extra fields.

    effort           adaptive style                      manual style (`enabled`)
    none             type disabled                       nothing, thinking being off by itself
    minimal          effort low                          1,024 tokens
    low              effort low                          2,048
    medium           effort medium                       8,192
    high             effort high                         16,384
    xhigh, max       the same word                       32,768
    any other word   the same word                       8,192

A budget is taken as it is in the manual style, and as the lowest effort that covers it in the
adaptive one; beside an effort, each style takes what it can say. A manual budget is at least 1,024
and stays below `max_tokens`, in which OpenAI counts reasoning too: a client's limit that leaves no
room for the least budget means no thinking. So does a tool choice that forces a call, in either
style and before the wire's own object, and a tool loop whose assistant turn does not begin with a
thinking block (another provider made it, or the client keeps none): the wire answers 400 to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relay.codecs.anthropic_conversation import WIRE
from relay.codecs.anthropic_quirks import AnthropicQuirks, is_among
from relay.content import GenerateRequest

MIN_BUDGET: Final = 1024

_BUDGET_OF_EFFORT: Final[Mapping[str, int]] = {
    "minimal": MIN_BUDGET,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
_DEFAULT_BUDGET: Final = 8192
_EFFORT_OF_BUDGET: Final = ((2048, "low"), (8192, "medium"))


class ThinkingPlan(NamedTuple):
    """What is sent."""

    thinking: Mapping[str, Any] | None
    """The wire's object, None to leave it out."""
    effort: str
    """`output_config.effort`, empty to leave it out."""
    max_tokens: int

    @property
    def is_on(self) -> bool:
        """Whether the request itself turns thinking on."""
        return self.thinking is not None and self.thinking.get("type") != "disabled"


def plan_thinking(
    request: GenerateRequest,
    model: str,
    quirks: AnthropicQuirks,
    *,
    may_be_manual: bool,
    is_forced: bool,
) -> ThinkingPlan:
    """
    Args:
        model: the provider's name of it.
        may_be_manual: whether the conversation allows manual thinking.
        is_forced: whether the model must call a tool.
    """
    limit = request.sampling.max_output_tokens
    native = request.extra_on(WIRE).get("thinking")
    plain = ThinkingPlan(None, "", limit or quirks.default_max_tokens)
    is_own = request.extra_wire == WIRE
    if isinstance(native, Mapping) and (is_own or _is_complete(native)):
        if is_forced and native.get("type") != "disabled":
            return plain
        budget = native.get("budget_tokens")
        room = budget if type(budget) is int and limit is None else 0
        return ThinkingPlan(native, "", (limit or quirks.default_max_tokens) + room)

    if is_own:
        return plain  # who speaks this wire has said all there is to say
    effort, budget = wished(request)
    style = quirks.thinking_of(model)
    if style == "none" or (not effort and budget is None):
        return plain
    if effort == "none" or (not effort and budget == 0):
        if style == "enabled" or is_among(model, quirks.always_thinking_models):
            return plain
        return plain._replace(thinking={"type": "disabled"})
    if is_forced:
        return plain
    if style == "adaptive":
        display = "summarized" if request.want_reasoning else "omitted"
        return plain._replace(
            thinking={"type": "adaptive", "display": display},
            effort=word_of(effort, budget),
        )
    tokens = max(budget or _BUDGET_OF_EFFORT.get(effort, _DEFAULT_BUDGET), MIN_BUDGET)
    if limit is not None:
        tokens = min(tokens, limit - 1)
    if tokens < MIN_BUDGET or not may_be_manual:
        return plain
    return ThinkingPlan(
        {"type": "enabled", "budget_tokens": tokens},
        "",
        quirks.default_max_tokens + tokens if limit is None else limit,
    )


def _is_complete(native: Mapping[str, Any]) -> bool:
    """Whether it is this wire's object; other wires have a bare `{"type": "enabled"}`."""
    return native.get("type") in ("adaptive", "disabled") or "budget_tokens" in native


def wished(request: GenerateRequest) -> tuple[str, int | None]:
    """Effort and budget, empty and None where nothing is wished."""
    wish = request.reasoning
    if wish.effort or wish.budget_tokens is not None:
        return wish.effort, wish.budget_tokens
    extra = request.extra_on(WIRE)
    native = extra.get("thinking")
    if isinstance(native, Mapping) and native.get("type") == "enabled":
        return "medium", None
    asked = extra.get("reasoning")
    if not isinstance(asked, Mapping):
        return "", None
    effort, budget = asked.get("effort"), asked.get("max_tokens")
    if isinstance(effort, str) and effort:
        return effort, None
    if type(budget) is int:
        return "", budget
    if asked.get("enabled") is not None:
        return "medium" if asked["enabled"] else "none", None
    return "", None


def word_of(effort: str, budget: int | None) -> str:
    """The effort as one word, a budget as the lowest that covers it."""
    if effort:
        return "low" if effort == "minimal" else effort
    covering = (word for tokens, word in _EFFORT_OF_BUDGET if (budget or 0) <= tokens)
    return next(covering, "high")
