"""The vocabulary of the audit log: actions, actors, outcomes.

`list --action` and whoever reads the log rely on these words; they are added to, never changed.
What an administrator does is named by the administration: `key.created`, `budget.changed`, ...
"""

from __future__ import annotations

from typing import Final

DONE: Final = "done"
DENIED: Final = "denied"
FAILED: Final = "failed"

CONFIG_LOADED: Final = "config.loaded"
CONFIG_REFUSED: Final = "config.refused"
STORE_DOWN: Final = "store.down"

KEY_DENIED: Final = "key.denied"
"""No valid key came: unknown, revoked, expired."""
ADMIN_DENIED: Final = "admin.denied"
"""No valid administrator's token, or its role does not allow it."""
CERTIFICATE_DENIED: Final = "certificate.denied"
"""A client certificate that does not hold, or that no key stands for."""
MODEL_DENIED: Final = "model.denied"
"""The key's scopes do not have it."""
TAG_DENIED: Final = "tag.denied"
"""The key's scopes do not let a request carry it."""
PASSTHROUGH_DENIED: Final = "passthrough.denied"
"""The key may not use what is handed to a provider unread."""
HEDGE_DENIED: Final = "hedge.denied"
"""The request goes on without the hedges that it, or its alias, asked for."""
COST_DENIED: Final = "cost.denied"
"""The request may cost more than its key allows a request."""
LIMIT_REACHED: Final = "limit.reached"
BUDGET_REFUSED: Final = "budget.refused"
UNPRICED_REFUSED: Final = "unpriced.refused"
"""A budget counts, and nobody knows what the model costs."""
UNKEPT_REFUSED: Final = "unkept.refused"
"""The key has limits or budgets, and the relay keeps no accounts that could hold them."""
TOKENS_CAPPED: Final = "tokens.capped"
"""The request goes on with a limit for its answer, which a budget or its key needs."""

GUARDRAIL_BLOCKED: Final = "guardrail.blocked"
"""A guardrail refused what was asked, or the whole of an answer."""
RULE_REFUSED: Final = "rule.refused"
"""A rule of the operator's refuses such requests."""
ARM_STOPPED: Final = "arm.stopped"
"""A guard rail of an experiment has stopped one of its arms, and says why; or somebody has."""
ARM_RESUMED: Final = "arm.resumed"
"""Somebody lets an arm run again."""

USAGE_PURGED: Final = "usage.purged"
"""Old accounts were deleted; by the relay itself, or by an administrator."""
USAGE_EXPORTED: Final = "usage.exported"
AUDIT_EXPORTED: Final = "audit.exported"
USAGE_FORGOTTEN: Final = "usage.forgotten"
"""Labels, sessions, turns and traces were blanked, for somebody's request."""

PLAYGROUND_USED: Final = "playground.used"
"""An administrator had a generation run, at the cost of a key."""

STORE_MIGRATED: Final = "store.migrated"
STORE_COPIED: Final = "store.copied"
"""A copy of all of it was taken."""
STORE_RESTORED: Final = "store.restored"
"""A copy was put in its place; the first entry that the copy did not have."""
STORE_REPAIRED: Final = "store.repaired"
"""Counters that were wrong were set to their sums."""

AUDIT_LOST: Final = "audit.lost"
"""Entries that could not be written; `detail` says how many of which action."""
ANCHOR_REFUSED: Final = "anchor.refused"
"""The log does not continue what was anchored of it."""

FOLDED: Final = frozenset(
    {
        STORE_DOWN,
        KEY_DENIED,
        ADMIN_DENIED,
        CERTIFICATE_DENIED,
        MODEL_DENIED,
        TAG_DENIED,
        PASSTHROUGH_DENIED,
        HEDGE_DENIED,
        COST_DENIED,
        LIMIT_REACHED,
        BUDGET_REFUSED,
        UNPRICED_REFUSED,
        UNKEPT_REFUSED,
        TOKENS_CAPPED,
        GUARDRAIL_BLOCKED,
        RULE_REFUSED,
    }
)
"""Actions that callers can make happen as often as they like: repeats within a second are told by
their number (`relay.governance.audit_fold`)."""

RELAY: Final = "relay"
"""The actor of what the relay does of itself."""


def key_actor(key_id: str) -> str:
    """A virtual key that was recognised."""
    return f"key:{key_id}"


def admin_actor(credential_id: str) -> str:
    """An administrator's credential."""
    return f"admin:{credential_id}"


def address_actor(address: str) -> str:
    """Somebody who gave nothing that we know: the peer's address, without its port."""
    return f"address:{address}"
