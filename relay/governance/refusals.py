"""Which decisions about what callers ask for the audit log is told, and in which words.

What is refused is told each time (repeats within a second are folded there). What goes on, but
otherwise than it was asked for, is told of each key once a minute: it is the rule and no event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.errors import Reason, RelayError
from relay.governance import audit_actions as actions
from relay.governance.audit_trail import Trail
from relay.governance.ledger import Refused, UnlimitedAnswer, Unpriced, UnpricedVisit
from relay.governance.unkept import Unkept

_ACTIONS: Final = {
    Reason.UNAUTHENTICATED: actions.KEY_DENIED,
    Reason.PERMISSION_DENIED: actions.MODEL_DENIED,
    Reason.LIMIT_EXCEEDED: actions.LIMIT_REACHED,
    Reason.BUDGET_EXCEEDED: actions.BUDGET_REFUSED,
    Reason.LEDGER_UNAVAILABLE: actions.STORE_DOWN,
    Reason.GUARDRAIL_BLOCKED: actions.GUARDRAIL_BLOCKED,
}
"""A model that is not there, and a field that is wrong, are the caller's business alone."""
_FIELDS: Final = {
    "max_tokens": actions.COST_DENIED,
    "tags": actions.TAG_DENIED,
    "rule": actions.RULE_REFUSED,
}
"""Of what is not allowed, by the field of the request that it is about; `rule`: by the operator's
own, whatever the key's scopes are."""
_UNREAD: Final = ("passthrough", "websocket")
"""Surfaces of what is handed through."""

TOLD_EVERY_US: Final = 60_000_000
_MOST_KEPT: Final = 4096


class Refusals:
    """Tells the log; never waits, never raises.

    Args:
        now_us: microseconds since 1970.
        organisation_of: whose a key is, by its id; "" where that is not known.
    """

    def __init__(
        self, trail: Trail, now_us: Callable[[], int], organisation_of: Callable[[str], str]
    ) -> None:
        self._trail = trail
        self._now_us = now_us
        self._organisation_of = organisation_of
        self._told: dict[tuple[str, str, str], list[int]] = {}
        """When it was told last, and how many were not since."""

    def tell(self, error: RelayError, what: Refused) -> None:
        """It may not be."""
        if (action := _action_of(error, what)) is not None:
            self._note(action, self._now_us(), what, actions.DENIED, error.public_message, 0)

    def tell_changed(self, action: str, what: Refused, why: str) -> None:
        """It goes on, but not as it was asked for: the first of a key in a minute is told, with the
        number of those that were not since the one before."""
        now_us = self._now_us()
        name = (action, what.key_id or what.tenant, why)
        last = self._told.get(name)
        if last is not None and now_us - last[0] < TOLD_EVERY_US:
            last[1] += 1
            return
        if last is None and len(self._told) >= _MOST_KEPT:
            self._told.clear()
        self._told[name] = [now_us, 0]
        self._note(action, now_us, what, actions.DONE, why, 0 if last is None else last[1])

    def _note(
        self, action: str, at_us: int, what: Refused, outcome: str, why: str, others_since: int
    ) -> None:
        key_id = what.key_id
        detail: dict[str, object] = {"id": what.request_id, "surface": what.surface, "why": why}
        if what.attempt:
            detail["attempt"] = what.attempt
        if others_since:
            detail["others_since"] = others_since
        self._trail.note(
            action,
            at_us=at_us,
            actor=actions.key_actor(key_id) if key_id else what.tenant,
            subject=what.subject,
            organisation_id=self._organisation_of(key_id) if key_id else "",
            outcome=outcome,
            detail=detail,
        )


def _action_of(error: RelayError, what: Refused) -> str | None:
    if isinstance(error, Unpriced | UnpricedVisit):
        return actions.UNPRICED_REFUSED
    if isinstance(error, Unkept):
        return actions.UNKEPT_REFUSED
    if isinstance(error, UnlimitedAnswer):
        return actions.BUDGET_REFUSED
    action = _ACTIONS.get(error.reason)
    if action != actions.MODEL_DENIED:
        return action
    if what.surface in _UNREAD:
        return actions.PASSTHROUGH_DENIED
    return _FIELDS.get(error.metadata.get("field", ""), action)
