"""What the operator's policies made of one generation: who chose, and why.

One a generation, filled on its way, and told with its end: to the ledger, the log, the metrics and
the client. None of it holds text of a prompt or an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

CacheVerdict = Literal["off", "miss", "hit", "semantic", "shared", "bypass", "refresh"]
"""`off`: none applies. `hit`: the same request. `semantic`: one that means the same. `shared`: an
equal request that ran at the time was waited for. `bypass`: the caller wanted none, or the request
cannot be kept. `refresh`: the caller wanted a new answer, which is kept."""

_KEPT: Final = frozenset({"hit", "semantic", "shared"})


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What one guardrail found in one generation."""

    guardrail: str
    """As the operator calls it."""
    scanner: str
    """What found it: `pii.email`, `secret.aws_key`, `denied`, ..."""
    side: Literal["input", "output"]
    action: Literal["block", "redact", "mask", "flag", "error"]
    """`error`: it could not tell; whether the text went on is `is_open`."""
    count: int = 1
    is_open: bool = False


@dataclass(slots=True)
class Decision:
    """See the module. What is empty or None was not decided by any policy."""

    asked: str = ""
    """The model as the client named it, where it became another."""
    rule: str = ""
    """The name of the first rule that matched."""
    experiment: str = ""
    arm: str = ""
    unit: str = ""
    """Whose requests stay in one arm, under a name that is this experiment's own and tells nothing
    of who it is; empty where the request did not say."""
    composition: Literal["", "cascade", "panel"] = ""
    name: str = ""
    """Of the cascade or panel."""
    outcome: str = ""
    """What came of it: `small`, `escalated`; `agreed`, `plurality`, `judged`, ..."""
    reason: str = ""
    """Why, in one word of a documented list: `schema`, `refusal`, `logprobs`, `judge`, ..."""
    legs: list[dict[str, Any]] = field(default_factory=list)
    """One a leg, in the order of their starts: `label`, `model`, `outcome`, `cost_micro`, ..."""
    cache: CacheVerdict = "off"
    cache_age_s: float | None = None
    similarity: float | None = None
    """Of a semantic hit."""
    saved_micro: int = 0
    """Micro-dollars that the caches have saved: what the kept answer had cost."""
    guards: list[GuardVerdict] = field(default_factory=list)
    guard_us: int = 0
    """That guardrails took before the first release."""
    retract_from: int | None = None
    """From which character on text that was released ought not to have been; None for none."""
    retract_choice: int = 0
    held_chars: int = 0
    """The most that guardrails held back at once."""
    shadow: dict[str, Any] = field(default_factory=dict)
    """Of a copy that nobody waits for: `name` of the shadow, `of` which generation, and how the two
    compare."""

    @property
    def is_kept(self) -> bool:
        """The answer came from a cache: no provider was asked for it, though one may have been for
        something else (a vector, a judge)."""
        return self.cache in _KEPT

    @property
    def is_plain(self) -> bool:
        """No policy had anything to say."""
        return not (
            self.asked
            or self.rule
            or self.experiment
            or self.composition
            or self.legs
            or self.shadow
            or self.guards
            or self.cache != "off"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only what was decided."""
        found: dict[str, Any] = {
            name: value
            for name in ("asked", "rule", "experiment", "arm", "unit", "composition", "name")
            if (value := getattr(self, name))
        }
        for name in ("outcome", "reason", "legs", "saved_micro", "guard_us", "held_chars"):
            if value := getattr(self, name):
                found[name] = value
        if self.shadow:
            found["shadow"] = self.shadow
        if self.cache != "off":
            found["cache"] = self.cache
        for name in ("cache_age_s", "similarity", "retract_from"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        if self.guards:
            found["guards"] = [
                {
                    "guardrail": one.guardrail,
                    "scanner": one.scanner,
                    "side": one.side,
                    "action": one.action,
                    "count": one.count,
                    **({"is_open": True} if one.is_open else {}),
                }
                for one in self.guards
            ]
        return found
