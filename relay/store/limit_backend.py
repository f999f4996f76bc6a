"""What a place that several processes share has to do for their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from relay.store.limit_store import Charge

INSTANCES: Final = "instances"
"""The lease that every live instance holds one of."""


class BackendDown(Exception):
    """It did not answer, or not in time: it is not known what of the batch was done."""


class Batch(NamedTuple):
    """Done in this order: corrections, leases, takes."""

    corrections: Sequence[tuple[str, int, int]] = ()
    """Bucket, limit, by how much more was used."""
    held: Sequence[tuple[str, int]] = ()
    """Bucket, and the units that this instance holds of it from now on for another lease; 0: gives
    it up."""
    takes: Sequence[Sequence[Charge]] = ()
    """Each all or nothing, by itself."""
    is_renewal: bool = False
    """A good moment to tidy up; it comes a few times a lease."""


class Reply(NamedTuple):
    """Of one take."""

    is_granted: bool
    after: Sequence[int]
    """By charge: the level, or the units that all hold, after it, or as they would be."""


class Answer(NamedTuple):
    """Of one batch."""

    replies: Sequence[Reply]
    totals: Sequence[int]
    """By `held`: the units that all instances hold, this one included."""
    is_known: bool
    """False: it has lost what it knew of this instance, so all leases have to be told again."""


class Backend(Protocol):
    """One instance's way to the shared place. Used by one task; one batch at a time."""

    @property
    def name(self) -> str:
        """`redis`, `sqlite`: for logs and messages."""
        ...

    async def exchange(self, batch: Batch) -> Answer:
        """Do a batch.

        Raises:
            BackendDown: within the patience it was made with, or soon after.

        Cancelled: it is not known what was done.
        """
        ...

    async def aclose(self) -> None:
        """Disconnect; bounded in time."""
        ...
