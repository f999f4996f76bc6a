"""Redis, where limits are shared: not there, slow, emptied, or an older copy of itself."""

from __future__ import annotations

import time
from functools import partial

import pytest
import redis

from relay.store import open_store
from relay.store.limit_store import Charge, Taken
from relay.store.redis_limits import PREFIX
from relay.store.shared_limits import SharedLimits
from tests.fakes.h2_server import stream_chunks
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_under_test import Document
from tests.fakes.slow_proxy import SlowProxy
from tests.matrix.process.place import Gated, ask, asking, ended, holds, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, WHOLE_MICRO, World, whole_answer, world

PATIENCE_S = 0.15
SLOW_S = 0.5


def _server(stage: Stage) -> RedisServer:
    """An empty one that runs, for this scenario."""
    server: RedisServer = stage.fixture("own_redis")
    if not server.is_running:
        server.start()
    with redis.Redis.from_url(server.url()) as client:
        client.replicaof("NO", "ONE")
    server.flush()
    return server


def _document(url: str, *, patience_s: float = PATIENCE_S, **limits: object) -> Document:
    timeout_ms = round(patience_s * 1000)
    return {"store": {"redis": url}, "limits": {"redis_timeout_ms": timeout_ms, **limits}}


def _limits(here: World) -> SharedLimits:
    limits = here.relay.worker.accounts._limits
    assert isinstance(limits, SharedLimits)
    return limits


async def down_at_the_start(stage: Stage) -> None:
    server = _server(stage)
    rpm = stage.draw.randint(2, 4)
    server.stop()
    async with world(stage, _document(server.url(), key={"rpm": rpm})) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        replies = [await ask(here.relay, face) for face in stage.draw.choices(FACES, k=rpm + 2)]
        assert all(reply.is_clean for reply in replies[:rpm]), replies
        assert {reply.reason for reply in replies[rpm:]} == {"LIMIT_EXCEEDED"}, replies
        server.start()
        await holds(lambda: not _limits(here)._is_down, "it is back and nobody takes notice")
        with redis.Redis.from_url(server.url()) as client:
            level = client.get(f"{PREFIX}{_bucket(client, here)}")
            assert level is not None
            assert int(level.split()[0]) < 1000, "what was granted without it is owed to it"
        booked = await here.booked(rpm)
        assert {one.cost_micro for one in booked} == {WHOLE_MICRO}


def _bucket(client: redis.Redis, here: World) -> str:
    """Name of the key's bucket of requests, without its prefix."""
    names = [
        name.decode() if isinstance(name, bytes) else name
        for name in client.keys(f"{PREFIX}*{here.key_id}*")
    ]
    (name,) = [one for one in names if "rpm" in one]
    return name.removeprefix(PREFIX)


def without_it_all_is_granted(patch: pytest.MonkeyPatch) -> None:
    """This worker's own share of each limit, while Redis is away."""

    def grant(_: SharedLimits, charges: list[Charge], now_us: int) -> Taken:
        return Taken(charges, [0] * len(charges))

    patch.setattr(SharedLimits, "_take_here", grant)


async def killed_and_told_to_refuse(stage: Stage) -> None:
    server = _server(stage)
    more = _document(server.url(), key={"rpm": 1000}, when_redis_is_down="refuse")
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        assert (await ask(here.relay, here.face())).is_clean
        server.kill()
        for face in stage.draw.sample(FACES, k=3):
            reply = await ask(here.relay, face)
            assert reply.reason == "LEDGER_UNAVAILABLE", reply
            assert reply.code in {"503", "14"}
        assert len(here.lab.requests(CHAT)) == 1
        server.start()
        await soon(lambda: not _limits(here)._is_down)
        assert (await ask(here.relay, here.face())).is_clean
        assert [one.state for one in await here.booked(2)] == ["settled"] * 2


def the_file_is_not_heeded(patch: pytest.MonkeyPatch) -> None:
    """What `when_redis_is_down: refuse` asks for."""
    patch.setattr(open_store, "SharedLimits", _local)


def _local(*parts: object, when_down: str, **how: object) -> SharedLimits:
    return SharedLimits(*parts, when_down="local", **how)  # type: ignore[arg-type]


async def half_a_second_slow(stage: Stage) -> None:
    server = _server(stage)
    async with SlowProxy(server.port) as proxy:
        url = server.url().replace(str(server.port), str(proxy.port))
        async with world(stage, _document(url, key={"rpm": 1000})) as here:
            here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
            proxy.delay_s = SLOW_S
            took_s = []
            for face in ("json", *stage.draw.choices(FACES, k=5)):
                began_s = time.monotonic()
                reply = await ask(here.relay, face)
                took_s.append(time.monotonic() - began_s)
                assert reply.is_clean, reply
            assert min(took_s[1:]) < SLOW_S, f"each waits for it: {took_s}"
            assert _limits(here).times_down
            proxy.delay_s = 0.0
            await holds(lambda: not _limits(here)._is_down, "it is never asked again", 10)
            assert [one.state for one in await here.booked(6)] == ["settled"] * 6


def it_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The patience with Redis, after which it is left alone."""
    patch.setattr(open_store, "SharedLimits", _patient)


def _patient(*parts: object, patience_s: float, **how: object) -> SharedLimits:
    return SharedLimits(*parts, patience_s=5.0, **how)  # type: ignore[arg-type]


async def forgets(stage: Stage, *, by_failover: bool) -> None:
    """What runs is told to it again: nobody is let in beside it who would have to wait."""
    server = _server(stage)
    lab = Gated()
    more = _document(server.url(), patience_s=2.0, key={"generations": 2})
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = lab.script
        limits = _limits(here)
        await soon(lambda: not limits._is_down)
        running = asking(here.relay, [here.face()])
        await soon(lambda: lab.begun == 1)
        with redis.Redis.from_url(server.url()) as client:
            if by_failover:  # the old one takes no writes; the new one lacks the last of them
                client.replicaof("127.0.0.1", "1")
            else:
                client.flushdb()
            running += asking(here.relay, [here.face()])
            await soon(lambda: lab.begun == 2)
            if by_failover:
                client.replicaof("NO", "ONE")
                client.flushdb()
                await holds(lambda: not limits._is_down, "it is never asked again", 10)
        for face in stage.draw.sample(FACES, k=2):
            reply = await ask(here.relay, face)
            assert reply.reason == "LIMIT_EXCEEDED", reply
        lab.gate.set()
        for reply in await ended(running, 10):
            assert reply.is_clean, reply
        assert [one.state for one in await here.booked(2)] == ["settled"] * 2
        assert here.books.left_micro(here.budget_id) == 1_000_000 - 2 * WHOLE_MICRO


def leases_are_told_once(patch: pytest.MonkeyPatch) -> None:
    """That what is held is told again to a Redis that has lost it."""
    patch.setattr(SharedLimits, "_some_untold", lambda _: [])


ROWS = (
    Row(
        "P5",
        inject="Redis down at the start, killed, 500 ms slow, flushed, failed over to an old copy",
        client="limits by this worker's share, or 503 where the file says `refuse`; nobody waits"
        " longer than `redis_timeout_ms`, and one once",
        accounting="budgets are in the database and stay exact",
        retry="what is held and owed is told again when it is back",
        parts=(
            Part("down_at_the_start", down_at_the_start, without_it_all_is_granted),
            Part("killed", killed_and_told_to_refuse, the_file_is_not_heeded),
            Part("slow", half_a_second_slow, it_is_waited_for),
            Part("flushed", partial(forgets, by_failover=False), leases_are_told_once),
            Part("failover", partial(forgets, by_failover=True), leases_are_told_once),
        ),
        also=(
            "tests/store/test_redis_limits.py",
            "tests/store/test_shared_limits.py",
            "tests/hints/test_redis_bus.py",
            "tests/cache/test_exact_redis.py",
        ),
    ),
)
