"""A count of votes while they come in: who agrees with whom, and whether more could change it.

Pure. Votes are whole numbers (thousandths of the configured weights). An answer joins the group of
those that say the same, of numbers the nearest group whose first answer is within the tolerance;
so a group stands once its first answer is there, and what comes later moves nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from relay.policy.equality import Said

VOTE = 1000
"""What a member of weight 1 has."""


@dataclass(slots=True)
class Group:
    """Members that say the same."""

    number: int
    """In the order of their first answers."""
    votes: int = 0
    members: list[int] = field(default_factory=list)
    """In the order in which their answers came."""
    leads_with: Decimal | None = None


class Votes:
    """Of one panel, for one request.

    Args:
        votes: of each member.
        quorum: so many settle it.
        distance: of two numbers; None: further than is allowed.
    """

    def __init__(
        self,
        votes: Sequence[int],
        quorum: int,
        distance: Callable[[Decimal, Decimal], Decimal | None],
    ) -> None:
        self._votes = votes
        self._quorum = quorum
        self._distance = distance
        self._awaited = set(range(len(votes)))
        self._by_key: dict[Hashable, Group] = {}
        self.groups: list[Group] = []
        self.agreed: Group | None = None
        """The first that has reached the quorum."""

    def add(self, member: int, said: Said) -> Group:
        """An answer has come."""
        self._awaited.discard(member)
        group = self._group(said)
        group.members.append(member)
        group.votes += self._votes[member]
        if self.agreed is None and group.votes >= self._quorum:
            self.agreed = group
        return group

    def drop(self, member: int) -> None:
        """No answer will come."""
        self._awaited.discard(member)

    def _group(self, said: Said) -> Group:
        found: Group | None = None
        if said.number is not None:
            found = self._near(said.number)
        elif said.key is not None:
            found = self._by_key.get(said.key)
        if found is None:
            found = Group(len(self.groups), leads_with=said.number)
            self.groups.append(found)
            if said.key is not None:
                self._by_key[said.key] = found
        return found

    def _near(self, number: Decimal) -> Group | None:
        nearest: tuple[Decimal, Group] | None = None
        for group in self.groups:
            if group.leads_with is None:
                continue
            apart = self._distance(group.leads_with, number)
            if apart is not None and (nearest is None or apart < nearest[0]):
                nearest = (apart, group)
        return nearest[1] if nearest is not None else None

    @property
    def awaited(self) -> int:
        """Votes that may still come."""
        return sum(self._votes[member] for member in self._awaited)

    @property
    def can_agree(self) -> bool:
        """Whether the quorum is reached, or may be yet."""
        most = max((group.votes for group in self.groups), default=0)
        return self.agreed is not None or most + self.awaited >= self._quorum

    @property
    def leading(self) -> list[Group]:
        """Those with the most votes, the earliest first."""
        most = max((group.votes for group in self.groups), default=0)
        return [group for group in self.groups if group.votes == most]

    @property
    def has_settled_lead(self) -> bool:
        """Whether one group stays ahead whatever may come: also of a new one."""
        counts = sorted((group.votes for group in self.groups), reverse=True)
        if not counts:
            return False
        second = counts[1] if len(counts) > 1 else 0
        return counts[0] > second + self.awaited
