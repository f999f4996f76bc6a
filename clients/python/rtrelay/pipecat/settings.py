"""What of the service can be set, also while a call runs (`LLMUpdateSettingsFrame`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipecat.services.settings import LLMSettings
from pipecat.utils.types import NOT_GIVEN, NotGiven, is_given

from rtrelay.v1 import (
    Budgets,
    CacheMode,
    CommitOn,
    HedgeMode,
    HedgePolicy,
    OutputOptions,
    PromptCache,
)

_HEDGE_MODES = {
    "auto": HedgeMode.HEDGE_MODE_AUTO,
    "off": HedgeMode.HEDGE_MODE_OFF,
    "race": HedgeMode.HEDGE_MODE_RACE,
}
_COMMIT_ON = {
    "first_content": CommitOn.COMMIT_ON_FIRST_CONTENT,
    "first_segment": CommitOn.COMMIT_ON_FIRST_SEGMENT,
}
_PROMPT_CACHE = {
    "auto": PromptCache.PROMPT_CACHE_AUTO,
    "off": PromptCache.PROMPT_CACHE_OFF,
}
_CACHE = {
    "off": CacheMode.CACHE_MODE_OFF,
    "refresh": CacheMode.CACHE_MODE_REFRESH,
    "only": CacheMode.CACHE_MODE_ONLY,
}
_BUDGETS = ("first_token_ms", "first_segment_ms", "inter_token_ms", "total_ms")
_MOST_MS = 2**32 - 1


@dataclass
class RelayLLMSettings(LLMSettings):
    """Pipecat's settings of LLMs, and the relay's. None leaves a thing to the relay.

    `model` is an alias of the relay's configuration, `provider/model` or a model's own name.
    `extra` goes into the request as further fields of an OpenAI chat body.
    """

    max_completion_tokens: int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """The most tokens of an answer, reasoning included; goes over `max_tokens`."""
    reasoning_effort: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """`none`, `minimal`, `low`, `medium`, `high`, ..."""
    parallel_tool_calls: bool | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    service_tier: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    thoughts: bool | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """Push the model's reasoning as `LLMThoughtTextFrame`s. It then counts as first content."""

    tags: Sequence[str] | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """For the operator's routing rules."""
    labels: Mapping[str, str] | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """For usage records and logs; added to those of the session."""
    hedge: str | int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """`auto`, `off`, `race`, or milliseconds after which a second attempt starts."""
    commit_on: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """`first_content`, or `first_segment`: what breaks within the first sentence is never heard."""
    prompt_cache: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """`auto` or `off`."""
    cache: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """`off`, `refresh` or `only`: whether an answer that the relay has kept will do."""
    first_token_ms: int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """The most time until the first content."""
    first_segment_ms: int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """The most time until the first speakable sentence."""
    inter_token_ms: int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """The most silence of the provider after its first content."""
    total_ms: int | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    """The most time until the end of an answer."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a field that is given has a value that the relay knows nothing of; the
                message names it.
        """
        for name in _BUDGETS:
            _check_ms(name, _of(self, name))
        hedge = _of(self, "hedge")
        if isinstance(hedge, str):
            _check_word("hedge", hedge, _HEDGE_MODES, " or a number of milliseconds")
        else:
            _check_ms("hedge", hedge)
        _check_word("commit_on", _of(self, "commit_on"), _COMMIT_ON)
        _check_word("prompt_cache", _of(self, "prompt_cache"), _PROMPT_CACHE)
        _check_word("cache", _of(self, "cache"), _CACHE)
        if isinstance(_of(self, "tags"), str):
            raise ValueError("tags: several texts are needed, not one")  # noqa: TRY004

    def start_fields(self) -> dict[str, Any]:
        """What of these goes into the arguments of `Session.start`."""
        fields: dict[str, Any] = {
            "model": _of(self, "model") or "",
            "tags": _of(self, "tags") or (),
            "labels": _of(self, "labels") or None,
            "output": OutputOptions(
                commit_on=_COMMIT_ON[word]
                if (word := _of(self, "commit_on"))
                else CommitOn.COMMIT_ON_UNSPECIFIED,
                reasoning=bool(_of(self, "thoughts")),
                extras=True,  # providers want some of them back, see ToolState
            ),
        }
        budgets = {name: _of(self, name) for name in _BUDGETS}
        if any(value is not None for value in budgets.values()):
            fields["budgets"] = Budgets(**budgets)
        if (hedge := _of(self, "hedge")) is not None:
            fields["hedge"] = (
                HedgePolicy(mode=_HEDGE_MODES[hedge])
                if isinstance(hedge, str)
                else HedgePolicy(mode=HedgeMode.HEDGE_MODE_AUTO, delay_ms=hedge)
            )
        if word := _of(self, "prompt_cache"):
            fields["prompt_cache"] = _PROMPT_CACHE[word]
        if word := _of(self, "cache"):
            fields["cache"] = _CACHE[word]
        return fields


def complete(settings: RelayLLMSettings | None) -> RelayLLMSettings:
    """Settings as a service keeps them: all fields that are not given are None.

    Raises:
        ValueError: see `RelayLLMSettings.check`.
    """
    whole = RelayLLMSettings(
        model=None,
        system_instruction=None,
        temperature=None,
        max_tokens=None,
        top_p=None,
        top_k=None,
        frequency_penalty=None,
        presence_penalty=None,
        seed=None,
        filter_incomplete_user_turns=False,
        user_turn_completion_config=None,
        use_provider_thinking_default=False,
        max_completion_tokens=None,
        reasoning_effort=None,
        parallel_tool_calls=None,
        service_tier=None,
        thoughts=False,
        tags=(),
        labels=None,
        hedge=None,
        commit_on=None,
        prompt_cache=None,
        cache=None,
        first_token_ms=None,
        first_segment_ms=None,
        inter_token_ms=None,
        total_ms=None,
    )
    if settings is not None:
        settings.check()
        whole.apply_update(settings)
    return whole


def _of(settings: RelayLLMSettings, name: str) -> Any:
    """A field; None also if it is not given."""
    value = getattr(settings, name)
    return value if is_given(value) else None


def _check_ms(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_MS:
        raise ValueError(f"{name}: a whole number of milliseconds is needed, not {value!r}")


def _check_word(name: str, value: object, known: Mapping[str, object], more: str = "") -> None:
    if value is not None and value not in known:
        raise ValueError(f"{name}: one of {', '.join(known)}{more} is needed, not {value!r}")
