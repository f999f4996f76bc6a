"""Too little of what a process needs: file descriptors, memory, turns of its loop."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from contextlib import AsyncExitStack
from functools import partial

import pytest
from structlog.testing import capture_logs

from relay.loop_watch import BLOCKED_S, LoopWatch
from relay.overload import Overload
from tests.matrix.process.blind import blind
from tests.matrix.process.place import Gated, ask, asking, ended, holds, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, WHOLE_MICRO, world

FILES = 256


def _limit_files(soft: int, hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def few_files(stage: Stage, soft: int, hard: int) -> None:
    """More callers than the process may have descriptors."""
    lab = Gated()
    callers = 300
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(place(stage, script=lab.script))
        null = os.open("/dev/null", os.O_WRONLY)
        stack.callback(os.close, null)
        limit = partial(_limit_files, soft, hard)
        relay, client = await stack.enter_async_context(blind(here, output=null, before=limit))
        running = asking(client, [stage.draw.choice(FACES)])
        await soon(lambda: lab.begun == 1)
        address = client.http.base_url.host, client.http.base_url.port
        opened = [await asyncio.open_connection(*address) for _ in range(callers)]
        try:
            # By a connection that is there: a new one may find no descriptor.
            health = await relay.admin.get("/healthz")
            assert health.status_code == 200
            if hard > callers:
                reply = await _from_a_new_caller(address)
                assert reply.startswith(b"HTTP/1.1 200"), reply
            lab.gate.set()
            (reply_of_running,) = await ended(running, 15)
            assert reply_of_running.is_clean, "who was there first is served"
        finally:
            for _, writer in opened:
                writer.close()
        assert relay.process.returncode is None
        for _ in range(100):
            if (await _from_a_new_caller(address)).startswith(b"HTTP/1.1 200"):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("it takes nobody though there is room again")
        assert (await ask(client, stage.draw.choice(FACES))).is_clean
        booked = here.booked()
        assert [(one.state, one.cost_micro) for one in booked] == [("settled", WHOLE_MICRO)] * 2


async def _from_a_new_caller(address: tuple[str, int | None]) -> bytes:
    """The head of an answer over a connection of its own; nothing where there is none."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n")
                return await reader.read(64)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def loop_is_blocked(stage: Stage) -> None:
    """Something of ours computes for longer than anybody should, with streams under way."""
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        with capture_logs() as lines:
            serving = asyncio.create_task(here.relay.worker.serve_until_stopped())
            running = asking(here.relay, stage.draw.sample(FACES, k=2))
            await soon(lambda: lab.begun == 2)
            computes_for_ever(BLOCKED_S + stage.draw.uniform(0.6, 1.0))
            async with here.relay.admin() as admin:
                assert (await admin.get("/healthz")).status_code == 200
            told = [line for line in lines if line["event"] == "loop_blocked"]
            assert told, "nobody says what the loop was at"
            assert any("computes_for_ever" in frame for frame in told[0]["stack"])
            await holds(lambda: "loop_goes_on" in {line["event"] for line in lines}, "nor its end")
        lab.gate.set()
        for reply in await ended(running, 10):
            assert reply.is_clean, "they go on where they were"
        assert [one.state for one in await here.booked(2)] == ["settled"] * 2
        here.relay.worker.stop()
        await asyncio.wait_for(serving, 10)


def computes_for_ever(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pass


async def memory_runs_out(stage: Stage) -> None:
    """The process comes to hold as much as it may, with answers under way, and then less."""
    lab, mib = Gated(), 1 << 20
    bound_mib = _resident_bytes() // mib + 256
    more = {"server": {"overload": {"max_rss_mib": bound_mib, "max_loop_lag_ms": 0}}}
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = lab.script
        overload = here.relay.worker.services.overload
        running = asking(here.relay, stage.draw.sample(FACES, k=2))
        await soon(lambda: lab.begun == 2)
        # Less than all of it: open sessions go on, and nothing is killed.
        wanted = int(bound_mib * mib * stage.draw.uniform(0.94, 0.97)) - _resident_bytes()
        ballast = bytearray(b"x") * wanted
        await holds(lambda: overload.limit == 0, "new requests are let in until memory is gone")
        face = stage.draw.choice(("sse", "json"))
        refused = await ask(here.relay, face)
        assert refused.reason == "OVERLOADED", refused
        async with here.relay.admin() as admin:
            assert (await admin.get("/healthz")).status_code == 200
        assert lab.begun == 2, "no provider hears of who is refused"
        lab.gate.set()
        for reply in await ended(running, 10):
            assert reply.is_clean, "who was let in is served"
        del ballast
        await holds(lambda: overload.limit > 0, "it takes nobody though there is room again")
        assert (await ask(here.relay, face)).is_clean
        assert [one.state for one in await here.booked(3)] == ["settled"] * 3


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_has_no_bound(patch: pytest.MonkeyPatch) -> None:
    """The look at resident memory."""
    patch.setattr(Overload, "_resident_bytes", lambda _: 0)


def nobody_watches_the_loop(patch: pytest.MonkeyPatch) -> None:
    """The thread that looks whether the loop beats."""
    patch.setattr(LoopWatch, "start", lambda _: None)


ROWS = (
    Row(
        "P8",
        inject="more callers than the process may have descriptors, as much memory held as it may"
        " have, a loop that is blocked for two seconds",
        client="who was there is served; new callers wait or are let go, or are refused as"
        " `OVERLOADED`, until there is room; the health port answers",
        accounting="as ever; void for who was refused",
        retry="it goes on by itself; `loop_blocked` in the log has the loop's stack",
        parts=(
            Part(
                "low_soft_limit",
                partial(few_files, soft=FILES, hard=4096),
                weakness="files_are_as_few_as_they_were",
                timeout_s=90,
            ),
            Part(
                "low_limit",
                partial(few_files, soft=FILES, hard=FILES),
                undefended="the event loop's own: it lets go whom it cannot take",
                timeout_s=90,
            ),
            Part("memory", memory_runs_out, memory_has_no_bound),
            Part("loop_blocked", loop_is_blocked, nobody_watches_the_loop),
        ),
        also=(
            "tests/test_open_files.py",
            "tests/test_loop_watch.py",
            "tests/workers/test_watch.py",
            "tests/integration/test_workers.py::test_what_a_stuck_worker_was_at_is_logged",
        ),
    ),
)
