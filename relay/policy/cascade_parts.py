"""What one configuration of a cascade is made of."""

from __future__ import annotations

from relay.config.cascades import CascadeConfig
from relay.policy.cascade_budget import SpeculationBudgets
from relay.policy.cascade_rules import CascadeRule
from relay.policy.classifier import Classifier
from relay.policy.self_check import SelfCheck


class CascadeParts:
    """No state of a request is kept in them.

    Args:
        name: of the cascade.
        budgets: of speculative starts.
    """

    def __init__(self, name: str, config: CascadeConfig, budgets: SpeculationBudgets) -> None:
        self.config = config
        escalate, speculate = config.escalate, config.speculate
        self.rules = tuple(CascadeRule(row) for row in escalate.rules)
        self.classifier = (
            Classifier(escalate.classifier) if escalate.classifier is not None else None
        )
        self.self_check = (
            SelfCheck(escalate.self_check) if escalate.self_check is not None else None
        )
        self.budget = budgets.of(name, speculate) if speculate is not None else None
