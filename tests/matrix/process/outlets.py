"""What the relay tells beside its answers, and nobody takes: output, traces, metrics."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from relay.frontends.write_watch import WriteWatch
from relay.observability.tracing.exporter import Exporter
from tests.fakes.admin_tokens import owner_of
from tests.fakes.h2_server import stream_chunks
from tests.matrix.process.blind import blind
from tests.matrix.process.disks import owner
from tests.matrix.process.place import SilentServer, ask, asking, ended, holds, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, whole_answer, world

LEAST_BYTES = 64 * 1024
"""The least that may be configured to wait."""


async def pipe_is_full(stage: Stage) -> None:
    """Both outputs are a small pipe, which takes the banner and little else."""
    logs = {"observability": {"logs": {"max_waiting_bytes": LEAST_BYTES}}}
    async with place(stage, logs) as here:
        token = owner_of(here.document)
        read, write = os.pipe()
        try:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
            async with blind(here, output=write) as (relay, client):
                dropped, asked = 0, 0
                while not dropped:
                    assert asked < 600, "nothing is dropped"
                    faces = stage.draw.choices(("sse", "json"), k=10)
                    for reply in await ended(asking(client, faces), 15):
                        assert reply.is_clean, reply
                    asked += len(faces)
                    dropped = (await relay.state(token))["log"]["dropped_lines"]
                assert (await ask(client, stage.draw.choice(FACES))).is_clean
        finally:
            os.close(read)
            os.close(write)
        assert here.books.check() == {"settled": asked + 1}


async def collector_is_down(stage: Stage) -> None:
    """Nobody listens there, or somebody who never answers."""
    async with SilentServer() as silent:
        port = stage.draw.choice([9, silent.port])
        tracing = {
            "endpoint": f"http://127.0.0.1:{port}/v1/traces",
            "timeout_ms": 500,
            "max_waiting": 2,
            "interval_ms": 20,
            "flush_ms": 0,
        }
        async with world(stage, {"observability": {"tracing": tracing}}) as here:
            here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
            for face in (*FACES, *stage.draw.choices(FACES, k=6)):
                (reply,) = await ended(asking(here.relay, [face]), 10)
                assert reply.is_clean, reply
            tracer: Any = here.relay.worker._exports._tracer
            await holds(lambda: tracer.dropped, "what nobody takes is not counted")
            assert len(tracer._exporter._waiting) <= 2, "what waits has a bound"
            assert {one.state for one in await here.booked(10)} == {"settled"}


def everything_waits(patch: pytest.MonkeyPatch) -> None:
    """The bound of what waits for the collector."""
    init: Callable[..., None] = Exporter.__init__

    def unbounded(exporter: Exporter, *parts: Any, **how: Any) -> None:
        init(exporter, *parts, **{**how, "max_waiting": 1_000_000})

    patch.setattr(Exporter, "__init__", unbounded)


async def scrape_hangs(stage: Stage) -> None:
    """A scraper asks for page after page and reads none of them."""
    async with world(stage, {"server": {"slow_consumer_ms": 1000}}) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        token = owner(here)
        request = (
            f"GET /metrics HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\n\r\n"
        ).encode()
        async with here.relay.admin() as admin:
            page = await admin.get("/metrics", headers={"authorization": f"Bearer {token}"})
            assert page.status_code == 200, page.text
            loop = asyncio.get_running_loop()
            port = here.relay.worker.admin_port
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", port))
            transport, _ = await loop.create_connection(_Deaf, sock=deaf)
            name = transport.get_extra_info("sockname")
            listener = here.relay.worker._http_servers[-1]
            await soon(lambda: name in {one.client for one in listener.connections})
            (served,) = [one for one in listener.connections if one.client == name]
            for round_ in range(400):  # few at once: what is ahead has a bound of its own
                transport.write(request * 10)
                if served.transport.is_closing() or served.transport.get_write_buffer_size():
                    break
                await asyncio.sleep(0.01)
                await soon(
                    lambda: (
                        not served._is_answering()
                        or served.transport.is_closing()
                        or served.transport.get_write_buffer_size()
                    )
                )
                assert round_ < 399, "all of it fits into the buffers"
            for face in stage.draw.choices(FACES, k=3):
                (reply,) = await ended(asking(here.relay, [face]), 10)
                assert reply.is_clean, reply
            other = await admin.get("/healthz")
            assert other.status_code == 200, "the others are served"
            try:
                await holds(
                    lambda: name not in {one.client for one in listener.connections},
                    "who never reads is kept for ever",
                    8,
                )
            finally:
                transport.abort()
            await here.booked(3)


class _Deaf(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


def nobody_watches_writes(patch: pytest.MonkeyPatch) -> None:
    """The watch on clients that do not read."""
    patch.setattr(WriteWatch, "_look", lambda _: None)


ROWS = (
    Row(
        "P10",
        inject="standard output and error a full pipe, the collector of traces down or silent, a"
        " scrape of metrics that reads nothing",
        client="nothing: every answer comes as ever",
        accounting="as ever",
        retry="what waits has a bound; what finds no room is dropped and counted",
        parts=(
            Part("pipe", pipe_is_full, weakness="lines_are_written_at_once", timeout_s=90),
            Part("collector", collector_is_down, everything_waits),
            Part("scrape", scrape_hangs, nobody_watches_writes),
        ),
        also=(
            "tests/test_log_sink.py",
            "tests/commands/test_banner.py",
            "tests/observability/tracing/test_exporter.py",
            "tests/frontends/test_write_watch.py",
        ),
    ),
)
