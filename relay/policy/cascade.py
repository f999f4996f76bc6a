"""Two tiers: a small model first, a large one where that is not enough.

The user sees one answer. Nothing of the small model's is released before its verdict
(`cascade_watch`); from then on it is the only one. The large model is started

- at once, where a rule says so, or the classifier before the answer;
- at the verdict, or when the small model fails;
- before it, within a budget (`speculate`): whichever is not wanted then is stopped at once;
- when the small model's time is over (`small_within_ms`, or its part of the request's own budget
  for the first token), whatever the budget; then the first that may be released is.

Where the large model fails, the small one's answer is given after all, if it is complete and no
refusal, unless that is switched off.

Source: Chen, Zaharia, Zou, "FrugalGPT" (2023), on cascades; Gupta et al., "Language Model Cascades:
Token-level uncertainty and beyond" (2024), on what their deferral can go by.
"""

from __future__ import annotations

from relay.answer import Answer
from relay.config.cascades import CascadeConfig
from relay.content import GenerateRequest
from relay.errors import InvalidRequest
from relay.policy.base import Legs
from relay.policy.cascade_budget import SpeculationBudgets
from relay.policy.cascade_parts import CascadeParts
from relay.policy.cascade_run import CascadeRun


class Cascade:
    """A `relay.policy.base.Composition`; made once a configuration.

    Args:
        name: that clients ask for.
        budgets: of speculative starts, kept from one configuration to the next.
    """

    def __init__(self, name: str, config: CascadeConfig, budgets: SpeculationBudgets) -> None:
        self.name = name
        self._parts = parts = CascadeParts(name, config, budgets)
        self.budget = parts.budget
        """Of speculative starts; None where there are none."""
        self.models = tuple(dict.fromkeys(config.asked.values()))
        beside = parts.classifier is not None and parts.classifier.config.beside_small
        # The self-check runs when the small model has ended; the large one may be there already.
        self.legs_at_once = 2 + int(beside)

    async def compose(self, request: GenerateRequest, legs: Legs) -> Answer:
        """Find the answer; fills `legs.decision`: outcome `small`, `escalated` or
        `small_after_failure`, reason of the list in docs/cascades.md.

        Raises:
            RelayError: neither tier has one. Of both failures the large tier's is raised.

        Cancelled: no task is left; the legs are cancelled.
        """
        if request.embedding is not None:
            raise InvalidRequest(f"{self.name!r} is a cascade: it has no vectors", field="model")
        decision = legs.decision
        decision.composition, decision.name = "cascade", self.name
        run = CascadeRun(self._parts, request, legs)
        answer: Answer | None = None
        try:
            answer = await run.answer()
        finally:
            try:
                await run.aclose()
            except BaseException:  # cancelled now, when it has one that nobody will get
                if answer is not None:
                    answer.abort()
                raise
        return answer
