"""One request on stage: the exchange, the wire format, the answer, and the times drawn for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from relay.emulator.answer import Answer
from relay.emulator.exchange import Exchange
from relay.emulator.ticker import Ticker
from relay.emulator.wires.base import Event, Sealing, Wire

Play = Generator[float | None, None, None]
"""A performance: it acts, then yields the monotonic second at which to go on, or None for never.

It may be closed at any yield: that is how it learns that the client has gone.
"""


@dataclass(slots=True)
class Scene:
    """What a performance and a fault have at hand."""

    exchange: Exchange
    wire: Wire
    answer: Answer
    is_stream: bool
    first_token_s: float
    """Monotonic second of the first token."""
    next_gap_s: Callable[[], float]
    """Draws the time to the next token."""
    head_s: float | None = None
    """Monotonic second of the head; None: together with the first token."""
    keepalive_s: float = 0.0
    """Seconds between keep-alives before the first token; 0: none."""
    resettable: bool = False
    seal: Callable[[bytes], bytes] | None = field(init=False)
    """Puts an event's bytes into frames, where the wire has some."""

    def __post_init__(self) -> None:
        self.seal = self.wire.seal if isinstance(self.wire, Sealing) else None

    def send_head(self, status: int = 200) -> None:
        """Send the head of a stream unless it has been sent."""
        if not self.exchange.record.head_ns:
            headers = self.wire.stream_head(self.answer)
            self.exchange.send_head(status, headers, resettable=self.resettable)

    def write_event(self, event: Event) -> None:
        """Write one event; a stamped one is stamped now."""
        _, before, after = event
        data = before if after is None else b"%b%016d%b" % (before, time.monotonic_ns(), after)
        self.exchange.write(data if self.seal is None else self.seal(data))


def start(play: Play, exchange: Exchange, ticker: Ticker) -> None:
    """Perform a play: at once up to its first yield, then as it asks."""

    def resume() -> None:
        try:
            due_s = play.send(None)
        except StopIteration:
            exchange.end()
            return
        if due_s is not None:
            ticker.at(due_s, resume)

    exchange.on_gone = play.close
    resume()
