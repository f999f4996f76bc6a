"""How one row of Bedrock's Converse differs, and the families of models behind it, as data.

Converse is one shape for all models, but for what is a model's own: how reasoning is asked for,
`top_k`, where the prompt may be cached. That goes by the family, which a model's name tells; an ARN
tells nothing, so that a row of ARNs should name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from relay.codecs.anthropic_quirks import AnthropicQuirks, CacheMode
from relay.codecs.model_path import must_hold_model
from relay.codecs.quirk_checks import (
    Check,
    names_among,
    one_of,
    read_quirks,
    whole_number,
)

Family = Literal["claude", "nova", "openai", "other"]

FEATURES: Final = frozenset({"image parts", "audio parts", "file parts", "json_schema", "tools"})

CACHE_PLACES: Final = frozenset({"system", "messages", "tools"})

_CACHE_PLACES_OF: Final[Mapping[Family, frozenset[str]]] = {
    "claude": CACHE_PLACES,
    "nova": frozenset({"system", "messages"}),
    "openai": frozenset(),
    "other": frozenset(),
}

_OF_CLAUDE: Final = (
    "thinking",
    "manual_thinking_models",
    "always_thinking_models",
    "fixed_sampling_models",
)
"""Quirks that say of Claude what `AnthropicQuirks` says."""

_GUARDRAIL_FIELDS: Final = frozenset(
    {"guardrailIdentifier", "guardrailVersion", "trace", "streamProcessingMode"}
)


@dataclass(frozen=True, slots=True)
class ConverseQuirks:
    """What differs in requests of one row."""

    path: str = "/model/{model}/converse-stream"
    """After the base path; `{model}` is the model's name, percent-encoded."""
    family: Family | Literal["auto"] = "auto"
    """Whose the models are; `auto`: as their names say."""
    claude: AnthropicQuirks = field(default_factory=AnthropicQuirks)
    """How Claude thinks and samples: the row's `thinking`, `manual_thinking_models`,
    `always_thinking_models` and `fixed_sampling_models`."""
    default_max_tokens: int | None = None
    """Sent as `maxTokens` when the client gives no limit; null: 4096 for Claude, as at Anthropic's
    own door, and nothing for others, which is the most that a model can do."""
    cache: CacheMode = "off"
    """What is done about prompt caching when the request does not say (`prompt_cache`)."""
    cache_points: frozenset[str] | None = None
    """Where a model takes cache points: `system`, `messages`, `tools`; others answer 400. Null: as
    the family does."""
    guardrail: Mapping[str, str] = field(default_factory=dict)
    """`guardrailConfig` of every request; a client cannot ask for another one."""
    refuses: frozenset[str] = frozenset()
    """`FEATURES` refused by name."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], provider: str) -> ConverseQuirks:
        """Check a row's quirks.

        Raises:
            ValueError: an unknown key or a wrong value, named, with the nearest known one.
        """
        checked = read_quirks(values, _CHECKS, provider)
        of_claude = {name: checked.pop(name) for name in _OF_CLAUDE if name in checked}
        return cls(claude=AnthropicQuirks(**of_claude), **checked)

    def family_of(self, model: str) -> Family:
        """Whose model it is, by Bedrock's name of it."""
        if self.family != "auto":
            return self.family
        name = model.lower()
        if "claude" in name:
            return "claude"
        if "nova" in name:
            return "nova"
        return "openai" if "gpt-" in name or name.startswith("openai.") else "other"

    def cache_places(self, family: Family) -> frozenset[str]:
        """Where cache points may stand."""
        return _CACHE_PLACES_OF[family] if self.cache_points is None else self.cache_points


def _guardrail(value: Any, where: str) -> dict[str, str]:
    """The fields of a `guardrailConfig`."""
    if not isinstance(value, Mapping) or not all(
        isinstance(one, str) for pair in value.items() for one in pair
    ):
        raise ValueError(f"{where} must be a mapping of texts")
    names_among(_GUARDRAIL_FIELDS)(list(value), where)
    if not {"guardrailIdentifier", "guardrailVersion"} <= value.keys():
        raise ValueError(f"{where} must have guardrailIdentifier and guardrailVersion")
    return dict(value)


def _default_max_tokens(value: Any, where: str) -> int | None:
    return None if value is None else whole_number(1, 1_000_000)(value, where)


def _cache_points(value: Any, where: str) -> frozenset[str] | None:
    return None if value is None else names_among(CACHE_PLACES)(value, where)


def _of_claude(name: str) -> Check:
    """The check of a quirk of `anthropic_messages`."""

    def check(value: Any, where: str) -> Any:
        try:
            return getattr(AnthropicQuirks.from_mapping({name: value}, ""), name)
        except ValueError as error:
            _, _, said = str(error).partition(f"quirk {name!r}")
            raise ValueError(f"{where}{said}") from None

    return check


_CHECKS: Final[Mapping[str, Check]] = {
    "path": must_hold_model,
    "family": one_of(("auto", *get_args(Family))),
    **{name: _of_claude(name) for name in _OF_CLAUDE},
    "default_max_tokens": _default_max_tokens,
    "cache": one_of(get_args(CacheMode)),
    "cache_points": _cache_points,
    "guardrail": _guardrail,
    "refuses": names_among(FEATURES),
}
