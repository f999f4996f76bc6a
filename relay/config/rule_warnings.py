"""Rules that are accepted and will not do what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from relay.config.model import near
from relay.config.rule_values import Range
from relay.config.rules import TAG, RuleConfig, named
from relay.config.whole import Config

_LIKE: Final = 0.8
"""How near a made-up name is to one that is there, to be taken for a slip of the pen."""


def rule_warnings(config: Config) -> Iterator[str]:
    """One line each."""
    rules = config.policies.rules
    known = {*config.models, *config.policies.cascades, *config.policies.panels}
    known |= {model for row in config.providers.values() for model in row.models}
    names = [name for name, _ in named(rules)]
    for index, rule in enumerate(rules):
        path = f"policies.rules[{index}]"
        before = next((at for at in range(index) if _takes_all_of(rules[at], rule)), None)
        if before is not None:
            yield (
                f"{path} ({names[index]}) is never reached: rules[{before}] ({names[before]}) takes"
                " every request that it is for"
            )
        yield from _of_pick(path, rule)
        if rule.overrides is not None and rule.overrides.cache and config.cache is None:
            yield f"{path}.set.cache is {rule.overrides.cache}, but there is no `cache`"
    yield from _of_names(rules, known, config)


def _takes_all_of(first: RuleConfig, second: RuleConfig) -> bool:
    """Whether nothing is left for the second that the first has not decided."""
    if not first.is_sure or first.unless is not None:
        return False
    is_for_vectors = not second.is_for_answers_alone and second.when.embeddings is not False
    if first.is_for_answers_alone and is_for_vectors:
        return False
    wanted = second.when.given
    return all(
        name in wanted and _is_within(wanted[name], value)
        for name, value in first.when.given.items()
        if not (name == "model" and "*" in value)
    )


def _is_within(narrow: Any, wide: Any) -> bool:
    """Whether a condition holds only where another of the same key does; False where it cannot be
    told."""
    if isinstance(narrow, tuple) and isinstance(wide, tuple):
        return set(narrow) <= set(wide)
    if isinstance(narrow, tuple) and wide is True:  # such tools are some
        return True
    if isinstance(narrow, Range) and isinstance(wide, Range):
        is_above = (narrow.min or 0) >= (wide.min or 0)
        return is_above and (wide.max is None or (narrow.max or wide.max + 1) <= wide.max)
    return bool(narrow == wide)


def _of_pick(path: str, rule: RuleConfig) -> Iterator[str]:
    pick = rule.pick
    if pick is None:
        return
    if "explore" in pick.model_fields_set and not pick.looks_at_latency:
        yield f"{path}.pick.explore: latency is not looked at, so there is nothing to explore"
    if "quantile" in pick.model_fields_set and pick.by != "latency":
        yield f"{path}.pick.quantile is of `by: latency`, and it is by {pick.by}"


def _of_names(rules: Sequence[RuleConfig], known: set[str], config: Config) -> Iterator[str]:
    """Names that rules introduce: those which are near another, and those which are not given one
    in every case."""
    tags = {tag for row in config.models.values() for tag in row.tags}
    told: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.use is None and rule.pick is None:
            continue
        for name in rule.when.model or ():
            is_tag = name.startswith(TAG) and name[len(TAG) :] in tags
            if "*" in name or "/" in name or name in known or is_tag or name in told:
                continue
            told.add(name)
            path = f"policies.rules[{index}].when.model"
            if name.startswith(TAG):
                tag = name[len(TAG) :]
                yield f"{path}: no alias has the tag {tag!r}{near(tag, tags)}"
            if found := difflib.get_close_matches(name, sorted(known), 1, _LIKE):
                yield f"{path}: {name!r} becomes a name of its own; was {found[0]!r} meant?"
            if not any(_gives(other, name) for other in rules):
                yield (
                    f"{path}: no rule gives {name!r} a model in every case; where none does, it is"
                    " an unknown model (404)"
                )


def _gives(rule: RuleConfig, name: str) -> bool:
    """Whether no request for the name gets past it without one, or a refusal."""
    models = rule.when.model
    is_for_it = models is None or name in models or "*" in models
    does_it = rule.use is not None or rule.pick is not None or rule.refuse is not None
    return is_for_it and does_it and rule.decides_all_for_a_name
