"""`set`: what a rule changes of a request beside its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, Final

from relay.config.rules import SetConfig
from relay.content import Budgets, GenerateRequest, HedgeWish, Policy

_BUDGETS: Final = {
    "first_token_ms": "first_token_s",
    "first_segment_ms": "first_segment_s",
    "inter_token_ms": "inter_token_s",
    "total_ms": "total_s",
}

_NAMES: Final = tuple(field.name for field in fields(GenerateRequest))
_VALUES: Final = attrgetter(*_NAMES)
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}


def changed(request: GenerateRequest, changes: Mapping[str, Any]) -> GenerateRequest:
    """As `dataclasses.replace` does it, in half the time."""
    values = list(_VALUES(request))
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return GenerateRequest(*values)


def changes_of(config: SetConfig) -> Callable[[GenerateRequest], dict[str, Any]]:
    """What is to be replaced of a request, by field. Of limits the lower one holds, the client's or
    the rule's; other values are the rule's."""
    limits_s = {
        field: value / 1000
        for name, field in _BUDGETS.items()
        if (value := getattr(config, name)) is not None
    }
    of_policy: dict[str, Any] = {}
    for name in ("prompt_cache", "cache"):
        if (value := getattr(config, name)) is not None:
            of_policy[name] = value
    if config.hedge is not None:
        of_policy["hedge"] = HedgeWish(mode=config.hedge)
    most = config.max_output_tokens

    def changes(request: GenerateRequest) -> dict[str, Any]:
        found: dict[str, Any] = {}
        policy = request.policy
        more = dict(of_policy)
        if limits_s:
            more["budgets"] = _within(policy.budgets, limits_s)
        if config.tags:
            more |= _tagged(policy, config.tags)
        if more:
            found["policy"] = replace(policy, **more)
        if most is not None:
            asked = request.sampling.max_output_tokens
            if asked is None or asked > most:
                found["sampling"] = replace(request.sampling, max_output_tokens=most)
        if config.effort is not None:
            found["reasoning"] = replace(request.reasoning, effort=config.effort)
        if config.service_tier is not None:
            found["service_tier"] = config.service_tier
        return found

    return changes


def _within(budgets: Budgets, limits_s: dict[str, float]) -> Budgets:
    found: dict[str, float] = {}
    for field, limit_s in limits_s.items():
        asked_s = getattr(budgets, field)
        found[field] = limit_s if asked_s is None else min(asked_s, limit_s)
    return replace(budgets, **found)


def _tagged(policy: Policy, tags: tuple[str, ...]) -> dict[str, Any]:
    """The client's own first, each once; and which of them are not its own."""
    added = frozenset(tags) - frozenset(policy.tags)
    if not added:
        return {}
    return {
        "tags": tuple(dict.fromkeys((*policy.tags, *tags))),
        "tags_of_rules": policy.tags_of_rules | added,
    }
