"""Which refusals of an admission the audit log is told, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.errors import Reason, RelayError
from relay.governance import audit_actions as actions
from relay.governance.audit_trail import Trail
from relay.governance.ledger import Asked

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

    def tell(self, error: RelayError, asked: Asked) -> None:
        """Never waits, never raises."""
        action = _ACTIONS.get(error.reason)
        if action is None:
            return
        if error.metadata.get("field") == "max_tokens":
            action = actions.COST_DENIED
        policy = asked.request.policy
        self._trail.note(
            action,
            at_us=self._now_us(),
            actor=actions.key_actor(policy.key_id) if policy.key_id else policy.tenant,
            subject=asked.request.asked_as or asked.request.model,
            outcome=actions.DENIED,
            detail={
                "id": asked.generation_id,
                "surface": asked.surface,
                "why": error.public_message,
            },
        )
