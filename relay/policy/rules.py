"""One rule, made ready: its conditions as closures, its action looked up."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from relay.config.rules import RuleConfig
from relay.errors import PermissionDenied
from relay.policy.conditions import Condition, Test, all_hold, conditions
from relay.policy.overrides import changes_of
from relay.policy.picks import Pick


class RefusedByRule(PermissionDenied):
    """The operator wants no such requests; the message is the operator's."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message, metadata={"field": "rule"})
        self.rule = rule
        """Its name, for accounts and logs; the client is not told."""


class Rule:
    """See the module."""

    __slots__ = ("changes", "conditions", "config", "holds", "name", "pick", "unless")

    def __init__(
        self,
        name: str,
        config: RuleConfig,
        tagged: Mapping[str, Sequence[str]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            tagged: as of `Pick`, and so is `draw`.
        """
        self.name = name
        self.config = config
        self.conditions: tuple[Condition, ...] = conditions(config.when)
        self.unless: tuple[Condition, ...] = (
            () if config.unless is None else conditions(config.unless)
        )
        self.holds: Test = _holds(config, self.conditions, self.unless)
        """Whether the rule is for a request."""
        self.pick = None if config.pick is None else Pick(name, config.pick, tagged, draw)
        self.changes = None if config.overrides is None else changes_of(config.overrides)


def _holds(
    config: RuleConfig, wanted: tuple[Condition, ...], unwanted: tuple[Condition, ...]
) -> Test:
    holds = all_hold(wanted)
    if unwanted:
        excepted, of_when = all_hold(unwanted), holds
        holds = lambda facts: of_when(facts) and not excepted(facts)  # noqa: E731
    if config.is_for_answers_alone:
        of_any = holds
        return lambda facts: facts.request.embedding is None and of_any(facts)
    return holds
