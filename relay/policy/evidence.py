"""How much speaks against an arm: a sequential test that may be looked at after every event.

Something bad happens now and then, in an arm or in the control, and each time it is asked in
which. While the arm is no worse than it may be, the odds that it is in the arm are at most `odds`,
which follow from how traffic is divided. `Evidence` is the likelihood ratio of that, mixed over
worse odds (`WORSE`): a nonnegative supermartingale that begins at 1, so that the probability that
it ever reaches 1/alpha is at most alpha, however long it runs and whenever it is looked at (Ville
1939). Nothing is assumed of how often bad things happen, nor that this stays the same.

Sources: Wald, "Sequential Analysis", 1947; Robbins, "Statistical methods related to the law of the
iterated logarithm", 1970 (mixtures); Lindon and Malek, "Anytime-valid inference for multinomial
count data", NeurIPS 2022 (counts of an arm against its share of the traffic); Johari et al.,
"Peeking at A/B tests", KDD 2017 (the mSPRT in experiments).
"""

from __future__ import annotations

from math import exp, log
from typing import Final

WORSE: Final = (1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Times the odds that are allowed: what is looked for, each with the same weight."""
_PRIOR: Final = -log(len(WORSE))


class Evidence:
    """Against one arm, in one respect."""

    __slots__ = ("_logs", "in_arm", "in_control", "log_value")

    def __init__(self) -> None:
        self._logs = [_PRIOR] * len(WORSE)
        self.in_arm = 0
        self.in_control = 0
        self.log_value = 0.0
        """Natural logarithm of the ratio."""

    def heard(self, *, is_in_arm: bool, odds: float) -> None:
        """It has happened again.

        Args:
            odds: arm to control, at the most, if the arm is as bad as is allowed; above 0. They may
                depend on what came before, and not on this event.
        """
        logs = self._logs
        if is_in_arm:
            self.in_arm += 1
            for index, times in enumerate(WORSE):
                logs[index] += log(times * (1.0 + odds) / (1.0 + times * odds))
        else:
            self.in_control += 1
            for index, times in enumerate(WORSE):
                logs[index] += log((1.0 + odds) / (1.0 + times * odds))
        most = max(logs)
        self.log_value = most + log(sum(exp(one - most) for one in logs))

    def is_enough(self, alpha: float) -> bool:
        """Whether the arm may be called worse, at an error probability of `alpha` for this respect
        over all time."""
        return self.log_value >= -log(alpha)
