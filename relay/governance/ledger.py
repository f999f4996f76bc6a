"""The gate between a generation and its accounts.

Admission is decided before the first upstream byte; the record of the attempt must be durable
before the first token is released, and is written while the provider is thinking, so that
durability costs no latency and a crash loses no delivered token's record. The store behind it
comes later; the gate, and the places where it stands in the path, are here from the start.
"""

from __future__ import annotations

from typing import Protocol

from relay.content import GenerateRequest
from relay.outcome import GenerationEnd


class LedgerEntry(Protocol):
    """The account of one generation, from admission to settlement."""

    async def durable(self) -> None:
        """Return when what must not be lost is on stable storage.

        Awaited after the provider's first content and before its release; normally done by then.

        Raises:
            AdmissionError: it cannot be made durable; nothing may be released.
        """
        ...

    def settle(self, end: GenerationEnd) -> None:
        """Book the end, exactly once, also after cancel and failure; never waits or raises."""
        ...


class Ledger(Protocol):
    """Opens one entry a generation."""

    async def admit(self, generation_id: str, request: GenerateRequest) -> LedgerEntry | None:
        """Reserve what the generation may cost; None where nothing is booked.

        Raises:
            AdmissionError: it may not start; nothing was sent upstream.
        """
        ...


class NullLedger:
    """Books nothing: a relay without keys, budgets or a store."""

    async def admit(self, generation_id: str, request: GenerateRequest) -> LedgerEntry | None:
        return None
