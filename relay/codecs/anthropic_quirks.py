"""How one provider of the Messages API differs from Anthropic itself, and its models from each
other, as data.

Only what must be *sent* differently is here. Built from a row of `providers.yaml`, where an
unknown key is an error naming the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from relay.codecs.model_path import may_hold_model
from relay.codecs.quirk_checks import (
    Check,
    flag,
    header_name,
    names,
    names_among,
    one_of,
    ordered_names,
    read_quirks,
    text,
    whole_number,
)

ThinkingStyle = Literal["adaptive", "enabled", "none"]
CacheMode = Literal["auto", "off"]
BetasPlace = Literal["header", "body", "both"]
Framing = Literal["sse", "aws_event_stream"]

FEATURES: Final = frozenset({"image parts", "file parts", "json_schema", "tools"})


@dataclass(frozen=True, slots=True)
class AnthropicQuirks:
    """What differs in requests to one provider. The defaults suit Anthropic's newer models.

    The lists of models hold *parts of names*: `haiku-4-5` is meant by `claude-haiku-4-5-20251001`
    and by the same model behind another door, `us.anthropic.claude-haiku-4-5-v1:0`.
    """

    path: str = "/v1/messages"
    """After the base path; may hold `{model}` for the model's name (Bedrock, Vertex)."""
    count_path: str = "{path}/count_tokens"
    """Where the tokens of a prompt are counted; null or empty where nobody counts. A row that says
    nothing has it behind its `path`."""
    model_in_body: bool = True
    """Whether the body of a message names the model; where the path does it must not."""
    has_stream_field: bool = True
    """Whether the body says `stream: true`; where the path does it must not."""
    framing: Framing = "sse"
    """How events come: server-sent, or in frames of `aws_event_stream` (Bedrock)."""
    version: str = "2023-06-01"
    """Header `anthropic-version`."""
    body_version: str = ""
    """The body's `anthropic_version` in place of the header: `bedrock-2023-05-31`,
    `vertex-2023-10-16`. A later version may have other events."""
    betas: tuple[str, ...] = ()
    """Header `anthropic-beta`, in this order; an unknown one is answered with 400."""
    betas_in: BetasPlace = "header"
    """Where betas go: the header, `anthropic_beta` of the body, or both (Bedrock)."""
    tier_header: str = ""
    """Header that says the service tier, in place of the body's field (Bedrock:
    `x-amzn-bedrock-service-tier`), where tiers are `default`, `flex`, `priority` and `reserved`."""
    default_max_tokens: int = 4096
    """Sent as `max_tokens`, which the wire requires, when the client gives no limit: the most that
    every model takes, the oldest included. With manual thinking its budget comes on top."""
    thinking: ThinkingStyle = "adaptive"
    """Where `ReasoningOptions` go. `adaptive`: `thinking: {type: adaptive}` and
    `output_config.effort`. `enabled`: `thinking: {type: enabled, budget_tokens}`, called manual.
    `none`: nowhere."""
    manual_thinking_models: frozenset[str] = frozenset()
    """Models that know nothing but `enabled`, whatever `thinking` says."""
    always_thinking_models: frozenset[str] = frozenset()
    """Models that answer `thinking: {type: disabled}` with 400; effort `none` is left out."""
    fixed_sampling_models: frozenset[str] = frozenset()
    """Models that answer `temperature`, `top_p` and `top_k` with 400; they are left out."""
    cache: CacheMode = "off"
    """What is done about prompt caching when the request does not say (`prompt_cache`)."""
    refuses: frozenset[str] = frozenset()
    """`FEATURES` refused by name."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], provider: str) -> AnthropicQuirks:
        """Check a row's quirks.

        Raises:
            ValueError: an unknown key or a wrong value, named, with the nearest known one.
        """
        return cls(**read_quirks(values, _CHECKS, provider))

    def thinking_of(self, model: str) -> ThinkingStyle:
        """The style of one model, by the provider's name of it."""
        if self.thinking != "none" and is_among(model, self.manual_thinking_models):
            return "enabled"
        return self.thinking


def is_among(model: str, parts: frozenset[str]) -> bool:
    """Whether one of the parts is in the model's name; `4.5` and `4-5` are the same."""
    name = model.replace(".", "-")
    return any(part.replace(".", "-") in name for part in parts)


def _count_path(value: Any, where: str) -> str:
    return "" if value is None or value == "" else may_hold_model(value, where)


_CHECKS: Final[Mapping[str, Check]] = {
    "path": may_hold_model,
    "count_path": _count_path,
    "model_in_body": flag,
    "has_stream_field": flag,
    "framing": one_of(get_args(Framing)),
    "version": text,
    "body_version": text,
    "betas": ordered_names,
    "betas_in": one_of(get_args(BetasPlace)),
    "tier_header": header_name,
    "default_max_tokens": whole_number(1, 1_000_000),
    "thinking": one_of(get_args(ThinkingStyle)),
    "manual_thinking_models": names,
    "always_thinking_models": names,
    "fixed_sampling_models": names,
    "cache": one_of(get_args(CacheMode)),
    "refuses": names_among(FEATURES),
}
