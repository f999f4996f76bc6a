"""Several relays as a team would run them: each at an address of its own, each with so many worker
processes, all with one configuration.

async with relay_fleet(tmp_path, document, hosts=("127.0.0.1", "127.0.0.2"), workers=2) as relays:
    async with relays[1].http() as http:
        ...

The configuration's `server` may name anything but addresses, which are filled in: the same ports at
each address. With more than one worker the ports are reserved beforehand, since workers can only
share ports that are known.
"""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.relay_process import RelayProcess

READY_TIMEOUT_S = 30.0


@contextmanager
def reserved_ports(count: int, host: str = "127.0.0.1") -> Iterator[list[int]]:
    """Ports that workers can share and nobody else is given: bound, not listened on, so that who
    tries them (with SO_REUSEADDR, as everybody here) finds them free."""
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((host, 0))
            ports.append(held.getsockname()[1])
        yield ports


@contextmanager
def shared(document: dict[str, Any], host: str = "127.0.0.1") -> Iterator[dict[str, Any]]:
    """The configuration with ports that workers can share."""
    with reserved_ports(2, host) as (grpc_port, http_port):
        document = copy.deepcopy(document)
        server = document.setdefault("server", {})
        for name, port in (("grpc", grpc_port), ("http", http_port)):
            server[name] = {**server.get(name, {}), "address": f"{host}:{port}"}
        yield document


async def all_ready(relay: RelayProcess, workers: int) -> dict[int, int]:
    """Wait until so many workers serve; their process ids by number. A relay with `auth` tells its
    state to administrators alone: then they are what its log has told since it was last cleared.

    Raises:
        TimeoutError: they do not.
    """
    async with asyncio.timeout(READY_TIMEOUT_S), relay.http("admin") as admin:
        while True:
            told = (await admin.get("/readyz")).json()
            if told.get("ready") == workers:
                state = await admin.get("/admin/state")
                if state.status_code == 200:
                    rows = state.json()["workers"]
                    return {int(number): row["pid"] for number, row in rows.items()}
                started = [one for one in relay.log if one.get("event") == "worker_started"]
                return {int(one["worker"]): int(one["pid"]) for one in started}
            await asyncio.sleep(0.05)


@asynccontextmanager
async def relay_fleet(
    directory: Path,
    document: dict[str, Any],
    *,
    hosts: Sequence[str] = ("127.0.0.1",),
    workers: int = 1,
) -> AsyncIterator[list[RelayProcess]]:
    """Relays that serve, one an address, each with all its workers; leaving the block stops them.

    Args:
        directory: each has a directory of its own in it; relative paths of the configuration are
            looked up from where the test runs, as the relays' are.
        hosts: loopback addresses (all of 127.0.0.0/8 is this machine's on Linux).
    """
    async with AsyncExitStack() as stack:
        relays: list[RelayProcess] = []
        for index, host in enumerate(hosts):
            home = directory / f"relay-{index}"
            home.mkdir()
            if workers > 1:
                own = stack.enter_context(shared(document, host))
                relay = RelayProcess(home, own, "--workers", str(workers), host=host)
            else:
                relay = RelayProcess(home, document, host=host)
            relays.append(relay)
        async with asyncio.TaskGroup() as starting:
            for relay in relays:
                starting.create_task(stack.enter_async_context(relay))
        if workers > 1:
            for relay in relays:
                await all_ready(relay, workers)
        yield relays
