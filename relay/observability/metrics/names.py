"""Which names have rows of their own: so many, and no more."""

from __future__ import annotations

from relay.observability.metrics.families import OTHER


class Names:
    """Names as they come, up to a bound; all that come later are `_other`."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """What the row is called."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name
