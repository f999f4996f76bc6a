"""Rules, for `relay check`."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from relay.commands.table import table
from relay.config import Config
from relay.config.rules import RuleConfig, named
from relay.policy.conditions import conditions


def rules_table(config: Config) -> Table | None:
    """One row each, in the order in which they are tried; None where there are none."""
    if not config.policies.rules:
        return None
    rows = table("rules: the first that matches decides", "rule", "when", "becomes")
    for name, rule in named(config.policies.rules):
        rows.add_row(escape(name), escape("\n".join(_when(rule))), escape("\n".join(_then(rule))))
    return rows


def _when(rule: RuleConfig) -> list[str]:
    lines = [f"{one.field}: {one.wanted}" for one in conditions(rule.when)] or ["always"]
    if rule.unless is not None:
        lines += [f"unless {one.field}: {one.wanted}" for one in conditions(rule.unless)]
    return lines


def _then(rule: RuleConfig) -> list[str]:
    lines: list[str] = []
    if rule.use is not None:
        lines.append(rule.use)
    if rule.refuse is not None:
        lines.append(f"refused: {rule.refuse}")
    if (pick := rule.pick) is not None:
        of = f"all with tag {pick.tag}" if pick.tag else ", ".join(pick.among or ())
        lines.append(f"by {pick.by} of {of}")
        lines += [
            f"{bound}: {value:g}"
            for bound in type(pick).model_fields
            if bound.startswith(("min_", "max_")) and (value := getattr(pick, bound)) is not None
        ]
        if pick.looks_at_latency:
            lines.append(f"explore: {100 * pick.explore:g} %")
    if rule.overrides is not None:
        given = rule.overrides.model_dump(exclude_defaults=True)
        lines += [f"set {name}: {_shown(value)}" for name, value in given.items()]
    return lines


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
