"""What `relay.transport.base` promises, asked of every engine and of the in-memory twin.

Each test speaks in the neutral words of `worlds.py`. What only one wire can show is in
`test_http2.py` and `test_http1.py`.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator

import pytest

from relay.errors import (
    Draining,
    PoolExhausted,
    RemoteProtocolError,
    Retry,
    StreamRefused,
    StreamReset,
    UpstreamError,
)
from relay.transport.base import (
    MAX_READY_CHUNKS,
    UpstreamRequest,
    UpstreamStream,
    UsedConnection,
)
from relay.transport.engine import TransportSettings
from tests.transport.conftest import QUIET, MakeWorld
from tests.transport.worlds import KINDS, PRIVATE, SOCKET_KINDS, Play, World, WorldKind

pytestmark = pytest.mark.sockets

every_world = pytest.mark.parametrize("here", KINDS, indirect=True, ids=str)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
socket_world = pytest.mark.parametrize("here", SOCKET_KINDS, indirect=True, ids=str)
socket_kind = pytest.mark.parametrize("kind", SOCKET_KINDS, ids=str)


async def body_of(stream: UpstreamStream) -> bytes:
    """Read to the end and close."""
    parts = [bytes(chunk) async for chunk in stream.chunks()]
    await stream.aclose()
    return b"".join(parts)


async def read_out(chunks: AsyncIterator[bytes | memoryview]) -> None:
    """Read what is left."""
    async for _ in chunks:
        pass


# --- answers --------------------------------------------------------------------------------


@every_world
async def test_status_headers_and_body(here: World) -> None:
    path = here.play(
        Play(headers=[("content-type", "a/b"), ("x-it", "1")], chunks=[b"one", b"two"])
    )
    stream = await here.open(path)
    assert stream.status == 200
    assert ("content-type", "a/b") in stream.headers
    assert ("x-it", "1") in stream.headers
    assert stream.http_version == ("1.1" if here.kind.wire == "h1" else "2")
    assert await body_of(stream) == b"onetwo"
    assert here.open_streams == 0


@every_world
async def test_repeated_response_headers_are_all_there(here: World) -> None:
    path = here.play(Play(headers=[("x-many", "1"), ("x-many", "2")]))
    stream = await here.open(path)
    assert [value for name, value in stream.headers if name == "x-many"] == ["1", "2"]
    await body_of(stream)


@every_world
async def test_an_error_status_is_an_answer(here: World) -> None:
    path = here.play(Play(status=429, headers=[("retry-after", "3")], chunks=[b"slow down"]))
    stream = await here.open(path)
    assert stream.status == 429
    assert ("retry-after", "3") in stream.headers
    assert await body_of(stream) == b"slow down"


@every_world
async def test_a_redirect_is_not_followed(here: World) -> None:
    target = here.play(Play(chunks=[b"elsewhere"]))
    path = here.play(Play(status=307, headers=[("location", target)]))
    stream = await here.open(path)
    assert stream.status == 307
    assert ("location", target) in stream.headers
    assert await body_of(stream) == b""


@every_world
async def test_an_empty_body_ends_at_once(here: World) -> None:
    stream = await here.open(here.play(Play(status=204 if here.kind.wire != "h1" else 200)))
    assert await body_of(stream) == b""


@socket_world
async def test_each_chunk_arrives_when_it_is_sent(here: World) -> None:
    gate = asyncio.Event()
    stream = await here.open(here.play(Play(chunks=[b"first", b"second"], gate=gate)))
    chunks = stream.chunks()
    # The second is not sent before the gate opens, so the first cannot have waited for it.
    assert bytes(await anext(chunks)) == b"first"
    gate.set()
    assert bytes(await anext(chunks)) == b"second"
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    await stream.aclose()


@every_world
async def test_a_large_body_is_whole(here: World) -> None:
    parts = [bytes([index]) * 50_000 for index in range(20)]
    stream = await here.open(here.play(Play(chunks=parts)))
    assert await body_of(stream) == b"".join(parts)


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
    last_turn, without_turn, most = 0, 0, 0
    size = 0
    async for chunk in stream.chunks():
        size += len(chunk)
        without_turn = without_turn + 1 if turns == last_turn else 1
        most, last_turn = max(most, without_turn), turns
    ticking.cancel()
    await asyncio.wait([ticking])
    await stream.aclose()
    assert size == count
    assert most <= MAX_READY_CHUNKS


@socket_world
async def test_request_arrives_as_given(here: World) -> None:
    path = here.play(Play())
    body = bytes(range(256)) * 1000
    request = UpstreamRequest(
        "POST", f"{path}?a=1%202&b=%2F", [("x-one", "1"), ("x-two", "a"), ("x-two", "b")], body
    )
    await body_of(await here.transport.open(here.origin, request, connect_timeout_s=2))
    seen = here.server.requests(path)[0]  # type: ignore[attr-defined]
    assert seen.method == "POST"
    assert getattr(seen, "target", seen.path if here.kind.wire == "h2" else None) == request.path
    assert bytes(seen.body) == body
    assert seen.header("x-one") == "1"
    assert [value for name, value in seen.headers if name == "x-two"] == ["a", "b"]
    assert seen.header("accept-encoding") == "identity"


@every_world
async def test_slow_headers_are_not_limited_by_the_connect_timeout(here: World) -> None:
    await here.transport.warm(here.origin, 1)
    stream = await here.open(
        here.play(Play(headers_after_s=0.15, chunks=[b"late"])), connect_timeout_s=0.05
    )
    assert await body_of(stream) == b"late"


@every_world
async def test_phases_are_marked_in_order(here: World) -> None:
    marks: list[str] = []
    stream = await here.transport.open(
        here.origin,
        UpstreamRequest("POST", here.play(Play()), [], b""),
        connect_timeout_s=2,
        mark=marks.append,
    )
    await body_of(stream)
    assert marks == ["pool_wait", "request_sent"]


@every_world
async def test_a_second_request_apart_from_the_first(here: World) -> None:
    await here.transport.warm(here.origin, 2)
    first, second = UsedConnection(), UsedConnection()
    path = here.play(Play(hang="headers"))
    request = UpstreamRequest("POST", path, [], b"{}")
    hanging = asyncio.ensure_future(
        here.transport.open(here.origin, request, connect_timeout_s=2, used=first)
    )
    await here.arrived(path)
    assert first.connection is not None
    request = request._replace(path=here.play(Play(chunks=[b"ok"])))
    stream = await here.transport.open(
        here.origin, request, connect_timeout_s=2, used=second, apart_from=first
    )
    assert second.connection not in (None, first.connection)
    assert await body_of(stream) == b"ok"
    hanging.cancel()
    await asyncio.wait([hanging])
    await here.left(path)


# --- leaving --------------------------------------------------------------------------------


@every_world
async def test_cancelled_before_headers(here: World) -> None:
    path = here.play(Play(hang="headers"))
    task = here.start(path)
    await here.arrived(path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert here.open_streams == 0
    await here.left(path)
    assert await body_of(await here.open(here.play(Play(chunks=[b"next"])))) == b"next"


@every_world
async def test_aborted_in_mid_stream(here: World) -> None:
    path = here.play(Play(chunks=[b"some"], hang="body"))
    stream = await here.open(path)
    chunks = stream.chunks()
    assert bytes(await anext(chunks)) == b"some"
    stream.abort()
    assert here.open_streams == 0
    await here.left(path)
    stream.abort()
    await stream.aclose()
    with pytest.raises(StreamReset):
        await anext(chunks)
    assert here.transport.describe()[0].streams_aborted == 1


@every_world
async def test_aborted_before_the_body_is_read(here: World) -> None:
    path = here.play(Play(hang="body"))
    (await here.open(path)).abort()
    await here.left(path)
    assert here.open_streams == 0


@every_world
async def test_abort_by_another_task_ends_a_pending_read(here: World) -> None:
    stream = await here.open(here.play(Play(hang="body")))
    reading = asyncio.ensure_future(anext(stream.chunks()))
    await asyncio.sleep(0.01)  # the read is under way
    stream.abort()
    with pytest.raises(StreamReset):
        await asyncio.wait_for(reading, 1)
    await stream.aclose()


@every_world
async def test_cancelled_read_aborts_the_stream(here: World) -> None:
    path = here.play(Play(hang="body"))
    stream = await here.open(path)
    reading = asyncio.ensure_future(anext(stream.chunks()))
    await asyncio.sleep(0.01)  # the read is under way
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert here.open_streams == 0
    await here.left(path)
    await stream.aclose()


@every_world
async def test_closed_before_the_end_is_left(here: World) -> None:
    path = here.play(Play(chunks=[b"some"], hang="body"))
    stream = await here.open(path)
    assert bytes(await anext(stream.chunks())) == b"some"
    await stream.aclose()
    await here.left(path)


@every_world
async def test_closed_after_the_end_is_not(here: World) -> None:
    path = here.play(Play(chunks=[b"all"]))
    stream = await here.open(path)
    assert await body_of(stream) == b"all"
    stream.abort()
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream.chunks())
    await body_of(await here.open(here.play(Play())))  # a round trip later
    assert not here.was_left(path)
    assert here.transport.describe()[0].streams_aborted == 0


@every_world
async def test_many_cancelled_at_any_moment_leave_no_slot(here: World) -> None:
    path = here.play(Play(headers_after_s=0.01, chunks=[b"x"], hang="body"))
    warmed = here.play(Play()) if here.kind.wire != "memory" else path
    if here.kind.wire != "memory":
        await body_of(await here.open(warmed))

    async def one() -> None:
        stream = await here.open(path)
        await read_out(stream.chunks())

    tasks = [asyncio.ensure_future(one()) for _ in range(20)]
    for index, task in enumerate(tasks):
        await asyncio.sleep(0.001)
        if index % 2:
            task.cancel()
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert here.open_streams == 0


# --- faults ---------------------------------------------------------------------------------


@every_world
@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_broken_before_headers(here: World, fault: str) -> None:
    await body_of(await here.open(here.play(Play())))
    with pytest.raises(StreamReset) as caught:
        await here.open(here.play(Play(fault=fault, at="headers")))  # type: ignore[arg-type]
    assert not caught.value.headers_received
    if here.kind.wire != "memory":
        # Over HTTP/1.1 both are a connection that broke; who resets a stream has seen it.
        is_stale = here.kind.wire == "h1" or fault == "cut"
        assert caught.value.retry is (Retry.IF_REUSED if is_stale else Retry.BEFORE_COMMIT)
    assert here.open_streams == 0
    assert await body_of(await here.open(here.play(Play(chunks=[b"next"])))) == b"next"


@every_world
@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_broken_in_mid_body(here: World, fault: str) -> None:
    stream = await here.open(
        here.play(Play(chunks=[b"some"], fault=fault, at="body"))  # type: ignore[arg-type]
    )
    chunks = stream.chunks()
    assert bytes(await anext(chunks)) == b"some"
    with pytest.raises(StreamReset) as caught:
        await read_out(chunks)
    assert caught.value.headers_received
    assert caught.value.retry is Retry.BEFORE_COMMIT
    assert here.open_streams == 0
    await stream.aclose()
    assert await body_of(await here.open(here.play(Play(chunks=[b"next"])))) == b"next"


@every_world
async def test_a_body_shorter_than_promised_is_no_clean_end(here: World) -> None:
    stream = await here.open(
        here.play(Play(headers=[], chunks=[b"abc"], content_length=10, fault="short", at="body"))
    )
    with pytest.raises((StreamReset, RemoteProtocolError)):
        await read_out(stream.chunks())
    await stream.aclose()
    assert here.open_streams == 0


@pytest.mark.parametrize("here", [kind for kind in KINDS if kind.wire != "h1"], indirect=True)
async def test_a_refused_stream_is_safe_to_send_again(here: World) -> None:
    with pytest.raises(StreamRefused) as caught:
        await here.open(here.play(Play(fault="refuse")))
    assert caught.value.retry is Retry.SAFE
    assert here.open_streams == 0


@socket_world
@pytest.mark.parametrize(
    "play",
    [
        Play(fault="reset"),
        Play(fault="cut"),
        Play(fault="refuse"),
        Play(fault="cut", at="body", chunks=[b"x"]),
        Play(fault="short", at="body", headers=[], chunks=[b"x"], content_length=9),
    ],
    ids=["reset", "cut", "refuse", "cut-body", "short"],
)
async def test_errors_show_nothing_private(here: World, play: Play) -> None:
    with pytest.raises(UpstreamError) as caught:
        await body_of(await here.open(here.play(play)))
    shown = "".join(traceback.format_exception(caught.value))
    assert PRIVATE not in shown
    assert PRIVATE not in caught.value.public_message
    assert "127.0.0.1" not in caught.value.public_message


# --- slots ----------------------------------------------------------------------------------


@socket_kind
async def test_beyond_the_slots_requests_wait_in_line(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    settings = TransportSettings(
        max_streams=1, max_connections=1, max_http1_connections=1, probe_interval_s=60
    )
    async with make_world(kind, settings) as here:
        gates = [asyncio.Event() for _ in range(3)]
        paths = [here.play(Play(chunks=[b"a", b"b"], gate=gate)) for gate in gates]
        first = await here.open(paths[0])
        others = [here.start(paths[1]), here.start(paths[2])]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in others)
        assert here.transport.describe()[0].waiting == 2
        with pytest.raises(PoolExhausted):
            await here.open(paths[0], connect_timeout_s=0.02)
        for gate, before, after in (
            (gates[0], first, others[0]),
            (gates[1], None, others[1]),
        ):
            stream = before or await others[0]
            gate.set()
            assert await body_of(stream) == b"ab"
            await asyncio.wait_for(after, 2)
        gates[2].set()
        assert await body_of(await others[1]) == b"ab"


@socket_kind
async def test_cancelled_in_line_leaves_the_line(kind: WorldKind, make_world: MakeWorld) -> None:
    settings = TransportSettings(
        max_streams=1, max_connections=1, max_http1_connections=1, probe_interval_s=60
    )
    async with make_world(kind, settings) as here:
        path = here.play(Play(hang="body"))
        first = await here.open(path)
        waiting = here.start(path)
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert here.transport.describe()[0].waiting == 0
        first.abort()
        assert await body_of(await here.open(here.play(Play(chunks=[b"ok"])))) == b"ok"


# --- closing --------------------------------------------------------------------------------


@every_kind
async def test_a_closed_transport_takes_nothing(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, QUIET) as here:
        path = here.play(Play())
        await body_of(await here.open(path))
        await here.transport.aclose()
        await here.transport.aclose()
        with pytest.raises(Draining):
            await here.open(path)


@every_kind
async def test_close_waits_for_open_streams(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, QUIET) as here:
        stream = await here.open(here.play(Play(chunks=[b"a", b"b"])))
        closing = asyncio.ensure_future(here.transport.aclose(grace_s=5))
        await asyncio.sleep(0.01)
        assert not closing.done()
        assert await body_of(stream) == b"ab"
        await asyncio.wait_for(closing, 1)


@every_kind
async def test_close_without_grace_ends_everything(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, QUIET) as here:
        silent = here.play(Play(hang="headers"))
        pending = here.start(silent)
        await here.arrived(silent)
        started = here.play(Play(chunks=[b"a"], hang="body"))
        stream = await here.open(started)
        await here.transport.aclose()
        with pytest.raises(Draining):
            await pending
        await here.left(silent)
        await here.left(started)
        with pytest.raises(StreamReset):
            await read_out(stream.chunks())
