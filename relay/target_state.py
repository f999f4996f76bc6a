"""What a worker has learnt of each target, kept over reloads: today how much it may still be asked.

Keyed by the target's name, since a reload makes new target objects for the same thing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from relay.resilience.headroom import Headroom
from relay.routing.catalog import Target

MAX_TARGETS: Final = 4096
"""A client may name any model of a provider; the state used longest ago is forgotten."""


class TargetState:
    """The state machines of one target."""

    __slots__ = ("headroom",)

    def __init__(self) -> None:
        self.headroom = Headroom()


class TargetStates:
    """The states of one worker, made when first asked for."""

    def __init__(self, max_targets: int = MAX_TARGETS) -> None:
        self._max_targets = max_targets
        self._states: OrderedDict[str, TargetState] = OrderedDict()

    def of(self, target: Target) -> TargetState:
        """The state of a target, under the limits of its present row."""
        name = target.name
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = TargetState()
            if len(self._states) > self._max_targets:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(name)
        state.headroom.limit(target.endpoint.rpm, target.endpoint.tpm)
        return state

    def __len__(self) -> int:
        return len(self._states)
