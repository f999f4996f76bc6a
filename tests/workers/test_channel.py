"""Messages over a socket pair, with an other end that reads, does not, or speaks nonsense."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from relay.workers import channel as channels
from relay.workers.channel import Channel, open_channel


class End:
    """One end, and what came to it."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.is_lost = asyncio.Event()
        self.news = asyncio.Event()
        self.channel: Channel

    def take(self, message: dict[str, Any]) -> None:
        self.got.append(message)
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.got) < count:
                self.news.clear()
                await self.news.wait()


async def end(sock: socket.socket) -> End:
    one = End()
    one.channel = await open_channel(sock, one.take, one.is_lost.set)
    return one


async def test_messages_arrive_whole_in_order_and_both_ways() -> None:
    here, there = [await end(sock) for sock in socket.socketpair()]
    large = {"text": "x" * 300_000}
    for number in range(100):
        assert here.channel.send({"number": number})
    assert here.channel.send(large)
    assert there.channel.send({"back": True})
    await there.until(101)
    await here.until(1)
    assert [message.get("number") for message in there.got[:100]] == list(range(100))
    assert there.got[100] == large
    here.channel.close()
    await asyncio.wait_for(there.is_lost.wait(), 5)
    await asyncio.wait_for(here.is_lost.wait(), 5)
    assert not here.channel.send({})
    assert not there.channel.send({})


async def test_whoever_reads_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_WAITING_BYTES", 1_000_000)
    ours, theirs = socket.socketpair()
    with theirs:
        here = await end(ours)
        sent = [here.channel.send({"text": "x" * 10_000}) for _ in range(500)]
        assert sent[0]
        assert not sent[-1]
        assert here.channel.dropped == sent.count(False)
        here.channel.close()
        await here.is_lost.wait()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{]"])
async def test_nonsense_ends_it(nonsense: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        here = await end(ours)
        theirs.sendall(nonsense)
        await asyncio.wait_for(here.is_lost.wait(), 5)
        assert not here.got
