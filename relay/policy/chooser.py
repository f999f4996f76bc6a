"""Which name a request becomes: the first rule that matches, or a tag that was asked for.

    chooser = Chooser.of(config)
    choice = chooser.choose(request, surroundings)      # before admission

Permissions. A name that the client asked for and that a rule made another is the one that the key
must have leave for (`GenerateRequest.asked_as`): the operator wrote the rule. A tag (`tag:cheap`)
is no name that leave is given for: it stands for the aliases that carry it and that the key may ask
for by their own names, and nothing else comes of it. So a key that is limited to some models
reaches no other by a tag, and limits of an alias hold for whoever comes to it by one. Where nothing
is left, the request goes on as it is, to be refused where all names are.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from relay.config.policies import PoliciesConfig
from relay.config.rules import TAG, named
from relay.config.whole import Config
from relay.content import GenerateRequest
from relay.errors import MAX_SHOWN_CHARS, UnknownModel
from relay.policy.facts import Facts
from relay.policy.overrides import changed
from relay.policy.patterns import is_pattern, matcher
from relay.policy.rules import RefusedByRule, Rule
from relay.policy.surroundings import Surroundings


class Choice(NamedTuple):
    """What a request has become."""

    request: GenerateRequest
    """With the name chosen as `model`, and the client's as `asked_as` where permissions go by
    that; the same object where nothing was changed."""
    rule: str = ""
    """The name of the rule that matched; empty for none."""
    is_changed: bool = False


class Chooser:
    """Of one configuration; a reload makes a new one."""

    def __init__(
        self,
        config: PoliciesConfig,
        tags: Mapping[str, Collection[str]],
        *,
        known: Collection[str] = (),
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            tags: of every alias, in the file's order.
            known: further names that can be asked for without any rule.
            draw: from 0 to 1, for rules that explore.
        """
        self._tagged: dict[str, list[str]] = {}
        for alias, words in tags.items():
            for word in words:
                self._tagged.setdefault(word, []).append(alias)
        self.rules: tuple[Rule, ...] = tuple(
            Rule(name, rule, self._tagged, draw) for name, rule in named(config.rules)
        )
        known = {*known, *tags, *config.cascades, *config.panels}
        self.comes_to: Mapping[str, tuple[str, ...]] = {
            name: reached
            for name in dict.fromkeys(_made_up(config, known, self._tagged))
            if (reached := tuple(_reached(name, self.rules)))  # not if rules before take all of it
        }
        """By each name that rules introduce, which nothing else has: every name that a request for
        it may become, those of the first rules first."""
        self.names: frozenset[str] = frozenset(self.comes_to)
        """Those that rules introduce."""

    @classmethod
    def of(cls, config: Config, draw: Callable[[], float] = random.random) -> Self:
        """Of a whole configuration."""
        return cls(
            config.policies,
            {alias: row.tags for alias, row in config.models.items()},
            known={model for row in config.providers.values() for model in row.models},
            draw=draw,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no request can become anything else: there are no rules, and no alias has a
        tag."""
        return not self.rules and not self._tagged

    @property
    def tags(self) -> Mapping[str, Sequence[str]]:
        """Aliases by their tags, which are asked for as `tag:WORD`."""
        return self._tagged

    def choose(self, request: GenerateRequest, surroundings: Surroundings) -> Choice:
        """
        Raises:
            RefusedByRule: the operator wants no such requests.
            UnknownModel: a tag is asked for that no alias has; of a key that is limited to some
                models it is left to be refused as any other name.
        """
        if request.asked_as:  # the relay's own doing: it has been chosen before
            return Choice(request)
        is_tag = request.model.startswith(TAG) and request.model[len(TAG) :] in self._tagged
        if self.rules:
            facts = Facts(request, surroundings)
            for rule in self.rules:
                if rule.holds(facts):
                    model = self._named_by(rule, facts, is_tag)
                    if model:
                        return self._chosen(rule, model, request, surroundings, is_tag)
        if is_tag and (found := self._own(request, surroundings)):
            return Choice(changed(request, {"model": found}), "", True)
        if not is_tag and request.model.startswith(TAG) and surroundings.allowed(request.model):
            # Comparing a megabyte would stop the loop.
            near = difflib.get_close_matches(
                request.model[len(TAG) : MAX_SHOWN_CHARS], self._tagged
            )
            raise UnknownModel(request.model, [f"{TAG}{tag}" for tag in near])
        return Choice(request)

    def _named_by(self, rule: Rule, facts: Facts, is_tag: bool) -> str:
        """The name that a rule gives, which may be the request's own; empty where it has none to
        give.

        Raises:
            RefusedByRule: by this rule.
        """
        config = rule.config
        if config.use is not None:
            return config.use
        if rule.pick is not None:
            return rule.pick.choose(facts, is_limited=is_tag)
        if config.refuse is not None:
            raise RefusedByRule(config.refuse, rule.name)
        return facts.request.model

    def _chosen(
        self,
        rule: Rule,
        model: str,
        request: GenerateRequest,
        surroundings: Surroundings,
        is_tag: bool,
    ) -> Choice:
        changes: dict[str, Any] = {} if rule.changes is None else rule.changes(request)
        asked_as = request.model
        if is_tag:
            # As if the client had named the first alias that the tag stands for.
            asked_as = self._own(request, surroundings)
            if not asked_as:
                return Choice(request, rule.name)
            if model == request.model:
                model = asked_as
            elif surroundings.allowed(model):
                asked_as = model
        if model != request.model:
            changes["model"] = model
            if asked_as != model:
                changes["asked_as"] = asked_as
        if not changes:
            return Choice(request, rule.name)
        return Choice(changed(request, changes), rule.name, True)

    def _own(self, request: GenerateRequest, surroundings: Surroundings) -> str:
        """The first alias with the tag that was asked for which the key may ask for itself; empty
        for none."""
        for alias in self._tagged[request.model[len(TAG) :]]:
            if surroundings.allowed(alias):
                return alias
        return ""


def _made_up(
    config: PoliciesConfig, known: Collection[str], tagged: Collection[str]
) -> Iterator[str]:
    """Names that rules ask for, and that nothing else has."""
    for rule in config.rules:
        if rule.use is None and rule.pick is None:
            continue
        for name in rule.when.model or ():
            is_tag = name.startswith(TAG) and name[len(TAG) :] in tagged
            if not is_pattern(name) and "/" not in name and name not in known and not is_tag:
                yield name


def _reached(name: str, rules: Sequence[Rule]) -> Iterator[str]:
    """What a request for a name may become by any of the rules, each once."""
    seen: set[str] = set()
    for rule in rules:
        when, config = rule.config.when, rule.config
        if when.model is not None and not matcher(when.model)(name):
            continue
        targets = rule.pick.names if rule.pick is not None else (config.use,)
        for target in targets:
            if target is not None and target not in seen:
                seen.add(target)
                yield target
        if config.decides_all_for_a_name:
            return
