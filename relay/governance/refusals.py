"""Which refusals of what callers ask for the audit log is told, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.errors import Reason, RelayError
from relay.governance import audit_actions as actions
from relay.governance.audit_trail import Trail
from relay.governance.ledger import Refused, Unpriced, UnpricedVisit

_ACTIONS: Final = {
    Reason.UNAUTHENTICATED: actions.KEY_DENIED,
    Reason.PERMISSION_DENIED: actions.MODEL_DENIED,
    Reason.LIMIT_EXCEEDED: actions.LIMIT_REACHED,
    Reason.BUDGET_EXCEEDED: actions.BUDGET_REFUSED,
    Reason.LEDGER_UNAVAILABLE: actions.STORE_DOWN,
}
"""A model that is not there, and a field that is wrong, are the caller's business alone."""


class Refusals:
    """Tells the log; repeats are folded there."""

    def __init__(self, trail: Trail, now_us: Callable[[], int]) -> None:
        self._trail = trail
        self._now_us = now_us

    def tell(self, error: RelayError, what: Refused) -> None:
        """Never waits, never raises."""
        action = _ACTIONS.get(error.reason)
        if isinstance(error, Unpriced | UnpricedVisit):
            action = actions.UNPRICED_REFUSED
        if action is None:
            return
        if error.metadata.get("field") == "max_tokens":
            action = actions.COST_DENIED
        self._trail.note(
            action,
            at_us=self._now_us(),
            actor=actions.key_actor(what.key_id) if what.key_id else what.tenant,
            subject=what.subject,
            outcome=actions.DENIED,
            detail={
                "id": what.request_id,
                "surface": what.surface,
                "why": error.public_message,
            },
        )
