"""Why a request becomes what it becomes: every rule with each of its conditions, for people.

Off the way of requests; it asks all that `Chooser.choose` asks, and what a rule would not have
looked at as well.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from relay.config.rules import TAG, WhenConfig
from relay.content import GenerateRequest
from relay.errors import UnknownModel
from relay.policy.chooser import Choice, Chooser
from relay.policy.conditions import Condition, found_of
from relay.policy.facts import Facts
from relay.policy.picks import Candidate
from relay.policy.rules import RefusedByRule, Rule
from relay.policy.surroundings import Surroundings

Verdict = Literal["decides", "does not match", "none left", "not reached", "for answers alone"]


class Checked(NamedTuple):
    """One condition."""

    field: str
    wanted: str
    found: str
    holds: bool


class Trace(NamedTuple):
    """One rule."""

    name: str
    verdict: Verdict
    when: tuple[Checked, ...]
    unless: tuple[Checked, ...]
    candidates: tuple[Candidate, ...]
    """That its pick looked at, where it came so far."""


class Explanation(NamedTuple):
    """One request."""

    traces: tuple[Trace, ...]
    choice: Choice
    refusal: RefusedByRule | UnknownModel | None
    """The request goes no further; `choice` is as it came."""


def explain(chooser: Chooser, request: GenerateRequest, surroundings: Surroundings) -> Explanation:
    """What `chooser` makes of a request, and why."""
    refusal: RefusedByRule | UnknownModel | None = None
    try:
        choice = chooser.choose(request, surroundings)
    except RefusedByRule as error:
        refusal, choice = error, Choice(request, error.rule)
    except UnknownModel as error:
        refusal, choice = error, Choice(request)
    facts = Facts(request, surroundings)
    is_tag = request.model.startswith(TAG) and request.model[len(TAG) :] in chooser.tags
    is_decided = False
    traces: list[Trace] = []
    for rule in chooser.rules:
        verdict: Verdict
        if is_decided:
            verdict = "not reached"
        elif rule.name == choice.rule:
            verdict, is_decided = "decides", True
        elif rule.config.is_for_answers_alone and request.embedding is not None:
            verdict = "for answers alone"
        else:
            verdict = "none left" if rule.holds(facts) else "does not match"
        traces.append(_trace(rule, verdict, facts, is_tag))
    return Explanation(tuple(traces), choice, refusal)


def _trace(rule: Rule, verdict: Verdict, facts: Facts, is_tag: bool) -> Trace:
    looked_at = verdict in ("decides", "none left") and rule.pick is not None
    unless = rule.config.unless
    return Trace(
        rule.name,
        verdict,
        _checked(rule.config.when, rule.conditions, facts),
        () if unless is None else _checked(unless, rule.unless, facts),
        tuple(rule.pick.looked_at(facts, is_limited=is_tag))
        if looked_at and rule.pick is not None
        else (),
    )


def _checked(
    when: WhenConfig, conditions: tuple[Condition, ...], facts: Facts
) -> tuple[Checked, ...]:
    return tuple(
        Checked(one.field, one.wanted, found_of(when, one, facts), one.holds(facts))
        for one in conditions
    )
