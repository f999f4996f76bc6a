"""Limits of several processes over one place, by their own clocks: L1, and what the dead held."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay.store.limit_store import LEASE, Charge, LimitSpent
from tests.store.limit_process import RPM, hammer, limits_of

pytestmark = pytest.mark.sockets

LEASE_S = 0.5


class Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(30.0):
            return (await self.process.stdout.readline()).decode().strip()

    async def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await self.said()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def worker(kind: str, place: str, name: str) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store.limit_process", kind, place, name, str(LEASE_S)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Worker(process)
    try:
        assert await made.said() == "ready"
        yield made
    finally:
        await made.kill()


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "sqlite":
        return "sqlite", str(tmp_path / "relay.db")
    return "redis", request.getfixturevalue("redis_url")


async def test_a_worker_and_this_one(place: tuple[str, str]) -> None:
    slot = Charge("slot", 3, 1, LEASE)
    limits = limits_of(*place, "me", LEASE_S)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(worker(*place, "one"))
        await limits.start()
        stack.push_async_callback(limits.aclose)

        # As hard as they can, they get the limit together and no more.
        began_s = time.monotonic()
        answer, mine = await asyncio.gather(one.ask("hammer 0.5"), hammer(limits, 0.5))
        granted = [int(answer), mine]
        took_s = time.monotonic() - began_s
        assert RPM.limit <= sum(granted) <= RPM.limit + RPM.limit / 60 * took_s
        assert min(granted) > 0

        # While one lives, so do its leases.
        assert await one.ask("hold 2") == "held"
        await limits.take([slot], 0)
        until_s = time.monotonic() + 1.5 * LEASE_S
        while time.monotonic() < until_s:
            with pytest.raises(LimitSpent):
                await limits.take([slot], 0)
            await asyncio.sleep(0.02)

        # When it is killed, they are free after a lease; this one's are not.
        await one.kill()
        killed_s = time.monotonic()
        async with asyncio.timeout(20.0):
            while True:
                try:
                    await limits.take([slot], 0)
                except LimitSpent:
                    await asyncio.sleep(0.02)
                else:
                    break
        assert time.monotonic() - killed_s < LEASE_S + 0.5
        taken = await limits.take([slot], 0)
        assert list(taken.levels) == [3]
