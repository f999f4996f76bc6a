"""From what LiveKit asks for to the start of a generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from livekit.agents import llm
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.agents.utils import is_given

from rtrelay.livekit._state import restore
from rtrelay.livekit.options import OPTION_NAMES, check_options
from rtrelay.v1 import (
    Budgets,
    CacheMode,
    CommitOn,
    HedgeMode,
    HedgePolicy,
    OutputOptions,
    PromptCache,
)

_ONLY_HTTP: Final = ("extra_headers", "extra_query", "timeout")
"""Arguments of OpenAI's client about its own connection."""
_HEDGES: Final = {
    "auto": HedgeMode.HEDGE_MODE_AUTO,
    "off": HedgeMode.HEDGE_MODE_OFF,
    "race": HedgeMode.HEDGE_MODE_RACE,
}
_CACHES: Final = {
    "auto": PromptCache.PROMPT_CACHE_AUTO,
    "off": PromptCache.PROMPT_CACHE_OFF,
}
_KEPT: Final = {
    "off": CacheMode.CACHE_MODE_OFF,
    "refresh": CacheMode.CACHE_MODE_REFRESH,
    "only": CacheMode.CACHE_MODE_ONLY,
}
_BUDGETS: Final = ("first_token_ms", "first_segment_ms", "inter_token_ms", "total_ms")


def split_arguments(
    extra_kwargs: NotGivenOr[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the chat completion, and the relay's options, in LiveKit's `extra_kwargs`.

    Raises:
        ValueError: an option is not known or wrong; the message names it.
    """
    given = dict(extra_kwargs) if is_given(extra_kwargs) else {}
    body = dict(given.pop("extra_body", None) or {})
    options = check_options(body.pop("relay", None) or {}, "extra_body.relay")
    direct = {key: given.pop(key) for key in list(given) if key in OPTION_NAMES}
    options.update(check_options(direct, "extra_kwargs"))
    for key in _ONLY_HTTP:
        given.pop(key, None)
    return {**given, **body}, options


def tool_fields(
    tools: list[llm.Tool],
    tool_choice: NotGivenOr[llm.ToolChoice | None],
    parallel_tool_calls: NotGivenOr[bool],
    *,
    strict: bool,
) -> dict[str, Any]:
    """The chat completion's fields about tools; none without tools."""
    schemas = llm.ToolContext(tools).parse_function_tools("openai", strict=strict)
    if not schemas:
        return {}
    fields: dict[str, Any] = {"tools": schemas}
    if is_given(parallel_tool_calls):
        fields["parallel_tool_calls"] = parallel_tool_calls
    if is_given(tool_choice) and tool_choice is not None:
        if isinstance(tool_choice, dict):
            name = tool_choice["function"]["name"]
            fields["tool_choice"] = {"type": "function", "function": {"name": name}}
        else:
            fields["tool_choice"] = tool_choice
    return fields


def chat_body(chat_ctx: llm.ChatContext, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an OpenAI chat completion."""
    messages, _ = chat_ctx.to_provider_format(format="openai")
    restore(messages)
    return {**fields, "messages": messages}


def start_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Session.start`, but for the prompt."""
    arguments: dict[str, Any] = {
        "model": options.get("route", ""),
        # Reasoning and state of providers, which have to go back to them, are extras.
        "output": OutputOptions(extras=True),
    }
    for name in ("turn_id", "speculative", "hold_until_commit", "tags", "labels", "traceparent"):
        if name in options:
            arguments[name] = options[name]
    limits = {name: options[name] for name in _BUDGETS if name in options}
    if limits:
        arguments["budgets"] = Budgets(**limits)
    if "hedge" in options:
        hedge = options["hedge"]
        arguments["hedge"] = (
            HedgePolicy(delay_ms=hedge)
            if isinstance(hedge, int)
            else HedgePolicy(mode=_HEDGES[hedge])
        )
    if options.get("commit_on") == "first_segment":
        arguments["output"].commit_on = CommitOn.COMMIT_ON_FIRST_SEGMENT
    if "prompt_cache" in options:
        arguments["prompt_cache"] = _CACHES[options["prompt_cache"]]
    if "cache" in options:
        arguments["cache"] = _KEPT[options["cache"]]
    return arguments


def first_token_limit_ms(options: Mapping[str, Any], conn_options: APIConnectOptions) -> int | None:
    """The request's own limit for the first token: the option, or the timeout that LiveKit's caller
    has set (its default of 10 s is nobody's wish, and leaves it to the route)."""
    limits = []
    if "first_token_ms" in options:
        limits.append(int(options["first_token_ms"]))
    timeout_s = conn_options.timeout
    if timeout_s > 0 and timeout_s != DEFAULT_API_CONNECT_OPTIONS.timeout:
        limits.append(max(1, round(timeout_s * 1000)))
    return min(limits, default=None)


__all__ = [
    "NOT_GIVEN",
    "chat_body",
    "first_token_limit_ms",
    "split_arguments",
    "start_arguments",
    "tool_fields",
]
