"""Answers that are kept for requests with an idempotency key, in the memory of one worker.

A key stands for one request of one tenant. While it is answered, its twin is told to wait; once it
has a whole, clean answer, a repeat gets that answer and nothing is asked again. What failed, or was
given up by its client, holds nothing: a repeat is then a new try. Another request under the same
key is refused, since one of the two must be a mistake.

Bounded by number, bytes and time since the answer, whichever comes first; where there is no room,
the oldest goes of the tenant that holds the most, so that nobody drives out what others have. Of an
answer that is too large to be kept, the key is: its repeat is refused, not paid for twice.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.errors import Code, DownstreamError, DuplicateGeneration, InvalidRequest, Reason
from relay.frontends.asgi import RawHeaders, Send
from relay.frontends.shares import Shares

FIELD: Final = "idempotency-key"
ENTRY_BYTES: Final = 512
"""What a key is counted with beside its answer."""
_SHARE: Final = 4
"""One answer may fill so much of all that is kept: a fourth."""
_WAIT_S: Final = 1.0
_OF_ONE_REQUEST: Final = frozenset({b"request-id", b"server-timing", b"x-relay-request-id"})
_REPLAYED: Final = (b"idempotent-replayed", b"true")


class KeyInUse(DownstreamError):
    """The same request is being answered now; a repeat in a moment gets that answer."""

    code = Code.ABORTED
    reason = Reason.DUPLICATE_GENERATION


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How much is kept."""

    max_answers: int = 1000
    max_bytes: int = 16 * 1024 * 1024
    ttl_s: float = 3600.0


class Answer:
    """A whole answer; without a body, one that was too large to be kept."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: RawHeaders, body: bytes | None) -> None:
        self.headers = headers
        self.body = body

    async def send(self, send: Send, of_this_request: RawHeaders) -> None:
        """Give it once more, marked as such.

        Args:
            of_this_request: headers that name the repeat, not the first request.
        """
        kept = [(name, value) for name, value in self.headers if name not in _OF_ONE_REQUEST]
        headers = [*kept, *of_this_request, _REPLAYED]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Claim:
    """The right to answer a key; its `send` takes down what passes. Ends with `settle`, once."""

    def __init__(self, send: Send, max_bytes: int, settle: Callable[[Answer | None], None]) -> None:
        self._send = send
        self._max_bytes = max_bytes
        self._settle = settle
        self._status = 0
        self._headers: RawHeaders = []
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._is_whole = False

    async def send(self, message: Any) -> None:
        """As `Send`."""
        await self._send(message)
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message["headers"]
        elif message["type"] == "http.response.body":
            self._take(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)

    def _take(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if self._held_bytes > self._max_bytes:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def settle(self, *, is_clean: bool) -> None:
        """The request is over.

        Args:
            is_clean: its generation ended without an error.
        """
        answer = None
        if is_clean and self._is_whole and self._status == 200:
            is_kept = self._held_bytes <= self._max_bytes
            answer = Answer(self._headers, b"".join(self._pieces) if is_kept else None)
        self._pieces.clear()
        self._settle(answer)


class _Entry:
    __slots__ = ("answer", "digest", "kept_s")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.answer: Answer | None = None
        """None while it is made."""
        self.kept_s = 0.0

    @property
    def size_bytes(self) -> int:
        body = self.answer.body if self.answer is not None else None
        return ENTRY_BYTES + len(body or b"")


_Key = tuple[str, str]
"""Tenant and key."""


class KeptAnswers:
    """See the module."""

    def __init__(self, limits: AnswerLimits, clock: Callable[[], float]) -> None:
        """
        Args:
            clock: seconds.
        """
        self._limits = limits
        self._clock = clock
        self._running: dict[_Key, _Entry] = {}
        self._kept: OrderedDict[_Key, _Entry] = OrderedDict()  # the oldest first
        self._shares = Shares()

    @property
    def held_bytes(self) -> int:
        """Of all that is kept."""
        return self._shares.held_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def claim(self, tenant: str, key: str, digest: bytes, send: Send) -> Claim | Answer:
        """The answer that a request had, or the right to make it.

        Args:
            digest: of all that the request asks for.

        Raises:
            KeyInUse: it is being made.
            InvalidRequest: the key is another request's.
            DuplicateGeneration: it was answered, and the answer was not kept.
        """
        self._expire()
        name = (tenant, key)
        entry = self._running.get(name) or self._kept.get(name)
        if entry is None:
            entry = self._running[name] = _Entry(digest)
            max_bytes = self._limits.max_bytes // _SHARE

            def settle(answer: Answer | None) -> None:
                self._settle(name, answer)

            return Claim(send, max_bytes, settle)
        if entry.digest != digest:
            raise InvalidRequest(f"{FIELD} was used for another request", field=FIELD)
        answer = entry.answer
        if answer is None:
            raise KeyInUse(f"a request with this {FIELD} is being answered", retry_after_s=_WAIT_S)
        if answer.body is None:
            raise DuplicateGeneration(
                f"the request with this {FIELD} was answered, and its answer was too large to keep"
            )
        return answer

    def _settle(self, name: _Key, answer: Answer | None) -> None:
        entry = self._running.pop(name, None)
        if entry is None or answer is None:
            return
        entry.answer, entry.kept_s = answer, self._clock()
        self._kept[name] = entry
        self._shares.add(*name, entry.size_bytes)
        limits = self._limits
        while len(self._kept) > limits.max_answers:
            self._drop(self._shares.next_to_go(by_bytes=False))
        while self.held_bytes > limits.max_bytes:
            self._drop(self._shares.next_to_go(by_bytes=True))

    def _expire(self) -> None:
        before_s = self._clock() - self._limits.ttl_s
        while self._kept and next(iter(self._kept.values())).kept_s <= before_s:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: _Key) -> None:
        self._shares.remove(*name, self._kept.pop(name).size_bytes)


def digest_of(*pieces: bytes) -> bytes:
    """Of a request, told apart from any other."""
    digest = hashlib.blake2b(digest_size=32)
    for piece in pieces:
        digest.update(b"%d:" % len(piece))
        digest.update(piece)
    return digest.digest()
