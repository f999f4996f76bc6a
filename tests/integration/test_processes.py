"""How the processes of a relay come and go: stopped while they start, several workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import eventually, provider

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads children from /proc"),
]

START_S = 20.0
STOP_S = 10.0


def children(pid: int) -> list[int]:
    """The processes that this one has started, and those that they have."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    own = [int(word) for word in text.split()]
    return own + [further for child in own for further in children(child)]


def is_there(pid: int) -> bool:
    """Whether the process runs. One that has ended and that nobody has waited for yet (the child
    of a child that is gone) runs no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


# --- stopped while it starts ----------------------------------------------------------------


@asynccontextmanager
async def starting(directory: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`relay serve` with no keys in its environment, and temporary files in `directory`."""
    temporary = directory / "tmp"
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "relay.cli", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**kept, "TMPDIR": str(temporary)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Wait for its end; its exit status and what it said."""
    output, _ = await asyncio.wait_for(process.communicate(), STOP_S)
    return process.returncode, output.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stop_while_the_first_connections_are_made(
    tmp_path: Path, number: signal.Signals
) -> None:
    called = asyncio.Event()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        path = tmp_path / "relay.yaml"
        path.write_text(yaml.safe_dump({"providers": {"p": provider(f"https://127.0.0.1:{port}")}}))
        async with starting(tmp_path, "-c", str(path)) as process:
            await asyncio.wait_for(called.wait(), START_S)
            process.send_signal(number)
            status, output = await ended(process)
    assert status == 0, output
    assert '"stopped_while_starting"' in output
    assert '"serving"' not in output
    assert "Traceback" not in output


async def test_stop_while_the_emulator_starts_leaves_neither_it_nor_its_files(
    tmp_path: Path,
) -> None:
    async with starting(tmp_path) as process:
        await eventually(lambda: children(process.pid), START_S)
        started = children(process.pid)
        assert list((tmp_path / "tmp").iterdir())
        process.send_signal(signal.SIGTERM)
        status, output = await ended(process)
    assert status == 0, output
    assert '"serving"' not in output
    assert "Traceback" not in output
    await eventually(lambda: not any(map(is_there, started)))
    assert not list((tmp_path / "tmp").iterdir())


# --- asked to reload while it starts ----------------------------------------------------------


def ignores_hup(pid: int) -> bool:
    """Whether SIGHUP would be dropped: neither kill the process nor be handled."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next(line.split()[1] for line in text.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)


async def test_hup_while_it_starts_is_survived_and_obeyed(tmp_path: Path) -> None:
    called = asyncio.Event()
    path = tmp_path / "relay.yaml"
    server = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    async with silent:
        row = provider(f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
        document = {"server": server, "providers": {"p": row}}
        path.write_text(yaml.safe_dump(document))
        async with starting(tmp_path, "-c", str(path)) as process:
            # From its first lines on; only the interpreter's own start is before that.
            await eventually(lambda: ignores_hup(process.pid), START_S)
            while not called.is_set():  # the configuration has been read, and it connects
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
                assert process.returncode is None, "it was killed"
            path.write_text(yaml.safe_dump({**document, "providers": {"other": row}}))
            process.send_signal(signal.SIGHUP)
            assert process.stdout is not None
            while b'"reloaded"' not in (line := await process.stdout.readline()):
                assert line, "it has ended"
            assert b'"other"' in line
            process.send_signal(signal.SIGTERM)
            status, output = await ended(process)
    assert status == 0, output


# --- several workers ------------------------------------------------------------------------


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Ports that workers can share and nobody else is given: bound, not listened on."""
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        yield ports


async def serves(relay: RelayProcess, times: int = 8) -> None:
    """Requests on connections of their own are all answered."""
    for _ in range(times):
        async with relay.http() as http:
            assert (await http.get("/healthz")).status_code == 200
    async with relay.channel() as channel:
        check = health_pb2.HealthCheckRequest()
        answer = await health_pb2_grpc.HealthStub(channel).Check(check, timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def two_workers(grpc_port: int, http_port: int) -> dict[str, Any]:
    return {
        "server": {
            "grpc": {"address": f"127.0.0.1:{grpc_port}"},
            "http": {"address": f"127.0.0.1:{http_port}"},
        },
    }


async def test_workers_survive_a_hup_at_any_moment_and_reload(tmp_path: Path) -> None:
    with reserved_ports(2) as (grpc_port, http_port):
        document = two_workers(grpc_port, http_port)
        async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
            pids = {(await relay.logged("worker_started"))["pid"] for _ in range(2)}

            async def another_serves() -> None:
                """Wait for it, with a reload every moment."""
                while True:
                    relay.signal(signal.SIGHUP)
                    try:
                        await relay.logged("serving", timeout_s=0.02)
                        return
                    except TimeoutError:
                        assert all(map(is_there, pids)), "a worker was killed"

            await another_serves()  # the first one does
            os.kill(pids.pop(), signal.SIGKILL)
            await relay.logged("worker_died")
            pids.add((await relay.logged("worker_started"))["pid"])
            await another_serves()
            relay.log.clear()
            relay.signal(signal.SIGHUP)
            for _ in range(2):
                await relay.logged("reloaded")
            assert all(map(is_there, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells workers on Linux alone")
async def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with reserved_ports(2) as (grpc_port, http_port):
        relay = RelayProcess(tmp_path, two_workers(grpc_port, http_port), "--workers", "2")
        async with relay:
            pids = [(await relay.logged("worker_started"))["pid"] for _ in range(2)]
            relay.signal(signal.SIGKILL)
            await relay.exited()
            await eventually(lambda: not any(map(is_there, pids)), STOP_S)


async def test_workers_share_the_ports_are_replaced_and_end_together(tmp_path: Path) -> None:
    with reserved_ports(2) as (grpc_port, http_port):
        document = two_workers(grpc_port, http_port)
        async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
            pids: dict[int, int] = {}
            for _ in range(2):
                line = await relay.logged("worker_started")
                pids[line["worker"]] = line["pid"]
            assert set(pids) == {0, 1}
            await relay.logged("serving", timeout_s=START_S)  # the other one
            await serves(relay)

            # With one of them dead the other serves alone, until there is a new one.
            os.kill(pids[0], signal.SIGKILL)
            died = await relay.logged("worker_died")
            assert (died["worker"], died["pid"], died["status"]) == (0, pids[0], -signal.SIGKILL)
            await serves(relay)
            line = await relay.logged("worker_started")
            assert (line["worker"], line["pid"] != pids[0]) == (0, True)
            pids[0] = line["pid"]
            await relay.logged("serving", timeout_s=START_S)

            # The new one serves alone too, and a stop does not wait for the one that starts.
            os.kill(pids[1], signal.SIGKILL)
            await relay.logged("worker_died")
            await serves(relay)
            pids[1] = (await relay.logged("worker_started"))["pid"]
            relay.signal(signal.SIGTERM)
            assert await relay.exited() == 0
            assert not [pid for pid in pids.values() if is_there(pid)]
            with pytest.raises(httpx2.TransportError):
                await serves(relay, 1)
