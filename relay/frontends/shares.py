"""What each tenant holds of a store that all share, and whose turn it is when there is no room.

The oldest entry of whoever holds the most has to go. Were it the oldest of all, one tenant who
stores much would drive out what the others have, and they him never.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple


class Entry(NamedTuple):
    """Of a store."""

    tenant: str
    name: str


class _Share:
    __slots__ = ("held_bytes", "names")

    def __init__(self) -> None:
        self.names: OrderedDict[str, None] = OrderedDict()  # the oldest first
        self.held_bytes = 0


class Shares:
    """See the module. Every call but `next_to_go` is O(1); that one looks at each tenant once."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share] = {}
        self.held_bytes = 0
        """Of all tenants."""

    def add(self, tenant: str, name: str, size_bytes: int) -> None:
        """A new entry, of a name that the tenant has not."""
        share = self._shares.get(tenant)
        if share is None:
            share = self._shares[tenant] = _Share()
        share.names[name] = None
        self.resize(tenant, size_bytes)

    def used(self, tenant: str, name: str) -> None:
        """It is the tenant's newest now."""
        self._shares[tenant].names.move_to_end(name)

    def resize(self, tenant: str, by_bytes: int) -> None:
        """What a tenant of some entry holds is more, or less."""
        self._shares[tenant].held_bytes += by_bytes
        self.held_bytes += by_bytes

    def remove(self, tenant: str, name: str, size_bytes: int) -> None:
        """An entry is gone."""
        share = self._shares[tenant]
        del share.names[name]
        self.resize(tenant, -size_bytes)
        if not share.names:
            del self._shares[tenant]

    def next_to_go(self, *, by_bytes: bool) -> Entry:
        """The oldest entry of whoever holds the most, in bytes or in entries.

        Raises:
            ValueError: there is none.
        """
        shares = self._shares
        if by_bytes:
            tenant = max(shares, key=lambda name: shares[name].held_bytes)
        else:
            tenant = max(shares, key=lambda name: len(shares[name].names))
        return Entry(tenant, next(iter(shares[tenant].names)))
