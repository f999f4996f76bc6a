"""The accounts of what the operator himself has asked: nobody's key, limits or budgets."""

from __future__ import annotations

from relay.governance.admission import Admission
from relay.governance.ledger import Ledger, NullLedger


def operators(ledger: Ledger) -> Ledger:
    """For generations of the relay's own making, such as copies of clients' requests: written down
    where the worker's are, with what they cost, and counted against nothing.

    Args:
        ledger: the worker's. What is returned holds for as long as its settings do: to be asked
            for anew, which costs nothing.
    """
    return ledger.for_operator() if isinstance(ledger, Admission) else NullLedger()
