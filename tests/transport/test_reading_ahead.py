"""`ReadsAhead`: what is read past the iterator, and handed back to it, is the same body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay.errors import RemoteProtocolError, StreamReset
from relay.transport.base import MAX_READY_CHUNKS, UpstreamStream
from tests.transport.worlds import KINDS, Play, World

pytestmark = pytest.mark.sockets

AHEAD = [kind for kind in KINDS if kind.engine in ("wreq", "memory")]
every_world = pytest.mark.parametrize("here", AHEAD, indirect=True, ids=str)


async def read(stream: UpstreamStream) -> AsyncIterator[bytes]:
    """Past the iterator until something odd comes, which the iterator then gets."""
    odd: Any = stream
    while True:
        try:
            chunk = await odd.read_next()
        except Exception as error:  # noqa: BLE001 - as its users do
            odd.put_back(error)
            break
        if type(chunk) is not memoryview or not chunk:
            odd.put_back(chunk)
            break
        yield bytes(chunk)
    async for rest in stream.chunks():
        yield bytes(rest)


@pytest.mark.parametrize(
    "here", [kind for kind in KINDS if kind not in AHEAD], indirect=True, ids=str
)
async def test_engines_that_cannot_say_so(here: World) -> None:
    stream = await here.open(here.play(Play(chunks=[b"one"])))
    assert getattr(stream, "read_next", None) is None
    await stream.aclose()


@every_world
async def test_the_whole_body(here: World) -> None:
    parts = [bytes([number % 256]) * 5_000 for number in range(200)]
    stream = await here.open(here.play(Play(chunks=parts)))
    assert b"".join([chunk async for chunk in read(stream)]) == b"".join(parts)
    await stream.aclose()
    assert here.open_streams == 0


@every_world
async def test_what_is_handed_back_comes_next(here: World) -> None:
    stream = await here.open(here.play(Play(chunks=[b"one", b"two", b"three"])))
    odd: Any = stream
    got = [bytes(await odd.read_next())]
    odd.put_back(await odd.read_next())
    got += [bytes(chunk) async for chunk in stream.chunks()]
    assert b"".join(got) == b"onetwothree"
    await stream.aclose()


@every_world
@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_what_breaks_is_told_by_the_iterator(here: World, fault: Any) -> None:
    stream = await here.open(here.play(Play(chunks=[b"some"], fault=fault, at="body")))
    with pytest.raises(StreamReset):
        async for _ in read(stream):
            pass
    await stream.aclose()
    assert here.open_streams == 0


@every_world
async def test_a_body_that_is_too_short_is_told(here: World) -> None:
    if here.kind.engine == "memory":
        return  # it has no lengths
    play = Play(chunks=[b"some"], content_length=10, fault="short", at="body")
    stream = await here.open(here.play(play))
    with pytest.raises((StreamReset, RemoteProtocolError)):
        async for _ in read(stream):
            pass
    await stream.aclose()


@every_world
async def test_abort_ends_a_read(here: World) -> None:
    path = here.play(Play(chunks=[b"some"], hang="body"))
    stream = await here.open(path)

    async def reading() -> None:
        async for _ in read(stream):
            pass

    task = asyncio.ensure_future(reading())
    await asyncio.sleep(0.01)  # the read is under way
    stream.abort()
    with pytest.raises(StreamReset):
        await asyncio.wait_for(task, 1)
    await here.left(path)
    assert here.open_streams == 0


@every_world
async def test_a_read_that_is_cancelled_and_aborted_leaves_nothing(here: World) -> None:
    path = here.play(Play(chunks=[b"some"], hang="body"))
    stream = await here.open(path)

    async def reading() -> None:
        async for _ in read(stream):
            pass

    task = asyncio.ensure_future(reading())
    await asyncio.sleep(0.01)  # the read is under way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream.abort()
    await here.left(path)
    assert here.open_streams == 0
    assert here.transport.describe()[0].streams_aborted == 1


@every_world
async def test_the_loop_turns_between_chunks_that_are_all_there(here: World) -> None:
    count = 2000
    stream = await here.open(here.play(Play(chunks=[b"x"] * count)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(others())
    last_turn, without_turn, most, size = 0, 0, 0, 0
    async for chunk in read(stream):
        size += len(chunk)
        without_turn = without_turn + 1 if turns == last_turn else 1
        most, last_turn = max(most, without_turn), turns
    ticking.cancel()
    await asyncio.wait([ticking])
    await stream.aclose()
    assert size == count
    assert most <= MAX_READY_CHUNKS
