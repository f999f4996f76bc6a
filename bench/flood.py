"""A generator that asks for more than there is: bare HTTP/1.1 over many kept connections.

It is told by lines of JSON, as `bench.load`, and costs some tens of microseconds a request, so that
three times what a relay carries can come from a part of a core:

    {"op": "open", "rate": 900, ...}       requests at random intended times, whatever becomes of
                                           earlier ones; first tokens count from those times,
                                           refusals from when they were sent, and how late that was
                                           is told
    {"op": "closed", "clients": 200, ...}  each client asks again when it was answered

Each answer is told apart: whole (200 and the stream's own end), refused (503), anything else.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import uvloop

from bench.orders import serve
from bench.pacer import Pacer
from bench.paths import LoadError, now_ns
from bench.stats import FINE, Histogram
from relay.open_files import raise_open_files

_END: Final = b"0\r\n\r\n"
_DONE: Final = b"[DONE]"
_SPREAD_S: Final = 1.0
_PATIENCE_S: Final = 20.0
"""For what is under way when the time is over."""


class Exchange:
    """One request: when it was to be sent, and what came."""

    __slots__ = ("ended_ns", "first_ns", "intended_ns", "is_whole", "sent_ns", "status")

    def __init__(self, intended_ns: int) -> None:
        self.intended_ns = intended_ns
        self.sent_ns = self.first_ns = self.ended_ns = 0
        self.status = 0
        self.is_whole = False


class _Connection(asyncio.Protocol):
    """One kept connection, one exchange at a time."""

    def __init__(self, done: Callable[[_Connection, Exchange, bool], None]) -> None:
        self._done = done
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._left_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Ask; the end is told to `done`."""
        if self._transport is None:
            raise LoadError("a connection is used before it stands")
        self._exchange, self._tail = exchange, b""
        exchange.sent_ns = now_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if not exchange.status:
            exchange.first_ns = now_ns()
            exchange.status = int(data[9:12])
            if exchange.status != 200:
                head, _, body = data.partition(b"\r\n\r\n")
                at = head.lower().find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                self._left_bytes = length - len(body)
        elif exchange.status != 200:
            self._left_bytes -= len(data)
        if exchange.status == 200:
            self._tail = (self._tail + data)[-64:]
            if not self._tail.endswith(_END):
                return
            exchange.is_whole = _DONE in self._tail
        elif self._left_bytes > 0:
            return
        exchange.ended_ns = now_ns()
        self._exchange = None
        self._done(self, exchange, True)

    def connection_lost(self, error: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.ended_ns = now_ns()
            self._done(self, exchange, False)

    def abort(self) -> None:
        """Leave it."""
        if self._transport is not None:
            self._transport.abort()


class Flood:
    """All connections of one run."""

    def __init__(self) -> None:
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._pacer = Pacer()
        self._target = ("", 0)
        self._request = b""
        self._exchanges: list[Exchange] = []
        self._under_way = 0
        self._again: Callable[[], None] | None = None
        self._changed = asyncio.Event()

    async def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a line says."""
        self._target = ("127.0.0.1", int(request["port"]))
        body = json.dumps(
            {
                "model": request["model"],
                "stream": True,
                "messages": [{"role": "user", "content": "Hello"}],
            }
        ).encode()
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self._exchanges, self._again = [], None
        try:
            await self._open_connections(int(request["connections"]))
            if request["op"] == "open":
                return await self._open(request)
            return await self._closed(request)
        finally:
            await self._leave()

    async def _open_connections(self, count: int) -> None:
        for _ in range(0, count, 50):
            await asyncio.gather(*(self._connect() for _ in range(50)))

    async def _connect(self) -> None:
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._done), *self._target
        )
        self._all.add(made)
        self._idle.append(made)

    def _done(self, connection: _Connection, exchange: Exchange, is_kept: bool) -> None:
        self._under_way -= 1
        self._changed.set()
        if is_kept:
            self._idle.append(connection)
        else:
            self._all.discard(connection)
        if self._again is not None:
            self._again()

    def _send(self, intended_ns: int) -> None:
        exchange = Exchange(intended_ns)
        self._exchanges.append(exchange)
        self._under_way += 1
        if self._idle:
            self._idle.pop().send(exchange, self._request)
            return
        task = asyncio.get_running_loop().create_task(self._send_on_a_new_one(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_on_a_new_one(self, exchange: Exchange) -> None:
        try:
            await self._connect()
        except OSError:
            exchange.ended_ns = now_ns()
            self._under_way -= 1
            self._changed.set()
            return
        self._idle.pop().send(exchange, self._request)

    async def _open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        rate, ramp_s, window_s = request["rate"], request["ramp_s"], request["window_s"]
        chance = random.Random(7)
        began_ns = at_ns = now_ns() + 20_000_000
        until_ns = began_ns + int(1e9 * (ramp_s + window_s))
        while at_ns < until_ns:
            await self._pacer.until(at_ns)
            self._send(at_ns)
            at_ns += int(1e9 * chance.expovariate(rate))
        await self._rest()
        return self._told(request, began_ns + int(1e9 * ramp_s), until_ns)

    async def _closed(self, request: Mapping[str, Any]) -> dict[str, Any]:
        began_ns = now_ns()
        self._again = lambda: self._send(now_ns())
        for _ in range(request["clients"]):  # not at once: they would stay in step
            self._send(now_ns())
            await self._pacer.until(now_ns() + int(1e9 * _SPREAD_S / request["clients"]))
        await asyncio.sleep(request["ramp_s"] + request["window_s"] - _SPREAD_S)
        until_ns = now_ns()
        self._again = None
        await self._rest()
        return self._told(request, began_ns + int(1e9 * request["ramp_s"]), until_ns)

    async def _rest(self) -> None:
        """Wait for what is under way, for a while."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self._under_way:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def _leave(self) -> None:
        self._again = None
        for connection in self._all:
            connection.abort()
        if self._opening:
            await asyncio.wait(self._opening)
        await asyncio.sleep(0)
        self._all.clear()
        self._idle.clear()
        self._under_way = 0

    def _told(self, request: Mapping[str, Any], from_ns: int, until_ns: int) -> dict[str, Any]:
        """Of requests that were to be sent in the window; and of answers that ended in it."""
        late_ns = int(1e6 * request["good_within_ms"])
        first, shed, own = Histogram(FINE), Histogram(FINE), Histogram(FINE)
        counts: Counter[str] = Counter()
        for one in self._exchanges:
            is_good = one.is_whole and one.first_ns - one.intended_ns <= late_ns
            if is_good and from_ns <= one.ended_ns < until_ns:
                counts["good_ended"] += 1
            if not from_ns <= one.intended_ns < until_ns:
                continue
            counts["asked"] += 1
            own.add((one.sent_ns - one.intended_ns) / 1e3 if one.sent_ns else 0.0)
            if one.is_whole:
                counts["whole"] += 1
                first.add((one.first_ns - one.intended_ns) / 1e3)
            elif one.status == 503:
                counts["shed"] += 1
                shed.add((one.ended_ns - one.sent_ns) / 1e3)
            else:
                counts["lost"] += 1
        return {
            "seconds": (until_ns - from_ns) / 1e9,
            "counts": dict(counts),
            "first": first.to_dict(),
            "shed": shed.to_dict(),
            "generator_late": own.to_dict(),
        }


async def _serve() -> None:
    flood = Flood()
    gc.freeze()
    gc.disable()  # a pause of the client would be booked to the relay
    await serve(flood.handle)


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(_serve())
