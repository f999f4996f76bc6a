"""How the processes of a relay come and go: stopped while they start, several workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from websockets.asyncio.client import connect

from relay import supervisor
from relay.config import ServerConfig
from relay.emulated import start_emulator
from relay.governance.tenant import SALT_VARIABLE
from relay.http_server import StartError, refuse_taken
from relay.supervisor import FAILED_START_STATUS, MAX_FAILED_STARTS, WORKER_VARIABLE, Supervisor
from relay.workers.post import Post
from tests.fakes.relay_fleet import reserved_ports, shared
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import chat_body, eventually, provider
from tests.fakes.websocket_provider import WebSocketProvider

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
async def starting(
    directory: Path, *arguments: str, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`relay serve` with no keys in its environment but these, and temporary files in
    `directory`."""
    temporary = directory / "tmp"
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "relay.cli", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**kept, "TMPDIR": str(temporary), **variables},
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


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
async def test_stop_while_the_emulator_starts_leaves_neither_it_nor_its_files(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with starting(tmp_path, *arguments) as process:
        await eventually(lambda: children(process.pid), START_S)
        started = children(process.pid)
        assert list((tmp_path / "tmp").iterdir())
        process.send_signal(signal.SIGTERM)
        status, output = await ended(process)
    assert status == 0, output
    assert '"serving"' not in output
    assert '"worker_started"' not in output
    assert "Traceback" not in output
    await eventually(lambda: not any(map(is_there, started)))
    assert not list((tmp_path / "tmp").iterdir())


# --- what it tells --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "asks_for"),
    [({"models": ["m"]}, "lab/m"), ({}, "lab/MODEL")],
    ids=["listed", "not listed"],
)
async def test_banner_asks_for_a_model_that_there_is(
    tmp_path: Path, row: dict[str, Any], asks_for: str
) -> None:
    document = {"providers": {"lab": provider("http://127.0.0.1:9", **row)}}
    async with RelayProcess(tmp_path, document) as relay:
        await eventually(lambda: any("curl" in line for line in relay.output))
        assert f'"model": "{asks_for}"' in "\n".join(relay.output)
        relay.signal(signal.SIGTERM)
        assert await relay.exited() == 0
    assert ("there is no alias" in "\n".join(relay.output)) == (not row)


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


async def serves(relay: RelayProcess, times: int = 8) -> None:
    """Requests on connections of their own are all answered."""
    for _ in range(times):
        async with relay.http() as http:
            assert (await http.get("/healthz")).status_code == 200
    async with relay.channel() as channel:
        check = health_pb2.HealthCheckRequest()
        answer = await health_pb2_grpc.HealthStub(channel).Check(check, timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def started(relay: RelayProcess, count: int) -> dict[int, int]:
    """Wait until so many workers serve, the first of which `RelayProcess` has seen; their ids."""
    pids: dict[int, int] = {}
    for _ in range(count):
        line = await relay.logged("worker_started")
        pids[line["worker"]] = line["pid"]
    for _ in range(count - 1):
        await relay.logged("serving", timeout_s=START_S)
    return pids


async def test_workers_survive_a_hup_at_any_moment_and_reload(tmp_path: Path) -> None:
    with shared({}) as document:
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
    with shared({}) as document:
        relay = RelayProcess(tmp_path, document, "--workers", "2")
        async with relay:
            pids = [(await relay.logged("worker_started"))["pid"] for _ in range(2)]
            relay.signal(signal.SIGKILL)
            await relay.exited()
            await eventually(lambda: not any(map(is_there, pids)), STOP_S)


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with, as Linux tells."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


async def test_workers_share_the_ports_are_replaced_and_end_together(tmp_path: Path) -> None:
    with shared({}) as document:
        async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
            pids = await started(relay, 2)
            assert set(pids) == {0, 1}
            await serves(relay)
            if sys.platform == "linux":
                salts = {environment_of(pid)[SALT_VARIABLE] for pid in pids.values()}
                assert len(salts) == 1, "a tenant has another name at each worker"

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


async def test_workers_tell_the_websockets_that_they_hand_through(tmp_path: Path) -> None:
    async with WebSocketProvider() as lab:
        row = provider(lab.url, passthrough=True, warm_connections=0)
        with shared({"providers": {"lab": row}}) as document:
            document["server"]["drain_grace_ms"] = 300
            async with (
                RelayProcess(tmp_path, document, "--workers", "2") as relay,
                AsyncExitStack() as stack,
            ):
                await started(relay, 2)
                url = f"ws://127.0.0.1:{document['server']['http']['address'].split(':')[1]}"
                clients = [
                    await stack.enter_async_context(connect(f"{url}/v1/realtime", proxy=None))
                    for _ in range(8)
                ]
                for client in clients:
                    await client.send("hello")
                    assert await client.recv() == "hello"
                relay.signal(signal.SIGTERM)
                for client in clients:
                    await asyncio.wait_for(client.wait_closed(), STOP_S)
                    assert client.close_code == 1012
                assert await relay.exited() == 0


async def test_sighup_reaches_every_worker(tmp_path: Path) -> None:
    models = {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}}
    providers = {"lab": provider("http://127.0.0.1:9")}
    with shared({"providers": providers}) as document:
        async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
            pids = await started(relay, 2)
            relay.write({**document, "models": models})
            relay.signal(signal.SIGHUP)
            for _ in pids:
                assert (await relay.logged("reloaded"))["models"] == ["fast"]
            for _ in range(8):  # on connections of their own: both are asked
                async with relay.http() as http:
                    rows = (await http.get("/v1/models")).json()["data"]
                    assert [row["id"] for row in rows] == ["fast"]
            assert all(map(is_there, pids.values())), "no worker was replaced for it"
            # A broken file is refused by each, and the supervisor lives.
            relay.path.write_text("models: [\n")
            relay.signal(signal.SIGHUP)
            for _ in pids:
                await relay.logged("reload_refused")
            await serves(relay)


def listening_at(path: Path) -> int:
    """How many sockets listen at a path; those that lost it to another count too."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(row[-1] == str(path) and row[3] == "00010000" for row in rows)


async def test_unix_socket_is_the_first_worker_s(tmp_path: Path) -> None:
    door = tmp_path / "relay.sock"
    with shared({"server": {"grpc": {"unix_socket": str(door)}}}) as document:
        async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
            pids = {}
            for _ in range(2):
                line = await relay.logged("worker_started")
                pids[line["worker"]] = line["pid"]
            await relay.logged("serving", timeout_s=START_S)
            assert listening_at(door) == 1, "each would take the path away from the one before"

            async def is_open() -> bool:
                async with grpc.aio.insecure_channel(f"unix:{door}") as channel:
                    health = health_pb2_grpc.HealthStub(channel)
                    try:
                        await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    except grpc.aio.AioRpcError:
                        return False
                    return True

            assert await is_open()
            # The others may come and go; with the first the door closes until there is a new one.
            os.kill(pids[1], signal.SIGKILL)
            await relay.logged("worker_died")
            await relay.logged("serving", timeout_s=START_S)
            assert await is_open()
            os.kill(pids[0], signal.SIGKILL)
            await relay.logged("worker_died")
            assert not await is_open()
            await relay.logged("serving", timeout_s=START_S)
            assert await is_open()


async def test_workers_share_one_emulator(tmp_path: Path) -> None:
    emulator = await start_emulator()
    try:
        document = json.loads(emulator.config_file().read_text())
        with shared(document) as document:
            async with RelayProcess(tmp_path, document, "--workers", "2") as relay:
                await started(relay, 2)
                for _ in range(4):
                    async with relay.http() as http:
                        response = await http.post("/v1/chat/completions", json=chat_body())
                        assert response.headers["x-relay-provider"] == "emulator"
                        assert response.text.endswith("data: [DONE]\n\n")
    finally:
        await emulator.aclose()


def command(pid: int) -> list[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


@pytest.mark.parametrize("variables", [{}, {"GROQ_API_KEY": "k"}], ids=["emulator", "keys"])
async def test_workers_without_a_file(tmp_path: Path, variables: dict[str, str]) -> None:
    """The emulator is started once, before them. They are stopped before they bind: without a file
    their ports are the ones that anybody may be using."""
    for name, listener in ServerConfig().listeners.items():
        try:
            refuse_taken(listener, name)
        except StartError as error:
            pytest.skip(f"the ports of a relay without a file are in use: {error}")
    async with starting(tmp_path, "--workers", "2", **variables) as process:
        assert process.stdout is not None
        output = ""
        while output.count('"worker_started"') < 2:
            line = await asyncio.wait_for(process.stdout.readline(), START_S)
            assert line, output
            output += line.decode()
        commands = [command(pid) for pid in children(process.pid)]
        process.send_signal(signal.SIGTERM)
        status, rest = await ended(process)
    assert status == 0, output + rest
    workers = [words for words in commands if "serve" in words]
    emulators = [words for words in commands if "relay.emulator" in words]
    assert len(workers) == 2
    if variables:
        assert "provider keys in the environment: groq" in output
        assert not emulators
        assert all(words[-1] == "serve" for words in workers)
    else:
        assert "the built-in emulator answers, not a model" in output
        assert len(emulators) == 1
        assert {words[-2] for words in workers} == {"-c"}
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("listener", "address", "said"),
    [
        ("admin", "0.0.0.0:8081", "server.admin.address 0.0.0.0:8081 is reachable from outside"),
        ("http", "127.0.0.1:0", "--workers needs fixed ports"),
    ],
)
async def test_what_no_worker_could_start_with_is_refused(
    tmp_path: Path, listener: str, address: str, said: str
) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump({"server": {listener: {"address": address}}}))
    async with starting(tmp_path, "-c", str(path), "--workers", "2") as process:
        status, output = await ended(process)
    assert status == 1
    assert said in output
    assert '"worker_started"' not in output


@pytest.mark.parametrize("listener", ["grpc", "http", "admin"])
async def test_port_that_another_shares_is_refused(tmp_path: Path, listener: str) -> None:
    """With SO_REUSEPORT both would be given a part of the connections."""
    path = tmp_path / "relay.yaml"
    with reserved_ports(3) as ports:
        names = ("grpc", "http", "admin")
        addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
        path.write_text(
            yaml.safe_dump({"server": {name: {"address": at} for name, at in addresses.items()}})
        )
        host, _, port = addresses[listener].partition(":")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind((host, int(port)))
            other.listen()
            async with starting(tmp_path, "-c", str(path), "--workers", "2") as process:
                status, output = await ended(process)
    assert status == 1
    assert output == (
        f"relay: cannot listen on {addresses[listener]} (server.{listener}):"
        " Address already in use\n"
    )


async def test_worker_that_cannot_start_says_so_with_its_status(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("models: [\n")
    async with starting(tmp_path, "-c", str(path), **{WORKER_VARIABLE: "0"}) as process:
        status, output = await ended(process)
    assert status == FAILED_START_STATUS
    assert "no valid YAML" in output


@pytest.mark.parametrize("status", [FAILED_START_STATUS, 1])
async def test_workers_that_cannot_start_are_given_up(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """But not those that have served and died."""
    monkeypatch.setattr(supervisor, "RESTART_DELAY_S", 0.0)
    started: list[int] = []

    class Vain(Supervisor):
        async def _spawn(self, number: int, post: Post) -> asyncio.subprocess.Process:
            started.append(number)
            if len(started) > 3 * MAX_FAILED_STARTS:
                self._stop()
            return await asyncio.create_subprocess_exec("sh", "-c", f"exit {status}")

    try:
        is_served = await asyncio.wait_for(Vain(None, 2).run(), START_S)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
    if status == FAILED_START_STATUS:
        assert not is_served
        assert sorted(started) == [0] * MAX_FAILED_STARTS + [1] * MAX_FAILED_STARTS
    else:
        assert is_served
        assert len(started) > 3 * MAX_FAILED_STARTS
