"""From a host to the addresses that may be connected to, once a connection.

Engines have resolvers of their own, and would ask again for themselves: so a name is looked up
here, every answer is judged (`addresses.may_connect`), and the engine is held to those addresses.
One that may not be connected to is enough to refuse them all: whoever mixes an address of ours into
a name's answers means it.

What the machine's resolver says counts (`getaddrinfo`: /etc/hosts, search domains). It blocks, and
may for half a minute, so each look-up has a thread of its own that nobody waits for at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from relay.addresses import literal_of, may_connect

FRESH_S: Final = 10.0
"""So long an answer is taken without asking again; `getaddrinfo` tells no time to live."""
STALE_S: Final = 3600.0
"""So long an old answer serves while there is no new one."""
PATIENCE_S: Final = 1.0
"""After which an old answer is taken, where there is one."""
_MAX_HOSTS: Final = 1024

LookUp = Callable[[str], Sequence[str]]
"""The addresses of a name, best first; blocks. Raises OSError."""


class NotFound(Exception):
    """The name has no address, or nobody could be asked."""


class NotAllowed(Exception):
    """An address among the answers is none that may be connected to. The text names none."""


def look_up(host: str) -> list[str]:
    """By the machine's own resolver.

    Raises:
        OSError: nothing was found, or nobody could be asked.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise OSError("no name") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def allowed(host: str, answers: Sequence[str], private: Sequence[str] | None) -> tuple[str, ...]:
    """The answers, all of which may be connected to.

    Raises:
        NotFound: there are none.
        NotAllowed: one may not.
    """
    if not answers:
        raise NotFound
    for answer in answers:
        if not may_connect(host, ip_address(answer), private):
            raise NotAllowed
    return tuple(answers)


def addresses_now(
    host: str, private: Sequence[str] | None = None, find: LookUp = look_up
) -> tuple[str, ...]:
    """As `Resolver.addresses`, of a thread that may block."""
    if literal_of(host) is not None:
        return allowed(host, (host,), private)
    try:
        answers = find(host)
    except OSError:
        raise NotFound from None
    return allowed(host, answers, private)


class _Known(NamedTuple):
    answers: tuple[str, ...]
    at_s: float


class Resolver:
    """Looks up names beside the loop; concurrent questions for one name are one.

    Holds no thread and no socket when nothing is asked, and need not be closed.

    Args:
        find: asked in a thread.
        now_s: monotonic.
    """

    def __init__(self, find: LookUp = look_up, now_s: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._now_s = now_s
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def addresses(self, host: str, private: Sequence[str] | None = None) -> tuple[str, ...]:
        """Where a connection to the host may go, best first; never empty.

        A host that is an address is judged at once, without a task switch.

        Args:
            private: see `addresses.may_connect`.

        Raises:
            NotFound: no address, and none that is remembered.
            NotAllowed: of an answer, new or remembered.

        Cancelled: the look-up goes on, and whoever asks next has its answer.
        """
        if literal_of(host) is not None:
            return allowed(host, (host,), private)
        known = self._known.get(host)
        now_s = self._now_s()
        if known is not None and now_s - known.at_s < FRESH_S:
            return allowed(host, known.answers, private)
        if known is not None and now_s - known.at_s > STALE_S:
            known = None
        pending = self._asking.get(host) or self._ask(host)
        try:
            async with asyncio.timeout(None if known is None else PATIENCE_S):
                answers = await asyncio.shield(pending)
        except (OSError, TimeoutError):
            if known is None:
                raise NotFound from None
            answers = known.answers
        return allowed(host, answers, private)

    def _ask(self, host: str) -> asyncio.Future[tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[str, ...]] = loop.create_future()
        self._asking[host] = future

        def told(answers: tuple[str, ...], error: OSError | None) -> None:
            if self._asking.get(host) is future:
                del self._asking[host]
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
                future.exception()  # somebody may have gone
                return
            if len(self._known) >= _MAX_HOSTS:
                self._known.clear()
            self._known[host] = _Known(answers, self._now_s())
            future.set_result(answers)

        def ask() -> None:
            answers: tuple[str, ...] = ()
            failure: OSError | None = None
            try:
                answers = tuple(self._find(host))
            except OSError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - who asks would wait for ever
                failure = OSError(f"the look-up failed: {type(error).__name__}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
                loop.call_soon_threadsafe(told, answers, failure)

        # A daemon: the process does not wait for a resolver that hangs.
        try:
            threading.Thread(target=ask, name="relay-names", daemon=True).start()
        except RuntimeError:  # the process may have no more
            told((), OSError("no thread to ask with"))
        return future
