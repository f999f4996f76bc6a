"""Every scanner that can be made here, for tests that go over all of them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Final

from relay.guardrails.denied import DeniedTerms
from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.injection import injection_scanners
from relay.guardrails.patterns import OwnPattern
from relay.guardrails.pii import PII_KINDS, pii_scanners
from relay.guardrails.scan import Action, Rule, Scanner
from relay.guardrails.secrets import secret_scanners

HAS_PHONES: Final = find_spec("phonenumbers") is not None
PII: Final = tuple(kind for kind in PII_KINDS if kind != "phone" or HAS_PHONES)


@cache
def scanners() -> tuple[Scanner, ...]:
    """All that work on streams."""
    return (
        *secret_scanners(),
        *pii_scanners(PII, region="DE"),
        *injection_scanners(),
        DeniedTerms(["secret", "secrets of state", "sex", "essexa", "naïve"]),
        DeniedTerms(["指令", "ret o"], label="parts", is_whole_words=False),
        OwnPattern("code", r"\b[A-Z]{2}-\d{2,4}\b"),
        OwnPattern("order", r"(?i)order\s+#?\d+", max_chars=20),
    )


@cache
def plan(action: Action = "redact", *families: str) -> GuardPlan:
    """One action for all, or for those whose names begin so."""
    return GuardPlan(
        [
            Rule(one, action, one.name)
            for one in scanners()
            if not families or one.name.startswith(families)
        ]
    )
