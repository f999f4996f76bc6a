"""What only HTTP/2 shows: connections that live on, GOAWAY, stream limits, windows, warmth."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.errors import PoolExhausted, Retry, StreamRefused, StreamReset
from relay.transport.base import UpstreamRequest, UpstreamStream, UsedConnection
from relay.transport.engine import TransportSettings
from tests.fakes import h2_server
from tests.transport.conftest import QUIET, MakeWorld
from tests.transport.test_conformance import body_of, read_out
from tests.transport.worlds import H2_KINDS, H2World, Play, World, WorldKind

pytestmark = pytest.mark.sockets

h2_world = pytest.mark.parametrize("here", H2_KINDS, indirect=True, ids=str)
h2_kind = pytest.mark.parametrize("kind", H2_KINDS, ids=str)
wreq_kind = pytest.mark.parametrize("kind", [H2_KINDS[0], H2_KINDS[1]], ids=str)


def server_of(here: World) -> h2_server.H2Server:
    assert isinstance(here, H2World)
    return here.server


# --- leaving a stream leaves the connection alone ----------------------------------------------


@h2_world
async def test_cancel_before_headers_keeps_the_connection(here: World) -> None:
    server = server_of(here)
    await body_of(await here.open(here.play(Play())))
    for _ in range(5):
        path = here.play(Play(hang="headers"))
        task = here.start(path)
        await here.arrived(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await here.left(path)
    await body_of(await here.open(here.play(Play())))
    assert len(server.connections) == 1


@h2_world
async def test_abort_in_mid_stream_keeps_the_connection(here: World) -> None:
    server = server_of(here)
    for _ in range(5):
        path = here.play(Play(chunks=[b"x"], hang="body"))
        stream = await here.open(path)
        assert bytes(await anext(stream.chunks())) == b"x"
        stream.abort()
        await here.left(path)
    await body_of(await here.open(here.play(Play())))
    assert len(server.connections) == 1


@h2_world
async def test_a_sibling_stream_survives_abort_and_reset(here: World) -> None:
    gate = asyncio.Event()
    survivor = await here.open(here.play(Play(chunks=[b"a", b"b"], gate=gate)))
    (await here.open(here.play(Play(hang="body")))).abort()
    with pytest.raises(StreamReset):
        await here.open(here.play(Play(fault="reset")))
    gate.set()
    assert await body_of(survivor) == b"ab"
    assert len(server_of(here).connections) == 1


# --- what the server says about streams and connections ----------------------------------------


@h2_world
async def test_refused_stream_keeps_the_connection(here: World) -> None:
    server = server_of(here)
    path = here.play(Play(fault="refuse"))
    with pytest.raises(StreamRefused):
        await here.open(path)
    # Both engines try a refused stream three times by themselves.
    assert len(server.requests(path)) == 3
    await body_of(await here.open(here.play(Play())))
    assert len(server.connections) == 1


@h2_world
async def test_goaway_below_the_stream_is_safe_to_send_again(here: World) -> None:
    server = server_of(here)
    await body_of(await here.open(here.play(Play())))
    server.routes["/leaving"] = h2_server.goaway(processed=False)
    with pytest.raises(StreamRefused) as caught:
        await here.open("/leaving")
    assert caught.value.retry is Retry.SAFE
    assert await body_of(await here.open(here.play(Play(chunks=[b"next"])))) == b"next"


@h2_kind
@pytest.mark.parametrize("after_head", [False, True])
async def test_goaway_for_calm_lowers_the_share_of_resets(
    kind: WorldKind, make_world: MakeWorld, after_head: bool
) -> None:
    async with make_world(kind) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 1)
        calm = h2_server.goaway(processed=False, code=h2_server.ENHANCE_YOUR_CALM)

        async def late(stream: h2_server.ServerStream) -> None:
            await stream.send_headers()
            await stream.send(b"x")
            await calm(stream)

        server.routes["/calm"] = late if after_head else calm
        before = here.transport.describe()[0]
        with pytest.raises(StreamReset if after_head else StreamRefused) as caught:
            await body_of(await here.open("/calm"))
        assert caught.value.retry is (Retry.BEFORE_COMMIT if after_head else Retry.SAFE)
        assert len(server.requests("/calm")) == 1, "engines do not try it again by themselves"
        row = here.transport.describe()[0]
        assert (before.calmed, row.calmed) == (0, 1)
        assert row.max_reset_share == before.max_reset_share / 2
        await body_of(await here.open(here.play(Play())))
        await server.until(lambda: server.connections[0].closed)


@h2_world
async def test_goaway_for_calm_is_not_seen_by_a_stream_that_was_taken(here: World) -> None:
    # Said at `StreamEnd.CALMED`: no engine shows the code then, the connection just breaks.
    server = server_of(here)
    await body_of(await here.open(here.play(Play())))
    server.routes["/calm"] = h2_server.goaway(
        processed=True, code=h2_server.ENHANCE_YOUR_CALM, close=True
    )
    with pytest.raises(StreamReset):
        await here.open("/calm")
    assert here.transport.describe()[0].calmed == 0


@h2_world
async def test_goaway_lets_a_processed_stream_finish(here: World) -> None:
    server = server_of(here)
    server.routes["/leaving"] = h2_server.goaway(
        processed=True, then=h2_server.stream_chunks([b"a", b"b"])
    )
    assert await body_of(await here.open("/leaving")) == b"ab"
    assert await body_of(await here.open(here.play(Play(chunks=[b"next"])))) == b"next"
    assert len(server.connections) == 2


@h2_world
async def test_goaway_then_closed_before_headers(here: World) -> None:
    server = server_of(here)
    await body_of(await here.open(here.play(Play())))
    server.routes["/leaving"] = h2_server.goaway(processed=True, close=True)
    with pytest.raises(StreamReset) as caught:
        await here.open("/leaving")
    assert caught.value.retry is Retry.IF_REUSED


@h2_world
async def test_broken_on_the_very_connection_dialled_is_not_reused(here: World) -> None:
    with pytest.raises(StreamReset) as caught:
        await here.open(here.play(Play(fault="cut")))
    assert caught.value.retry is Retry.BEFORE_COMMIT


@h2_world
async def test_reset_without_error_looks_like_an_end(here: World) -> None:
    # The one cut that no engine shows (said in base.py); a codec's own end has to tell.
    server_of(here).routes["/odd"] = h2_server.reset(h2_server.NO_ERROR, after=[b"part"])
    assert await body_of(await here.open("/odd")) == b"part"


@h2_world
async def test_trailers_are_no_chunk(here: World) -> None:
    async def script(stream: h2_server.ServerStream) -> None:
        await stream.send_headers()
        await stream.send(b"x")
        await stream.end([("grpc-status", "0")])

    server_of(here).routes["/trailers"] = script
    stream = await here.open("/trailers")
    assert [bytes(chunk) async for chunk in stream.chunks()] == [b"x"]


# --- slots ----------------------------------------------------------------------------------


@h2_kind
async def test_streams_spread_over_connections_within_the_limit(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    settings = replace(QUIET, max_streams=2, max_connections=3)
    async with make_world(kind, settings) as here:
        server = server_of(here)
        path = here.play(Play(hang="body"))
        streams = await asyncio.gather(*(here.open(path) for _ in range(6)))
        assert [len(connection.open_streams) for connection in server.connections] == [2, 2, 2]
        with pytest.raises(PoolExhausted):
            await here.open(path, connect_timeout_s=0.02)
        waiting = here.start(path)
        await asyncio.sleep(0)
        streams[0].abort()
        (await waiting).abort()
        for stream in streams[1:]:
            stream.abort()


@h2_kind
async def test_a_server_with_one_stream_a_connection(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    settings = replace(QUIET, max_streams=1)
    limit = {h2_server.SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with make_world(kind, settings, h2_settings=limit) as here:
        path = here.play(Play(hang="body"))
        streams = await asyncio.gather(*(here.open(path) for _ in range(3)))
        assert len(server_of(here).open_connections) == 3
        for stream in streams:
            stream.abort()


@h2_kind
async def test_a_request_apart_from_one_that_hangs(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 2)
        server.routes["/apart"] = h2_server.in_turn(h2_server.hang(), h2_server.answer())
        # Without a body: pyqwest 0.12, with two connections in use, now and then sends a body and
        # not its END_STREAM (a few times in a hundred here, until something else wakes it).
        request = UpstreamRequest("GET", "/apart", [], b"")
        first = UsedConnection()
        hanging = asyncio.ensure_future(
            here.transport.open(here.origin, request, connect_timeout_s=2, used=first)
        )
        await here.arrived("/apart")
        stream = await here.transport.open(
            here.origin, request, connect_timeout_s=2, apart_from=first
        )
        await body_of(stream)
        one, other = server.requests("/apart")
        assert one.connection is not other.connection
        hanging.cancel()
        await asyncio.wait([hanging])
        await here.left("/apart")


# --- windows --------------------------------------------------------------------------------


@h2_kind
async def test_a_stopped_reader_stops_its_provider(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, QUIET) as here:
        server = server_of(here)
        server.routes["/flood"] = h2_server.stream_endlessly(b"x" * 8000)
        stream = await here.open("/flood")
        await anext(stream.chunks())
        seen = await server.request("/flood")
        # It has stopped when a whole round trip of another request moves nothing.
        before = -1
        while seen.sent_bytes != before:
            before = seen.sent_bytes
            for _ in range(3):
                await body_of(await here.open(here.play(Play())))
        # pyqwest's window cannot be set.
        assert seen.sent_bytes <= (300_000 if kind.engine == "wreq" else 2_200_000)
        stream.abort()


@h2_world
async def test_a_stopped_reader_does_not_stop_its_siblings(here: World) -> None:
    server = server_of(here)
    server.routes["/flood"] = h2_server.stream_endlessly(b"x" * 8000)
    stopped = [await here.open("/flood") for _ in range(2)]
    large = here.play(Play(chunks=[b"y" * 10_000] * 30))
    assert len(await body_of(await here.open(large))) == 300_000
    for stream in stopped:
        stream.abort()
    assert len(await body_of(await here.open(large))) == 300_000
    assert len(server.connections) == 1


@h2_kind
async def test_a_request_body_larger_than_the_server_s_window(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    tiny = {h2_server.SettingCodes.INITIAL_WINDOW_SIZE: 100}
    async with make_world(kind, QUIET, h2_settings=tiny) as here:
        path = here.play(Play(chunks=[b"ok"]))
        assert await body_of(await here.open(path, body=b"z" * 5000)) == b"ok"
        assert bytes(server_of(here).requests(path)[0].body) == b"z" * 5000


# --- warmth ---------------------------------------------------------------------------------


@h2_world
async def test_warm_before_the_first_request(here: World) -> None:
    server = server_of(here)
    await here.transport.warm(here.origin, 2)
    assert len(server.connections) == 2
    assert here.transport.describe()[0].connections == 2
    assert all(stream.method == "HEAD" for stream in server.streams)
    assert all(stream.header("authorization") is None for stream in server.streams)
    path = here.play(Play())
    await body_of(await here.open(path))
    assert len(server.connections) == 2
    assert here.transport.describe()[0].streams_opened == 1


@h2_world
async def test_warm_asks_for_the_probe_path(here: World) -> None:
    await here.transport.warm(here.origin, 1, probe_path="/v1/models")
    assert [stream.path for stream in server_of(here).streams] == ["/v1/models"]


@h2_kind
async def test_an_origin_that_is_away_is_warmed_when_it_comes(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    async with make_world(kind, QUIET) as here:
        server = server_of(here)
        server.stop_listening()
        await here.transport.warm(here.origin, 1)
        row = here.transport.describe()[0]
        assert row.connections == 0
        assert row.last_error == "the provider cannot be reached"
        again = h2_server.H2Server(tls=server.tls)
        again.port = server.port
        async with again:
            await again.until(lambda: again.streams)
            await body_of(await here.open("/any"))
            assert here.transport.describe()[0].last_error is None
            assert len(again.connections) == 1
            await here.transport.aclose()


@h2_kind
@pytest.mark.parametrize("how", ["goaway", "closed", "aborted"])
async def test_an_idle_connection_that_went_is_replaced(
    kind: WorldKind, make_world: MakeWorld, how: str
) -> None:
    async with make_world(kind, replace(QUIET, probe_interval_s=0.1)) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 1)
        connection = server.connections[0]
        match how:
            case "goaway":
                connection.goaway()
            case "closed":
                connection.close()
            case _:
                connection.abort()
        await server.until(lambda: len(server.connections) == 2 and len(server.streams) > 1)
        path = here.play(Play())
        await body_of(await here.open(path))
        assert server.requests(path)[0].connection.index > 0


@h2_kind
async def test_a_connection_that_answers_no_probe_is_replaced(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    settings = replace(QUIET, probe_interval_s=0.05, probe_timeout_s=0.05)
    async with make_world(kind, settings) as here:
        server = server_of(here)
        server.default = h2_server.in_turn(h2_server.answer(404), h2_server.hang())
        await here.transport.warm(here.origin, 1)
        await server.until(lambda: len(server.streams) == 2)
        server.default = h2_server.answer(404)
        await server.until(lambda: len(server.connections) == 2)
        await server.until(lambda: server.connections[0].closed)


@h2_kind
async def test_a_provider_that_answers_no_probe_at_all_is_usable(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    settings = replace(QUIET, dial_timeout_s=0.1, probe_interval_s=0.05, probe_timeout_s=0.05)
    async with make_world(kind, settings) as here:
        server = server_of(here)
        server.default = h2_server.hang()
        path = here.play(Play(chunks=[b"ok"]))
        assert await body_of(await here.open(path)) == b"ok"
        assert await body_of(await here.open(path)) == b"ok"
        assert len(server.connections) == 1


@wreq_kind
async def test_keep_alive_pings_on_an_idle_connection(
    kind: WorldKind, make_world: MakeWorld
) -> None:
    async with make_world(kind, replace(QUIET, ping_interval_s=0.05)) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 1)
        pings = len(server.seen("ping"))
        await server.until(lambda: len(server.seen("ping")) >= pings + 2)


# --- rotation -------------------------------------------------------------------------------


@h2_kind
@pytest.mark.parametrize(
    "limit",
    [{"max_requests": 3, "jitter": 0.0}, {"max_age_s": 0.15, "jitter": 0.0}],
    ids=["requests", "age"],
)
async def test_worn_connections_are_replaced_before_they_go(
    kind: WorldKind, make_world: MakeWorld, limit: dict[str, float]
) -> None:
    async with make_world(kind, replace(QUIET, **limit)) as here:  # type: ignore[arg-type]
        server = server_of(here)
        await here.transport.warm(here.origin, 1)
        long_path = here.play(Play(chunks=[b"a"], hang="body"))
        long_stream = await here.open(long_path)
        path = here.play(Play())
        while len(server.connections) < 3:
            known = len(server.connections)
            await body_of(await here.open(path))
            # No request of ours is the first on its connection: a probe dialled it.
            latest = server.requests(path)[-1]
            assert latest.connection.requests[0].method == "HEAD"
            assert latest.connection.index <= known
            await asyncio.sleep(0.01)
        # The old one is drained, not cut: its stream is still there.
        assert not here.was_left(long_path)
        assert not server.connections[0].closed
        long_stream.abort()
        await server.until(lambda: server.connections[0].closed)


@h2_kind
async def test_spare_connections_go_when_idle(kind: WorldKind, make_world: MakeWorld) -> None:
    settings = replace(QUIET, max_streams=1, idle_timeout_s=0.1)
    async with make_world(kind, settings) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 1)
        path = here.play(Play(hang="body"))
        streams: list[UpstreamStream] = [await here.open(path) for _ in range(3)]
        assert len(server.open_connections) == 3
        for stream in streams:
            stream.abort()
        await server.until(lambda: len(server.open_connections) == 1)
        assert here.transport.describe()[0].connections == 1


@h2_kind
async def test_close_closes_every_connection(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, QUIET) as here:
        server = server_of(here)
        await here.transport.warm(here.origin, 3)
        await here.transport.aclose()
        await server.until(lambda: not server.open_connections)


@h2_kind
async def test_a_burst_on_a_cold_origin_dials_once(kind: WorldKind, make_world: MakeWorld) -> None:
    async with make_world(kind, TransportSettings(probe_interval_s=60)) as here:
        path = here.play(Play(chunks=[b"ok"]))
        streams = await asyncio.gather(*(here.open(path) for _ in range(40)))
        for stream in streams:
            await read_out(stream.chunks())
        # Over TLS one connection holds them; over plain text it is known to be HTTP/2 as well.
        assert len(server_of(here).connections) == 1
