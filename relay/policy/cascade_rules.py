"""Requests that are for the large model by what they are, before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from relay.config.cascades import CascadeRuleConfig
from relay.content import GenerateRequest, ImagePart
from relay.policy.questions import last_user_text
from relay.tokens import estimate_prompt_tokens

_Test = Callable[[GenerateRequest], bool]


class CascadeRule:
    """One rule; all of its conditions must hold, the cheap ones are looked at first."""

    def __init__(self, config: CascadeRuleConfig) -> None:
        self.name = config.name
        self._tests = _tests(config)

    def matches(self, request: GenerateRequest) -> bool:
        """Whether the request is of this kind."""
        return all(test(request) for test in self._tests)


def first_match(rules: Sequence[CascadeRule], request: GenerateRequest) -> CascadeRule | None:
    """The first rule that a request meets."""
    return next((rule for rule in rules if rule.matches(request)), None)


def _tests(config: CascadeRuleConfig) -> list[_Test]:
    found: list[_Test] = []
    for wanted, has in (
        (config.tools, _has_tools),
        (config.structured, _is_structured),
        (config.reasoning, _reasons),
        (config.images, _has_images),
    ):
        if wanted is not None:
            found.append(_is(wanted, has))
    if config.tags:
        tags = frozenset(config.tags)
        found.append(lambda request: not tags.isdisjoint(request.policy.tags))
    if config.messages_over is not None:
        most = config.messages_over
        found.append(lambda request: len(request.messages) > most)
    if config.prompt_tokens_over is not None:
        tokens = config.prompt_tokens_over
        found.append(lambda request: estimate_prompt_tokens(request) > tokens)
    if config.words:
        pattern = _any_word(config.words)
        found.append(lambda request: pattern.search(last_user_text(request)) is not None)
    return found


def _is(wanted: bool, has: _Test) -> _Test:
    return lambda request: has(request) is wanted


def _has_tools(request: GenerateRequest) -> bool:
    return bool(request.tools)


def _is_structured(request: GenerateRequest) -> bool:
    return request.response_format is not None and request.response_format.kind != "text"


def _reasons(request: GenerateRequest) -> bool:
    options = request.reasoning
    return bool(options.budget_tokens) or options.effort not in ("", "none")


def _has_images(request: GenerateRequest) -> bool:
    return any(isinstance(part, ImagePart) for one in request.messages for part in one.parts)


def _any_word(words: Sequence[str]) -> re.Pattern[str]:
    """Literals between no letters and digits: linear in the text, times the words' lengths."""
    return re.compile(
        "|".join(rf"(?<!\w){re.escape(' '.join(word.split()))}(?!\w)" for word in words),
        re.IGNORECASE,
    )
