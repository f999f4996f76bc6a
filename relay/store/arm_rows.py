"""A row of `stopped_arms` (`relay.store.arm_store`), for who needs no database."""

from __future__ import annotations

from typing import NamedTuple


class ArmRow(NamedTuple):
    """One arm that does not run."""

    experiment: str
    arm: str
    edition: int
    """Of the experiment, when it was stopped."""
    use: str
    """What the arm was then."""
    respect: str
    in_arm: int
    in_control: int
    log_evidence: float
    at_us: int
