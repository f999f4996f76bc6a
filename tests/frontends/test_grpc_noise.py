"""Which connections are ended for what they send beside messages; over sockets in the fault matrix
(C9)."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.frontends import grpc_noise
from relay.frontends.grpc_links import Link, Peer, can_look, cut, links, peer_of
from relay.frontends.grpc_noise import MANY_GHOSTS, NOISE_BYTES, PATIENCE, Judge

AGENT: Peer = ("192.0.2.1", 1)
OTHER: Peer = ("192.0.2.2", 2)
THIRD: Peer = ("192.0.2.3", 3)
GHOSTS = 10 * MANY_GHOSTS

linux = pytest.mark.skipif(not can_look(), reason="only Linux tells bytes of a socket")


def at(**received: int) -> dict[Peer, Link]:
    """Connections that sent so much, by `agent`, `other`, `third`."""
    names = {"agent": AGENT, "other": OTHER, "third": THIRD}
    return {names[name]: Link(0, count, 0) for name, count in received.items()}


def test_who_made_the_ghosts_is_found_among_those_that_talk() -> None:
    judge = Judge()
    found = judge.look(
        at(agent=0, other=0), at(agent=90_000, other=40_000), {AGENT: 89_000}, GHOSTS
    )
    assert found == [OTHER]


def test_a_connection_since_the_last_look_is_found_too() -> None:
    assert Judge().look({}, at(other=40_000), {}, GHOSTS) == [OTHER]


def test_who_sent_too_little_for_the_ghosts_did_not_make_them() -> None:
    judge = Judge()
    for count in range(1, 10):
        before, now = at(agent=1000 * (count - 1)), at(agent=1000 * count)
        assert judge.look(before, now, {}, GHOSTS) == []


def test_of_two_that_may_have_made_them_the_noisiest_after_a_while() -> None:
    judge = Judge()
    for count in range(1, PATIENCE):
        before = at(agent=40_000 * (count - 1), other=60_000 * (count - 1))
        assert judge.look(before, at(agent=40_000 * count, other=60_000 * count), {}, GHOSTS) == []
    before = at(agent=0, other=0)
    assert judge.look(before, at(agent=40_000, other=60_000), {}, GHOSTS) == [OTHER]


def test_a_good_call_now_and_then_hides_nobody() -> None:
    assert Judge().look({}, at(other=40_000), {OTHER: 1000}, GHOSTS) == [OTHER]
    assert Judge().look({}, at(other=40_000), {OTHER: 30_000}, GHOSTS) == []


def test_few_ghosts_are_nobodys() -> None:
    assert Judge().look({}, at(agent=1_000_000), {}, MANY_GHOSTS - 1) == []


def test_noise_without_ghosts_is_ended_once_it_is_more_than_uploads_come_to() -> None:
    judge, step = Judge(), NOISE_BYTES // 8
    counts = [
        bool(judge.look(at(agent=step * n), at(agent=step * (n + 1)), {}, 0)) for n in range(9)
    ]
    assert counts == [*[False] * 8, True]


def test_nothing_is_held_against_or_kept_of_who_has_gone() -> None:
    """The same address and port, later, may be somebody else's."""
    judge, most = Judge(), NOISE_BYTES
    assert judge.look(at(agent=0), at(agent=most), {}, 0) == []
    assert judge.look(at(agent=most), {}, {}, 0) == []
    assert judge.look({}, at(agent=most), {}, 0) == []
    assert judge.look(at(agent=most), at(agent=2 * most), {}, 0) == [AGENT]


def test_uploads_are_no_noise() -> None:
    judge, step = Judge(), NOISE_BYTES // 2
    for count in range(20):
        useful = {AGENT: 2 * step} if count % 2 else {}
        assert judge.look(at(agent=step * count), at(agent=step * (count + 1)), useful, 0) == []


def test_what_acknowledges_answers_is_no_noise() -> None:
    judge = Judge()
    before, now = Link(0, 0, 0), Link(0, NOISE_BYTES * 2, NOISE_BYTES * 16)
    assert judge.look({AGENT: before}, {AGENT: now}, {}, GHOSTS) == []


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:192.0.2.1:77", ("192.0.2.1", 77)),
        ("ipv6:[::1]:77", ("::1", 77)),
        ("ipv6:%5B::1%5D:77", ("::1", 77)),
        ("ipv6:[::ffff:192.0.2.1]:77", ("192.0.2.1", 77)),
        ("ipv6:[fe80::1%25eth0]:77", ("fe80::1", 77)),
        ("unix:/run/relay", None),
    ],
)
def test_peers_as_grpc_writes_them(text: str, peer: Peer | None) -> None:
    assert peer_of(text) == peer


@asynccontextmanager
async def served(host: str) -> AsyncIterator[tuple[int, socket.socket]]:
    """A port that reads and says nothing, and a client of it."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()

    server = await asyncio.start_server(read, host, 0)
    port = server.sockets[0].getsockname()[1]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setblocking(False)
    async with server:
        with client:
            await asyncio.get_running_loop().sock_connect(client, (host, port))
            yield port, client


@linux
@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_is_found_counted_and_ended_alone(host: str) -> None:
    loop = asyncio.get_running_loop()
    async with served(host) as (port, client), served(host) as (_, other):
        await loop.sock_sendall(client, b"x" * 1234)
        own: Peer = client.getsockname()[:2]
        async with asyncio.timeout(5):
            while (found := links(port)).get(own, Link(0, 0, 0)).received_bytes != 1234:
                await asyncio.sleep(0.001)
        assert list(found) == [own]
        assert not cut(("192.0.2.1", 1), found[own], port), "another has the descriptor by now"
        assert not cut(own, found[own], port + 1)
        assert cut(own, found[own], port)
        assert await asyncio.wait_for(loop.sock_recv(client, 1), 5) == b""
        await loop.sock_sendall(other, b"x")


@linux
async def test_looks_are_close_while_there_are_signs_and_stop_counting_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Event()

    def none(_: int) -> dict[Peer, Link]:
        asked.set()
        return {}

    for name, value_s in (("LOOK_S", 0.001), ("CLOSE_LOOK_S", 0.001), ("CALM_S", 0.01)):
        monkeypatch.setattr(grpc_noise, name, value_s)
    monkeypatch.setattr(grpc_noise, "links", none)
    watch = grpc_noise.NoiseWatch(cpu_s=lambda: 0.0)
    watch.start(1)
    try:
        await asyncio.sleep(0.01)
        assert not asked.is_set(), "nothing is looked at without a sign"
        for _ in range(MANY_GHOSTS):
            watch.strange()
        async with asyncio.timeout(5):
            while not asked.is_set():
                await asyncio.sleep(0.001)
            while not watch.is_counting:
                await asyncio.sleep(0.001)
            while watch.is_counting:
                await asyncio.sleep(0.001)
    finally:
        await watch.aclose()


class Rpc:
    """The context of one."""

    def peer(self) -> str:
        return "ipv4:192.0.2.1:1"


def test_only_who_ends_without_a_message_is_a_ghost() -> None:
    watch = grpc_noise.NoiseWatch()
    reset, asks, waits, is_refused = (Rpc() for _ in range(4))
    for rpc in (reset, asks, waits, is_refused):
        watch.arrived(rpc)
    watch.began(asks, 10)
    watch.began(asks, 10)
    watch.refused(is_refused)
    for rpc in (reset, asks, is_refused):
        watch.left(rpc)
    assert watch.ghosts == 1
    watch.strange()
    watch.left(waits)
    assert watch.ghosts == 3


def test_what_was_refused_unread_is_taken_to_have_been_a_message() -> None:
    watch = grpc_noise.NoiseWatch()
    watch.is_counting = True
    asks, is_refused = Rpc(), Rpc()
    for rpc in (asks, is_refused):
        watch.arrived(rpc)
    watch.began(asks, 10)
    watch.refused(asks)
    watch.refused(is_refused)
    expected = 10 + grpc_noise.REFUSED_BYTES + 2 * grpc_noise.MESSAGE_BYTES
    assert watch.useful == {AGENT: expected}


@linux
async def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody has taken every descriptor there is, none is left to look with."""
    looks = 0

    def out_of_descriptors(_: int) -> dict[Peer, Link]:
        nonlocal looks
        looks += 1
        raise OSError(24, "Too many open files")

    for name in ("LOOK_S", "CLOSE_LOOK_S"):
        monkeypatch.setattr(grpc_noise, name, 0.001)
    monkeypatch.setattr(grpc_noise, "links", out_of_descriptors)
    watch = grpc_noise.NoiseWatch(cpu_s=lambda: 0.0)
    watch.start(1)
    try:
        for _ in range(MANY_GHOSTS):
            watch.strange()
        async with asyncio.timeout(5):
            while looks < 2:
                await asyncio.sleep(0.001)
    finally:
        await watch.aclose()
