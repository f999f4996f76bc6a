"""Clients that send as fast as they can, or as slowly (rows C9, C10 and C17)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

import relay.frontends.grpc_service
import relay.server
from relay.frontends.grpc_noise import NoiseWatch
from relay.frontends.grpc_service import RelayService, _Conversation
from relay.frontends.http_protocol import BoundedHttpProtocol
from tests.fakes.converse_client import CONVERSE, GENERATE
from tests.fakes.h2_attacks import (
    ATTACKS,
    ENHANCE_YOUR_CALM,
    MADE_YOU_RESET,
    Attack,
    Call,
    Told,
    flood,
    head,
    message,
)
from tests.fakes.h2_server import hang, stream_chunks
from tests.fakes.relay_process import RelayProcess
from tests.matrix.client.raw import (
    GET,
    HEALTHY,
    Frames,
    Rpc,
    connected,
    framed,
    grpc_headers,
    key_of,
    post,
    request_bytes,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.weakened import program
from tests.matrix.world import CHAT, World, whole_answer, world

ATTACK_S = 8.0
"""Attacker, relay and victim share one process here, and others the machine: the figure of two
seconds is held to by `python -m bench run h2_attacks`."""
LOOKS = 3
"""A machine may be busy once and again; a relay that is slow is slow each time."""
NOISY = ("rapid_reset", "rapid_reset_of_heads", "hpack_bomb", "unknown_method")
STREAMS = 1000
"""`grpc.max_concurrent_streams`."""


def attacker(here: World, *, has_key: bool) -> Call:
    more = (("authorization", f"Bearer {key_of(here)}"),) if has_key else ()
    return Call(head("/rtrelay.v1.RelayService/Generate", *more), message(request_bytes()))


async def attack(here: World, name: str, seconds: float, *, has_key: bool = False) -> Told:
    port = here.relay.worker.grpc_port
    call = attacker(here, has_key=has_key)
    return await asyncio.to_thread(flood, port, ATTACKS[name], seconds, call=call)


async def resets_at_any_rate(stage: Stage) -> None:
    name, has_key = stage.draw.choice(NOISY), stage.draw.random() < 0.5
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        attacking = asyncio.create_task(attack(here, name, ATTACK_S, has_key=has_key))
        reply = await here.ask("generate", "alone")
        told = await attacking
        assert reply.text == "fine", "others are served meanwhile"
        assert told.closed_after_s is not None, (name, told)
        assert (await here.ask("converse", "alone")).text == "fine"
        await here.quiet()
        assert here.books.check()["open"] == 0
        if not has_key:
            await here.booked(2)


def _first(name: str) -> Attack:
    def attack(call: Call) -> Iterator[bytes]:
        return itertools.islice(ATTACKS[name](call), 1)

    return attack


async def made_to_reset(stage: Stage) -> None:
    """A hundred streams with a good key, each with what the server must reset it for."""
    name = MADE_YOU_RESET[stage.seed % len(MADE_YOU_RESET)]
    most = 0
    async with world(stage) as here:
        here.lab.routes[CHAT] = hang()
        service = here.relay.worker._service
        assert service is not None
        port, call = here.relay.worker.grpc_port, attacker(here, has_key=True)

        sending = asyncio.create_task(asyncio.to_thread(flood, port, _first(name), 0.7, call=call))
        while not sending.done():
            most = max(most, len(here.relay.worker.services.live))
            await asyncio.sleep(0.005)
        await sending
        assert most <= 100, "no more handlers than streams"
        await here.quiet()  # whose connection is gone, or whose stream was reset, has no handler
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        assert (await here.ask(here.face(), "alone")).text == "fine"
        states = here.books.check()
        assert not states["open"], states


FLOODS = (
    *("continuation", "continuation_empty", "settings", "priority", "window_update"),
    *("empty_data", "unknown_frames"),
)


async def frames_that_cost_nothing(stage: Stage) -> None:
    name = stage.draw.choice(FLOODS)
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        attacking = asyncio.create_task(attack(here, name, 0.5))
        for face in ("generate", "sse", "converse"):
            assert (await here.ask(face, "alone")).text == "fine", name
        await attacking
        await here.booked(3)


async def pings_at_any_rate(stage: Stage) -> None:
    async with world(stage) as here:
        told = await attack(here, "ping", 2.0)
        assert told.refusal == ENHANCE_YOUR_CALM, told
        await here.booked(0)


def noise_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    """The watch over connections that send much and ask for nothing."""
    patch.setattr(NoiseWatch, "start", lambda *_: None)


def any_ping_is_taken(patch: pytest.MonkeyPatch) -> None:
    """`grpc.http2.max_ping_strikes`."""
    options = relay.server.grpc_options
    patch.setattr(
        relay.server,
        "grpc_options",
        lambda *given, **more: [
            (name, 0 if name == "grpc.http2.max_ping_strikes" else value)
            for name, value in options(*given, **more)
        ],
    )


# --- C10 --------------------------------------------------------------------------------------

LIMIT_S = 0.3


async def slow_heads_and_bodies(stage: Stage) -> None:
    """A byte now and then; the limits are 10 and 60 s, here a part of a second."""
    for name in ("head_timeout_s", "body_timeout_s"):
        stage.patch.setattr(BoundedHttpProtocol, name, LIMIT_S)
    async with world(stage) as here:
        whole = post(here)
        in_head = stage.draw.random() < 0.5
        end = whole.index(b"relay\r\n") if in_head else whole.index(b"\r\n\r\n") + 5
        async with connected(here.relay.worker.http_port) as client:
            client.send(whole[:end])

            async def drip() -> None:
                while True:
                    client.send(b"x")
                    await asyncio.sleep(LIMIT_S / 10)

            dripping = asyncio.create_task(drip())
            began_s = time.monotonic()
            try:
                said = await client.rest()
            finally:
                dripping.cancel()
                await asyncio.wait([dripping])
            assert time.monotonic() - began_s < 10 * LIMIT_S
            assert said.startswith(b"HTTP/1.1 408 "), said
        await here.booked(0)


def _scaled(stage: Stage, name: str, value: int) -> None:
    options = relay.server.grpc_options
    stage.patch.setattr(
        relay.server,
        "grpc_options",
        lambda *given, **more: [
            (key, value if key == name and held > value else held)
            for key, held in options(*given, **more)
        ],
    )


async def slow_prefaces(stage: Stage) -> None:
    _scaled(stage, "grpc.server_handshake_timeout_ms", 300)
    sent = stage.draw.choice((b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
    async with world(stage) as here:
        async with connected(here.relay.worker.grpc_port) as client:
            client.send(sent)
            await client.rest(4.0)
        await here.booked(0)


async def slow_sessions(stage: Stage) -> None:
    settings = {"server": {"grpc": {"session_idle_ms": 400}}}
    async with world(stage, settings) as here:
        rpc = await byte_by_byte(here, CONVERSE)
        assert (rpc.code, "nothing to do" in rpc.text) == (14, True), rpc
        await here.booked(0)


async def slow_messages(stage: Stage) -> None:
    stage.patch.setattr(relay.frontends.grpc_service, "REQUEST_S", LIMIT_S)
    async with world(stage) as here:
        rpc = await byte_by_byte(here, GENERATE)
        assert (rpc.code, "took longer" in rpc.text) == (3, True), rpc
        await here.booked(0)


async def byte_by_byte(here: World, path: str) -> Rpc:
    """A call whose first message comes so, without an end, until the relay ends it."""
    async with Frames(here.relay.worker.grpc_port) as client:
        call = client.call(grpc_headers(here, path=path), framed(b"", length=1000), end=False)

        async def drip() -> None:
            while not client.rpcs[call].is_over:
                client.send(call, b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        try:
            return await client.over(call)
        finally:
            dripping.cancel()
            await asyncio.wait([dripping])


def messages_may_last(patch: pytest.MonkeyPatch) -> None:
    """The limit of time for the message of a call."""
    asked = RelayService._request

    async def waits(service: RelayService, *given: Any) -> bytes:
        patch.setattr(relay.frontends.grpc_service, "REQUEST_S", 3600.0)
        return await asked(service, *given)

    patch.setattr(RelayService, "_request", waits)


def time_does_not_count(patch: pytest.MonkeyPatch) -> None:
    """The limits of time for a head and a body."""
    patch.setattr(BoundedHttpProtocol, "_expect", lambda _: None)


def handshakes_may_last(patch: pytest.MonkeyPatch) -> None:
    """`grpc.server_handshake_timeout_ms`."""
    options = relay.server.grpc_options
    patch.setattr(
        relay.server,
        "grpc_options",
        lambda *given, **more: [
            one for one in options(*given, **more) if one[0] != "grpc.server_handshake_timeout_ms"
        ],
    )


def sessions_are_never_idle(patch: pytest.MonkeyPatch) -> None:
    """The limit of time for a session without a frame."""
    patch.setattr(_Conversation, "_look_whether_idle", lambda _: None)


# --- C17 --------------------------------------------------------------------------------------

STORM = 600
"""In one moment; limits of files let tests have no more."""
WAITS_S = 0.05


def storm(port: int) -> list[bytes]:
    """Connect so often, ask on each, and read what each is told. Blocks."""
    with contextlib.ExitStack() as stack:
        links = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5.0))
            for _ in range(STORM)
        ]
        for link in links:
            link.sendall(GET)
        return [link.recv(65_536) for link in links]


async def many_connect_at_once(stage: Stage) -> None:
    """Each connection is answered or told to come later, and who was there before waits no longer
    than a loop's turn."""
    document: dict[str, Any] = {"providers": {}}
    looks: list[float] = []
    async with RelayProcess(stage.tmp_path, document, program=program(stage.weakness)) as run:
        port = run.ports["http"]
        async with connected(port) as old:
            while not looks or (min(looks) > WAITS_S and len(looks) < LOOKS):
                began_s = time.monotonic()
                coming = asyncio.create_task(asyncio.to_thread(storm, port))
                waits_s: list[float] = []
                while not coming.done():
                    asked_s = time.monotonic()
                    old.send(GET)
                    assert await old.answer() == (200, HEALTHY)
                    waits_s.append(time.monotonic() - asked_s)
                    await asyncio.sleep(stage.draw.uniform(0.001, 0.01))
                answers = await coming
                assert all(one.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")) for one in answers)
                assert time.monotonic() - began_s < 3, "each in its turn, none by trying again"
                looks.append(sorted(waits_s)[len(waits_s) // 2])
    assert min(looks) <= WAITS_S, looks


C9 = Row(
    "C9",
    inject="rapid reset; MadeYouReset's six primitives; floods of CONTINUATION, PING, SETTINGS,"
    " PRIORITY, WINDOW_UPDATE, empty DATA, unknown frames, header bombs, unknown methods",
    client="the connection is closed, within 2 s where it hurts others; PING: GOAWAY"
    " ENHANCE_YOUR_CALM",
    accounting="void, or estimated where a provider was asked; nothing stays open",
    retry="never; no more handlers than streams",
    parts=(
        Part("rapid_reset", resets_at_any_rate, noise_is_not_heard, timeout_s=40),
        Part(
            "made_you_reset",
            made_to_reset,
            undefended="grpc's core resets the stream and cancels its handler",
        ),
        Part("ping", pings_at_any_rate, any_ping_is_taken),
        Part(
            "floods",
            frames_that_cost_nothing,
            undefended="grpc's core reads them in a thread of its own; see docs/attacks.md",
        ),
    ),
    also=("tests/frontends/test_grpc_noise.py",),
)
C10 = Row(
    "C10",
    inject="slowloris: handshakes, prefaces, heads, bodies and messages byte by byte",
    client="closed after 10 s of a handshake, 5 s of a head, 60 s of a body; HTTP 408,"
    " `SESSION_IDLE`",
    accounting="none",
    retry="never",
    parts=(
        Part("http", slow_heads_and_bodies, time_does_not_count),
        Part("preface", slow_prefaces, handshakes_may_last),
        Part("sessions", slow_sessions, sessions_are_never_idle),
        Part("messages", slow_messages, messages_may_last),
    ),
    also=(
        "tests/integration/test_tls_listeners.py::test_slow_handshake_is_cut_off",
        "tests/frontends/test_http_protocol.py",
    ),
)
C17 = Row(
    "C17",
    inject="hundreds of connections in one moment",
    client="each is answered, or told to come later",
    accounting="none",
    retry="who was there before waits no longer than 50 ms",
    parts=(Part("http", many_connect_at_once, weakness="nobody_waits_in_line"),),
)
