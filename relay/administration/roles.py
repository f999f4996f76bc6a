"""Who may do what: a literal table, and the part of the whole that an administrator has.

An administrator has a role, and may be bound to one organisation, or to one team of it. Outside of
that nothing exists for him. Whoever makes another administrator gives him no more than he has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.administration.faults import Denied, NotFound

OWNER, ADMIN, BILLING, AUDITOR, VIEWER = "owner", "admin", "billing", "auditor", "viewer"
ROLES: Final = (OWNER, ADMIN, BILLING, AUDITOR, VIEWER)

PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    "organisation.write": frozenset({OWNER}),
    "organisation.read": frozenset(ROLES),
    "team.write": frozenset({OWNER, ADMIN}),
    "team.read": frozenset(ROLES),
    "key.write": frozenset({OWNER, ADMIN}),
    "key.read": frozenset(ROLES),
    "detail.read": frozenset({OWNER, ADMIN, BILLING, AUDITOR}),
    "certificate.write": frozenset({OWNER, ADMIN}),
    "budget.write": frozenset({OWNER, ADMIN, BILLING}),
    "budget.read": frozenset(ROLES),
    "usage.read": frozenset(ROLES),
    "usage.export": frozenset({OWNER, ADMIN, BILLING, AUDITOR}),
    "usage.delete": frozenset({OWNER}),
    "audit.read": frozenset({OWNER, AUDITOR}),
    "state.read": frozenset({OWNER, ADMIN, AUDITOR, VIEWER}),
    "playground.use": frozenset({OWNER, ADMIN}),
    "administrator.write": frozenset({OWNER, ADMIN}),
    "administrator.read": frozenset({OWNER, ADMIN, AUDITOR}),
    "self.read": frozenset(ROLES),
    "self.rotate": frozenset(ROLES),
}
"""What is not here nobody may do. Of organisations, teams and keys `*.read` shows names; what they
may ask for, and what is known of their secrets, takes `detail.read` beside it."""

OF_THE_WHOLE: Final = frozenset(
    {"organisation.write", "audit.read", "state.read", "playground.use", "certificate.write"}
)
"""What is never of one organisation alone: whoever is bound to one may not. Certificates are among
it since only who runs the relay knows whose a name is: whoever binds another's has his calls."""

OF_AN_ORGANISATION: Final = frozenset({"team.write"})
"""What whoever is bound to one team may not: what holds for himself is set above him."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts."""

    name: str
    """For the audit log: `admin:ID`, `cli:USER`."""
    role: str
    organisation_id: str = ""
    """The only one that he has; "" for all."""
    team_id: str = ""
    credential_id: str = ""
    """Of his token; "" for whoever has the machine."""
    expires_at_us: int | None = None
    """When his token ends."""

    def may(self, permission: str) -> bool:
        """By the role and what it is bound to; of which object, `require` asks."""
        if self.role not in PERMISSIONS.get(permission, frozenset()):
            return False
        if self.team_id and permission in OF_AN_ORGANISATION:
            return False
        return not (self.organisation_id and permission in OF_THE_WHOLE)

    def require(self, permission: str, organisation_id: str = "", team_id: str = "") -> None:
        """
        Args:
            organisation_id, team_id: what the object belongs to; "" for what belongs to none.

        Raises:
            NotFound: the object is not his: it does not exist for him.
            Denied: the role does not allow it.
        """
        if not self.sees(organisation_id, team_id):
            raise NotFound("there is no such object")
        if not self.may(permission):
            raise Denied(f"the role {self.role} may not do this ({permission})")

    def sees(self, organisation_id: str, team_id: str = "") -> bool:
        """Whether an object is within his part."""
        if self.organisation_id and organisation_id != self.organisation_id:
            return False
        return not (self.team_id and team_id != self.team_id)

    def require_grant(
        self, role: str, organisation_id: str, team_id: str, expires_at_us: int | None = None
    ) -> None:
        """
        Raises:
            Denied: an administrator of this role and part, until then, would have more than this
                one.
        """
        made = Actor("", role, organisation_id, team_id)
        more = [one for one in PERMISSIONS if made.may(one) and not self.may(one)]
        if more:
            raise Denied(
                f"the role {self.role} may not make an administrator who is {role}: he could do"
                f" more ({', '.join(more)})"
            )
        if not self.sees(organisation_id, team_id):
            raise Denied("an administrator is bound to no more than whoever makes him")
        mine = self.expires_at_us
        if mine is not None and (expires_at_us is None or expires_at_us > mine):
            raise Denied("an administrator's token ends no later than that of whoever makes him")


OPERATOR: Final = OWNER
"""The role of whoever has the machine and its configuration."""
