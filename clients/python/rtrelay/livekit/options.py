"""What a request asks of the relay itself, under the names that its HTTP surface uses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict


class RelayOptions(TypedDict, total=False):
    """Given to `LLM(relay=...)` for all requests, and in `extra_kwargs` of `chat` for one.

    There they stand for themselves or, as for LiveKit's own OpenAI plugin at the relay's HTTP
    surface, under `extra_body`: `{"extra_body": {"relay": {"turn_id": "t1"}}}`. Of what is not
    given the defaults hold.
    """

    route: str
    """The alias to use instead of the LLM's model."""
    turn_id: str
    """The turn this belongs to; else LiveKit's id of the speech, where there is one."""
    speculative: bool
    """The answer may yet be discarded: no tool call comes and no second provider is asked before
    it is committed. Else known from the speech, where there is one (see `LLM`)."""
    hold_until_commit: bool
    """With `speculative`: no text either."""
    tags: Sequence[str]
    """For the operator's routing rules."""
    labels: Mapping[str, str]
    """For usage records and logs."""
    hedge: Literal["auto", "off", "race"] | int
    """How to race for the first token; a number starts the second after so many milliseconds."""
    commit_on: Literal["first_content", "first_segment"]
    """When the answer is bound to one provider. With `first_segment` output waits for the first
    speakable piece, and what breaks before it is never heard."""
    first_token_ms: int
    """Time limits from when the relay reads the start; the route's hold in any case."""
    first_segment_ms: int
    inter_token_ms: int
    total_ms: int
    prompt_cache: Literal["auto", "off"]
    """Whether the relay sees to it that the provider caches the prompt."""
    cache: Literal["off", "refresh", "only"]
    """Whether an answer that the relay has kept will do, where its operator keeps any."""
    traceparent: str
    """W3C trace context; else that of LiveKit's span, where it is recorded."""


OPTION_NAMES: Final = frozenset(RelayOptions.__annotations__)
_ONLY_HTTP: Final = frozenset({"session_id", "timeline"})
"""Of the HTTP surface, without effect here: the session is the stream, timelines always come."""
_BUDGETS: Final = ("first_token_ms", "first_segment_ms", "inter_token_ms", "total_ms")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "commit_on": ("first_content", "first_segment"),
    "prompt_cache": ("auto", "off"),
    "cache": ("off", "refresh", "only"),
}
_TEXTS: Final = ("route", "turn_id", "traceparent")
_FLAGS: Final = ("speculative", "hold_until_commit")
_MAX_MS: Final = 86_400_000


def check_options(given: Mapping[str, Any], where: str = "relay") -> dict[str, Any]:
    """The options that have an effect here.

    Raises:
        ValueError: an unknown name or a wrong value, naming it.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        key = "route" if name == "model" else name  # which are one on the HTTP surface
        if key in OPTION_NAMES:
            _check(key, value, f"{where}.{name}")
            found[key] = value
        elif key not in _ONLY_HTTP:
            near = difflib.get_close_matches(key, OPTION_NAMES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{where}.{key} is not known{hint}")
    return found


def _check(key: str, value: object, field: str) -> None:
    if key in _BUDGETS:
        _check_ms(value, field)
    elif key == "hedge":
        if value not in ("auto", "off", "race"):
            _check_ms(value, field, "auto, off, race, or ")
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{field} must be {' or '.join(_CHOICES[key])}")
    elif key in _TEXTS:
        if not isinstance(value, str):
            raise ValueError(f"{field} must be a text")
    elif key in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{field} must be true or false")
    elif key == "tags":
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"{field} must be a list of texts")
    elif not isinstance(value, Mapping):
        raise ValueError(f"{field} must be a mapping of texts")


def _check_ms(value: object, field: str, others: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_MS:
        raise ValueError(f"{field} must be {others}1 to {_MAX_MS} milliseconds")
