"""Connections to the gRPC server that send much and ask for nothing are ended.

What HTTP/2 lets a client do for next to nothing costs the server a core: streams that are opened
and reset at once, or that the server is made to reset (CVE-2023-44487, CVE-2025-8671), header
blocks that are too large, frames without end. The core bounds the streams and the memory of a
connection, and goes on reading.

`NoiseWatch` looks five times a second at two cheap signs: RPCs that ended without a message, had no
key, or named no method of ours (*ghosts*), and the CPU time of the process. What the relay refuses
for reasons of its own (too much to do, a store that is away) is no ghost: agents hold all of their
calls on one connection, and ask for more. Nor is an RPC whose message is still under way. Where
one of them is high it looks more often, and counts from look to look what each connection sends
(`grpc_links`) and what of it became messages, until there has been no sign for `CALM_S`. `Judge`
says which connection is ended: one that made the ghosts, or whose noise is out of all proportion.
Its agents, if it has any, connect again; so does an attacker, who is found again.

It looks from a thread of its own: the loop is what an attack keeps busy.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from relay.frontends.grpc_links import Link, Peer, can_look, cut, links, peer_of

_log = structlog.get_logger("relay.grpc")

LOOK_S: Final = 0.2
CLOSE_LOOK_S: Final = 0.05
"""While there are signs, so that who connects again is found before he has done much."""
CALM_S: Final = 2.0
BUSY_SHARE: Final = 0.5
"""Of a core over one look, by all threads; in a relay of one core's work an attack takes more."""
MANY_GHOSTS: Final = 20
"""From one look to the next."""
GHOST_BYTES: Final = 28
"""The least that a stream costs who makes it: HEADERS of six bytes and RST_STREAM."""
NOISE_BYTES: Final = 64 * 1024 * 1024
"""In a row of looks, and nine tenths of what the connection sent: more than uploads that are under
way, or were given up, come to, sixteen of the largest messages at once among them."""
MESSAGE_BYTES: Final = 512
"""What a message may cost beside its own bytes: headers, frames, TLS."""
ANSWER_SHARE: Final = 8
"""For so many bytes of answers a client may send one: it acknowledges what it has read."""
REFUSED_BYTES: Final = 64 * 1024
"""What an RPC that the relay refused unread is taken to have asked in."""
PATIENCE: Final = 3
"""Looks in a row with ghosts after which the noisiest is meant where several may be."""


class Judge:
    """Which connections are ended; of one attack, from the first look to the last."""

    def __init__(self) -> None:
        self._noise: Counter[Peer] = Counter()
        self._sent: Counter[Peer] = Counter()
        self._looks = 0

    def look(
        self,
        before: Mapping[Peer, Link],
        now: Mapping[Peer, Link],
        useful: Mapping[Peer, int],
        ghosts: int,
    ) -> list[Peer]:
        """
        Args:
            before: connections at the last look.
            now: connections at this one.
            useful: bytes that became messages since.
            ghosts: RPCs since that asked for nothing.
        """
        self._looks += 1
        noise: Counter[Peer] = Counter()
        for peer, link in now.items():
            was = before.get(peer) or Link(link.descriptor, 0, 0)
            sent = link.received_bytes - was.received_bytes
            allowed = useful.get(peer, 0) + (link.sent_bytes - was.sent_bytes) // ANSWER_SHARE
            noise[peer] = sent - allowed
            self._sent[peer] += sent
            self._noise[peer] += noise[peer]
        for gone in self._sent.keys() - now.keys():  # a busy day has many, and one judge
            del self._sent[gone], self._noise[gone]
        guilty = [
            peer
            for peer in now
            if self._noise[peer] > NOISE_BYTES and 10 * self._noise[peer] > 9 * self._sent[peer]
        ]
        if ghosts >= MANY_GHOSTS and not guilty:
            able = [
                peer
                for peer, count in noise.most_common()
                if count >= GHOST_BYTES * ghosts and count > useful.get(peer, 0)
            ]
            if len(able) == 1 or (able and self._looks >= PATIENCE):
                guilty = able[:1]
        return guilty


class HasPeer(Protocol):
    """What is needed of an RPC's context."""

    def peer(self) -> str: ...


class NoiseWatch:
    """See the module; `start` it with the server's port, `aclose` it after the server.

    Args:
        cpu_s: CPU time of this process so far.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._cpu_s = cpu_s
        self._waiting: set[HasPeer] = set()
        """RPCs that run, of which no message has come."""
        self.ghosts = 0
        """So far."""
        self.useful: Counter[Peer] = Counter()
        """Bytes that became messages, since the last look."""
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self.is_counting = False
        """Whether `heard` is wanted."""
        self.cut = 0
        """Connections that were ended."""

    # --- what the server tells --------------------------------------------------------------

    def arrived(self, context: HasPeer) -> None:
        """An RPC has a handler, which runs; `left` is called at its end."""
        self._waiting.add(context)

    def began(self, context: HasPeer, size: int) -> None:
        """The first message of one is there, of so many bytes."""
        self._waiting.discard(context)
        if self.is_counting:
            self.heard(context.peer(), size)

    def refused(self, context: HasPeer) -> None:
        """One was refused before its message was read, for no fault of its client's."""
        if context in self._waiting:
            self.began(context, REFUSED_BYTES)

    def left(self, context: HasPeer) -> None:
        """The handler of one is over."""
        if context in self._waiting:
            self._waiting.remove(context)
            self.ghosts += 1

    def strange(self) -> None:
        """An RPC has no handler."""
        self.ghosts += 1

    def heard(self, peer: str, size: int) -> None:
        """A message of so many bytes came."""
        if (known := peer_of(peer)) is not None:
            self.useful[known] += size + MESSAGE_BYTES

    # --- looking ----------------------------------------------------------------------------

    def start(self, port: int) -> None:
        """Look from now on, where this system lets us."""
        if can_look():
            self._thread = threading.Thread(
                target=self._look_on, args=(port,), name="noise watch", daemon=True
            )
            self._thread.start()

    async def aclose(self) -> None:
        """Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._is_over.set()
            await asyncio.to_thread(thread.join)

    def _look_on(self, port: int) -> None:
        judge: Judge | None = None
        before: dict[Peer, Link] = {}
        told = self.ghosts
        cpu_s, at_s = self._cpu_s(), time.monotonic()
        sign_s = -CALM_S
        while not self._is_over.wait(LOOK_S if judge is None else CLOSE_LOOK_S):
            before_ghosts, told = told, self.ghosts
            ghosts = told - before_ghosts
            cpu_before_s, cpu_s = cpu_s, self._cpu_s()
            before_s, at_s = at_s, time.monotonic()
            if ghosts >= MANY_GHOSTS or cpu_s - cpu_before_s > BUSY_SHARE * (at_s - before_s):
                sign_s = at_s
            elif at_s - sign_s >= CALM_S:
                judge, self.is_counting = None, False
                continue
            try:
                now = links(port)
            except OSError:  # no descriptor is left to look with: soon, perhaps
                continue
            useful, self.useful = self.useful, Counter()
            if judge is None:
                judge, self.is_counting = Judge(), True
            else:
                for peer in judge.look(before, now, useful, ghosts):
                    if cut(peer, now[peer], port):
                        self.cut += 1
                        _log.warning("noisy_connection_cut", address=peer[0], ghosts=ghosts)
            before = now
