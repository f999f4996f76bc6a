"""What can be taken away from a relay that is a process of its own."""

from __future__ import annotations

from importlib import import_module

import pytest

from relay.race_plan import RacePlan
from relay.transport.pool import OriginPool
from tests.matrix.row import Without


def nobody_else_is_asked(patch: pytest.MonkeyPatch) -> None:
    """The failover to the next target."""
    patch.setattr(RacePlan, "may_fail_over", lambda *_: False)


def connections_are_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The limit of a wait for a connection."""
    patch.setattr(OriginPool, "_expire", lambda *_: None)


def addresses_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The memory of a name's last addresses."""
    patch.setattr(import_module("relay.resolving"), "STALE_S", -1.0)


WEAKNESSES: dict[str, Without] = {
    "nobody_else_is_asked": nobody_else_is_asked,
    "connections_are_waited_for": connections_are_waited_for,
    "addresses_are_forgotten": addresses_are_forgotten,
}
