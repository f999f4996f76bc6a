"""For whom a guardrail is.

It is for everybody, unless the operator says otherwise; nothing that a request says can take one
away. Of tags a request may only add to those of its key, so they may be what a guardrail is for,
and never what spares.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.guardrails.base import GuardScope

Names = frozenset[str] | None
"""None: all."""


@dataclass(frozen=True, slots=True)
class Applies:
    """See `relay.config.guardrails.WhereConfig`."""

    models: Names = None
    tenants: Names = None
    tags: Names = None
    surfaces: Names = None
    spared_models: frozenset[str] = frozenset()
    spared_tenants: frozenset[str] = frozenset()

    def to(self, scope: GuardScope, model: str) -> bool:
        """
        Args:
            model: what policies have made of the name asked for. A guardrail of either is one; to
                be spared, both must be, so that no rule leads a request round one.
        """
        if scope.tenant in self.spared_tenants:
            return False
        if scope.route in self.spared_models and model in self.spared_models:
            return False
        return (
            (self.models is None or scope.route in self.models or model in self.models)
            and (self.tenants is None or scope.tenant in self.tenants)
            and (self.tags is None or not self.tags.isdisjoint(scope.tags))
            and (self.surfaces is None or scope.surface in self.surfaces)
        )

    def to_anything_of(self, scope: GuardScope) -> bool:
        """Whether it is for something that this caller might ask by a way on which nobody can tell
        the model, the API and the tags: those words fit anything here."""
        is_spared = scope.tenant in self.spared_tenants
        return not is_spared and (self.tenants is None or scope.tenant in self.tenants)
