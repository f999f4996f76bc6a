"""The channels of a client: one to each address, replaced when the worker behind it drains.

A new stream on the connection of a worker that drains would be refused by that same worker, for as
long as old generations keep the connection open. A channel of its own makes a connection of its
own, which another worker may accept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import grpc.aio


class Channels:
    """Opened as they are needed; `aclose` closes all of them."""

    def __init__(self, make: Callable[[str], grpc.aio.Channel]) -> None:
        self._make = make
        self._current: dict[str, grpc.aio.Channel] = {}
        self._retired: set[grpc.aio.Channel] = set()
        self._uses: Counter[grpc.aio.Channel] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    def check_loop(self) -> None:
        """The first loop that uses them is theirs: in another one calls would hang or break.

        Raises:
            RuntimeError: this is another one, or none.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "a client belongs to the event loop that used it first; make one for each"
            )

    def acquire(self, address: str) -> grpc.aio.Channel:
        """The channel for a new stream; give it back with `release`."""
        channel = self._current.get(address)
        if channel is None:
            channel = self._current[address] = self._make(address)
        self._uses[channel] += 1
        return channel

    def retire(self, address: str, channel: grpc.aio.Channel) -> None:
        """Use it for no new stream. Idempotent."""
        if self._current.get(address) is channel:
            del self._current[address]
            self._retired.add(channel)

    async def release(self, channel: grpc.aio.Channel) -> None:
        """A stream is over; the last one closes a channel that is retired."""
        self._uses[channel] -= 1
        if self._uses[channel] == 0:
            del self._uses[channel]
            if channel in self._retired:
                self._retired.remove(channel)
                await channel.close()  # without grace: it waits for nobody

    async def aclose(self) -> None:
        """Close all. Idempotent; streams that still run are cut off."""
        channels = [*self._current.values(), *self._retired]
        self._current.clear()
        self._retired.clear()
        for channel in channels:
            await channel.close()
