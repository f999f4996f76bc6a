"""A relay whose output goes where a scenario says: to a pipe that nobody reads, to a full disk.

async with blind(here, output=descriptor) as (relay, client):
    ...
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
import httpx2
import yaml

from tests.fakes.relay_fleet import reserved_ports
from tests.fakes.relay_under_test import RelayUnderTest
from tests.matrix.process.place import Place
from tests.matrix.weakened import program
from tests.matrix.world import KeyedClient

START_S = 30.0
STOP_S = 10.0


@dataclass
class Blind:
    """A running relay and its ports."""

    process: asyncio.subprocess.Process
    admin: httpx2.AsyncClient

    @property
    def pid(self) -> int:
        return self.process.pid

    async def state(self, token: str) -> dict[str, Any]:
        """What its admin port tells an administrator."""
        told = await self.admin.get(
            "/admin/state", headers={"authorization": f"Bearer {token}"}, timeout=5
        )
        assert told.status_code == 200, told.text
        state: dict[str, Any] = told.json()
        return state


@asynccontextmanager
async def blind(
    here: Place, *, output: int, before: Callable[[], None] | None = None
) -> AsyncIterator[tuple[Blind, KeyedClient]]:
    """Start it, and wait until it serves; leaving the block ends it.

    Args:
        output: descriptor for both of its outputs; stays the caller's.
        before: called in the process before the relay begins.

    Raises:
        AssertionError: it does not serve, in time.
    """
    async with AsyncExitStack() as stack:
        ports = stack.enter_context(reserved_ports(3))
        server = dict(here.document.get("server", {}))
        for name, port in zip(("grpc", "http", "admin"), ports, strict=True):
            server[name] = {**server.get(name, {}), "address": f"127.0.0.1:{port}"}
        here.path.write_text(yaml.safe_dump({**here.document, "server": server}))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program(here.stage.weakness),
            *("serve", "-c", str(here.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "COLUMNS": "200"},
            preexec_fn=before,
        )
        stack.push_async_callback(_end, process)
        clients = [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
            )
            for port in ports[1:]
        ]
        http, admin = clients
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}")
        )
        await _serves(process, admin)
        client = KeyedClient(RelayUnderTest(cast(Any, None), channel, http), here.key)
        yield Blind(process, admin), client


async def _serves(process: asyncio.subprocess.Process, admin: httpx2.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + START_S
    while loop.time() < until_s and process.returncode is None:
        try:
            if (await admin.get("/readyz", timeout=2)).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"it does not serve (status {process.returncode})")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
