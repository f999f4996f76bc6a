"""Responses that are kept for `previous_response_id`, in the memory of one worker.

Bounded by number, bytes and time since the last use, whichever comes first; where there is no room,
the one that was used longest ago goes of the tenant that holds the most, so that nobody drives out
what others have. What a conversation was asked and answered is kept once, however many of its
responses are there. A tenant sees nothing of another's. Time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from relay.errors import Code, DownstreamError, shown
from relay.frontends.shares import Shares

ENTRY_BYTES = 512
"""What a response is counted with beside its content."""
TURN_BYTES = 128
"""What a turn of a conversation is counted with beside its content, and once more for each
response that holds it an eighth of it."""
_HOLD_BYTES = TURN_BYTES // 8


class ResponseNotFound(DownstreamError):
    """There is no such response, not any more, or not for this tenant."""

    code = Code.NOT_FOUND

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Response with id '{shown(response_id)}' not found.")
        self.response_id = response_id


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept."""

    max_responses: int
    max_bytes: int
    ttl_s: float


class Turn:
    """What one response was asked and answered: JSON arrays of items."""

    __slots__ = ("answered", "asked", "holders")

    def __init__(self, asked: bytes, answered: bytes) -> None:
        self.asked = asked
        self.answered = answered
        self.holders = 0
        """Responses in the store whose conversation it is part of."""

    @property
    def size_bytes(self) -> int:
        return TURN_BYTES + len(self.asked) + len(self.answered)


class _Kept:
    __slots__ = ("document", "turns", "used_s")

    def __init__(self, document: bytes, turns: tuple[Turn, ...], used_s: float) -> None:
        self.document = document
        self.turns = turns
        self.used_s = used_s

    @property
    def own_bytes(self) -> int:
        return ENTRY_BYTES + len(self.document) + _HOLD_BYTES * len(self.turns)


_Key = tuple[str, str]
"""Tenant and id."""


class ResponseStore:
    """See the module."""

    def __init__(self, limits: StoreLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()  # the least recently used first
        self._shares = Shares()

    @property
    def held_bytes(self) -> int:
        """Of all that is kept."""
        return self._shares.held_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def put(
        self, tenant: str, response_id: str, document: bytes, turns: tuple[Turn, ...], now_s: float
    ) -> None:
        """Keep a response; one that is larger than the store is not kept.

        Args:
            document: the response as JSON.
            turns: its whole conversation, its own turn last.
        """
        self._drop((tenant, response_id))
        kept = _Kept(document, turns, now_s)
        self._kept[tenant, response_id] = kept
        shares, limits = self._shares, self._limits
        shares.add(tenant, response_id, kept.own_bytes)
        for turn in turns:
            if not turn.holders:
                shares.resize(tenant, turn.size_bytes)
            turn.holders += 1
        self._expire(now_s)
        while len(self._kept) > limits.max_responses:
            self._drop(shares.next_to_go(by_bytes=False))
        while self.held_bytes > limits.max_bytes:
            self._drop(shares.next_to_go(by_bytes=True))

    def document(self, tenant: str, response_id: str, now_s: float) -> bytes:
        """The response as JSON.

        Raises:
            ResponseNotFound: there is none.
        """
        return self._used(tenant, response_id, now_s).document

    def conversation(self, tenant: str, response_id: str, now_s: float) -> tuple[Turn, ...]:
        """All turns up to the response's own.

        Raises:
            ResponseNotFound: there is none.
        """
        return self._used(tenant, response_id, now_s).turns

    def delete(self, tenant: str, response_id: str, now_s: float) -> None:
        """Forget a response; conversations that went on from it keep its turn.

        Raises:
            ResponseNotFound: there is none.
        """
        self._used(tenant, response_id, now_s)
        self._drop((tenant, response_id))

    def _used(self, tenant: str, response_id: str, now_s: float) -> _Kept:
        self._expire(now_s)
        key = (tenant, response_id)
        kept = self._kept.get(key)
        if kept is None:
            raise ResponseNotFound(response_id)
        kept.used_s = now_s
        self._kept.move_to_end(key)
        self._shares.used(tenant, response_id)
        return kept

    def _expire(self, now_s: float) -> None:
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if now_s - oldest.used_s < self._limits.ttl_s:
                return
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        tenant, response_id = key
        freed_bytes = kept.own_bytes
        for turn in kept.turns:
            turn.holders -= 1
            if not turn.holders:
                freed_bytes += turn.size_bytes
        self._shares.remove(tenant, response_id, freed_bytes)
