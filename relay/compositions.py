"""Cascades, panels and the names that rules make up: what each of a configuration may come to."""

from __future__ import annotations

from collections.abc import Mapping

from relay.config import Config
from relay.credentials.base import Desk
from relay.policy.base import Composition
from relay.policy.cascade import Cascade
from relay.policy.cascade_budget import SpeculationBudgets
from relay.policy.chooser import Chooser
from relay.policy.panel import Panel
from relay.routing.catalog import Catalog, Composed


def compositions_of(
    config: Config, budgets: SpeculationBudgets | None = None
) -> dict[str, Composition]:
    """By name.

    Args:
        budgets: of speculative starts, which outlive configurations; None for new ones.
    """
    budgets = budgets or SpeculationBudgets()
    policies = config.policies
    return {
        **{name: Cascade(name, row, budgets) for name, row in policies.cascades.items()},
        **{name: Panel(name, row) for name, row in policies.panels.items()},
    }


def catalog_of(
    config: Config,
    desk: Desk | None = None,
    compositions: Mapping[str, Composition] | None = None,
) -> Catalog:
    """The catalog of a configuration, with the names that its policies have.

    Args:
        desk: as of `Catalog`.
        compositions: of the same configuration; None: they are made for this alone.

    Raises:
        ConfigError: as `Catalog`.
    """
    compositions = compositions_of(config) if compositions is None else compositions
    composed = {name: Composed(one.models, one.legs_at_once) for name, one in compositions.items()}
    for name, aliases in Chooser.of(config).comes_to.items():
        composed[name] = Composed(aliases)
    return Catalog(config, desk, composed)
