"""How one OpenAI-compatible provider differs from OpenAI itself, as data.

Only what must be *sent* differently is here: answers are read liberally for every provider, so
that no row is needed to survive a surprise. Built from a row of `providers.yaml`, where an
unknown key is an error naming the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from relay.codecs import model_path
from relay.codecs.quirk_checks import (
    Check,
    flag,
    names,
    names_among,
    names_or_all,
    one_of,
    read_quirks,
    text,
)

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
RequiredWord = Literal["required", "any"]
ToolCallIds = Literal["as_is", "nine_alphanumerics"]
ReasoningStyle = Literal["effort", "openrouter", "qwen", "thinking", "none"]
ReasoningHistory = Literal["none", "reasoning_content", "reasoning"]

# Things in a request that are not top-level body fields, by the name a row calls them.
PART_FEATURES = frozenset(
    {
        "image parts",
        "audio parts",
        "file parts",
        "json_schema",
        "forced tool_choice",
        "messages.name",
        "tools.strict",
    }
)

BODY_FIELDS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "response_format",
        "seed",
        "service_tier",
        "stop",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    }
)


@dataclass(frozen=True, slots=True)
class OpenAIChatQuirks:
    """What differs in requests to one provider. The defaults suit an unknown compatible host.

    Whatever a row cannot express is either *refused* by name (`UnsupportedFeature`: leaving it
    out would change the answer's meaning) or *left out* (it does not); both are listed here and
    nowhere else. A value equal to the API's default (`n: 1`, `logprobs: false`, penalties 0,
    `parallel_tool_calls: true`) is left out rather than refused. Reasoning options are hints:
    what a `reasoning` style cannot say is left out, never refused.
    """

    path: str = "/chat/completions"
    """After the base path; may hold a query (Azure: `?api-version=...`), and `{model}` for the
    model's name (Azure: `/openai/deployments/{model}/...`), which stays in the body too."""
    max_tokens_field: MaxTokensField = "max_tokens"
    """Every host knows `max_tokens`; OpenAI's reasoning models answer it with 400."""
    has_developer_role: bool = False
    """Whether role `developer` exists; else it is sent as `system`."""
    has_stream_options: bool = True
    """Whether `stream_options: {include_usage: true}` may be sent; strict hosts refuse it."""
    has_cache_key: bool = False
    """Whether `prompt_cache_key` may be sent though the client gave none (`prompt_cache: auto`):
    strict hosts answer 400 to it. The client's own is sent to any."""
    has_cache_marks: bool = False
    """Whether a client's own `cache_control` on parts, tools, messages and the body is sent on;
    hosts that do not know it answer 400, so that the hint is left out."""
    has_tool_media: bool = False
    """Whether images, sound and files may stand in the results of tools; OpenAI and vLLM answer
    400 to anything but text there, so that they are refused by name."""
    seed_field: str = "seed"
    """Mistral calls it `random_seed`."""
    required_word: RequiredWord = "required"
    """How `tool_choice: required` is spelt; Mistral: `any`."""
    tool_call_ids: ToolCallIds = "as_is"
    """Mistral takes nothing but `[a-zA-Z0-9]{9}`: other ids are mapped by a hash, the same id
    always to the same nine characters, in calls and results alike."""
    reasoning: ReasoningStyle = "effort"
    """Where `ReasoningOptions` go. `effort`: `reasoning_effort`. `openrouter`: `reasoning:
    {effort, max_tokens}`. `qwen`: `enable_thinking` and `thinking_budget`. `thinking`:
    `thinking: {type: enabled|disabled}` and `reasoning_effort`. `none`: nowhere."""
    reasoning_history: ReasoningHistory = "none"
    """Field for the reasoning text of assistant messages after the last user message, which is
    a tool loop (DeepSeek answers 400 where it is missing there, and older models where it is
    sent elsewhere); `none` leaves it out."""
    refuses: frozenset[str] = frozenset()
    """Body fields and `PART_FEATURES` refused by name."""
    leaves_out: frozenset[str] = frozenset()
    """Body fields (typed or extra), `messages.name` and `tools.strict` left out silently."""
    only_extra: frozenset[str] | None = None
    """The only extra body fields that are sent, for hosts that answer 422 to unknown ones;
    others are left out. None sends all."""
    only_message_extra: frozenset[str] | None = None
    """The only opaque message and tool-call fields that are sent back. None sends all."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], provider: str) -> OpenAIChatQuirks:
        """Check a row's quirks.

        Raises:
            ValueError: an unknown key or a wrong value, named, with the nearest known one.
        """
        return cls(**read_quirks(values, _CHECKS, provider))


_CHECKS: Final[Mapping[str, Check]] = {
    "path": model_path.may_hold_model,
    "max_tokens_field": one_of(get_args(MaxTokensField)),
    "has_developer_role": flag,
    "has_stream_options": flag,
    "has_cache_key": flag,
    "has_cache_marks": flag,
    "has_tool_media": flag,
    "seed_field": text,
    "required_word": one_of(get_args(RequiredWord)),
    "tool_call_ids": one_of(get_args(ToolCallIds)),
    "reasoning": one_of(get_args(ReasoningStyle)),
    "reasoning_history": one_of(get_args(ReasoningHistory)),
    "refuses": names_among(PART_FEATURES | BODY_FIELDS),
    "leaves_out": names,
    "only_extra": names_or_all,
    "only_message_extra": names_or_all,
}
