"""`relay serve` as a real process, on free ports, with its log read line by line.

async with RelayProcess(directory, document) as relay:
    relay.signal(signal.SIGHUP)
    await relay.logged("reloaded")
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import httpx2
import orjson
import yaml

START_TIMEOUT_S = 40.0
WORKERS_TIMEOUT_S = 40.0
"""Several start at once, each for a second of CPU, and other tests run too."""
WAIT_S = 10.0


class RelayProcess:
    """A running relay; leaving the block stops it and kills it if it does not go."""

    def __init__(
        self,
        directory: Path,
        document: dict[str, Any],
        *arguments: str,
        host: str = "127.0.0.1",
        program: Sequence[str] = ("-m", "relay.cli"),
    ) -> None:
        """
        Args:
            directory: where the configuration file is written.
            document: the configuration; its ports are filled in.
            host: loopback address to listen at.
            program: what Python runs as the `relay` command.
        """
        self.host = host
        self.path = directory / "relay.yaml"
        self._arguments = arguments
        self._program = program
        self.raw: list[str] = []
        """Lines of both, as they came."""
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self.log: list[dict[str, Any]] = []
        """Lines of standard error, parsed."""
        self.output: list[str] = []
        """Lines of standard output."""
        self.ports: dict[str, int] = {}
        self.write(document)

    def write(self, document: dict[str, Any]) -> None:
        """Write the configuration file anew (a reload does not look at ports)."""
        free = {"address": f"{self.host}:0"}
        server = {name: dict(free) for name in ("grpc", "http", "admin")}
        for key, value in document.get("server", {}).items():
            server[key] = {**server[key], **value} if isinstance(value, dict) else value
        self.path.write_text(yaml.safe_dump({**document, "server": server}), encoding="utf-8")

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._program,
            "serve",
            "-c",
            str(self.path),
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(self._process.stdout, self.output.append)),
            asyncio.create_task(self._read(self._process.stderr, self._take_log)),
        ]
        try:
            is_alone = "--workers" not in self._arguments
            timeout_s = START_TIMEOUT_S if is_alone else WORKERS_TIMEOUT_S
            line = await self.logged("serving", timeout_s=timeout_s)
        except BaseException:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await asyncio.gather(*self._readers)
            raise
        self.ports = {name: line[name] for name in ("grpc", "http", "admin")}
        if "--workers" in self._arguments:  # the supervisor has it
            self.ports["admin"] = (await self.logged("admin_serving"))["admin"]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            self.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), WAIT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        while line := await stream.readline():
            text = line.decode().rstrip()
            self.raw.append(text)
            take(text)
            async with self._changed:
                self._changed.notify_all()

    def _take_log(self, line: str) -> None:
        try:
            self.log.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            self.log.append({"event": "", "text": line})

    async def logged(self, event: str, *, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait for a log line of this event; the first one is returned and taken away."""

        def find() -> dict[str, Any] | None:
            return next((line for line in self.log if line.get("event") == event), None)

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while (line := find()) is None:
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{event} was not logged: {self.log[-5:]} {self.output}") from None
        self.log.remove(line)
        return line

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    async def exited(self, *, timeout_s: float = WAIT_S) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), timeout_s)

    def channel(self) -> grpc.aio.Channel:
        """A gRPC channel, to be used in `async with`."""
        return grpc.aio.insecure_channel(f"{self.host}:{self.ports['grpc']}")

    def http(self, port: str = "http") -> httpx2.AsyncClient:
        """An HTTP client, to be used in `async with`."""
        url = f"http://{self.host}:{self.ports[port]}"
        return httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20)
