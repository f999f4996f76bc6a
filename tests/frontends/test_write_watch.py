"""A client that takes nothing of what waits for it is aborted; one that reads, never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.frontends.write_watch import WriteWatch
from tests.fakes.virtual_time import on_virtual_time, since_start_s

LIMIT_S = 30.0


class Held(asyncio.Transport):
    """A transport whose client takes what it is told to take."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_bytes = 0
        self.aborted_s: float | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.waiting_bytes += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def abort(self) -> None:
        self.aborted_s = since_start_s()

    def when_aborted_s(self) -> float:
        assert self.aborted_s is not None
        return self.aborted_s


def watched() -> tuple[Held, WriteWatch]:
    transport = Held()
    return transport, WriteWatch(transport, LIMIT_S, asyncio.get_running_loop())


@on_virtual_time
async def test_client_that_takes_nothing_is_aborted() -> None:
    transport, watch = watched()
    watch.write(b"x" * 100)
    watch.look_later()
    await asyncio.sleep(10 * LIMIT_S)
    assert transport.aborted_s == LIMIT_S


@on_virtual_time
async def test_client_that_takes_a_little_is_waited_for() -> None:
    transport, watch = watched()
    watch.write(b"x" * 100)
    watch.look_later()
    for _ in range(10):
        await asyncio.sleep(LIMIT_S - 1)
        transport.waiting_bytes -= 1
    assert transport.aborted_s is None
    last_s = since_start_s()
    await asyncio.sleep(3 * LIMIT_S)
    assert LIMIT_S <= transport.when_aborted_s() - last_s <= 1.25 * LIMIT_S


@on_virtual_time
async def test_more_that_is_written_is_no_progress_of_the_client() -> None:
    transport, watch = watched()
    watch.write(b"x" * 100)
    watch.look_later()
    while transport.aborted_s is None:
        await asyncio.sleep(LIMIT_S / 2)
        watch.write(b"x")
        watch.look_later()
    watch.stop()
    assert transport.aborted_s == LIMIT_S


@on_virtual_time
async def test_what_is_taken_counts_though_more_waits_than_before() -> None:
    transport, watch = watched()
    watch.write(b"x" * 100)
    watch.look_later()
    for _ in range(10):
        await asyncio.sleep(LIMIT_S - 1)
        transport.waiting_bytes -= 1
        watch.write(b"x" * 50)
    assert transport.aborted_s is None
    watch.stop()


@pytest.mark.parametrize("stops", [True, False])
def test_no_timer_is_left_when_nothing_waits_or_the_connection_is_gone(stops: bool) -> None:
    @on_virtual_time
    async def runs() -> None:
        loop: Any = asyncio.get_running_loop()
        transport, watch = watched()
        watch.look_later()
        assert not loop._scheduled, "nothing waits: there is nothing to look at"
        watch.write(b"x")
        watch.look_later()
        if stops:
            watch.stop()
        else:
            transport.waiting_bytes = 0
            await asyncio.sleep(LIMIT_S)
        assert all(handle.cancelled() for handle in loop._scheduled)
        await asyncio.sleep(5 * LIMIT_S)
        assert transport.aborted_s is None

    runs()
