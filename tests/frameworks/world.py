"""The emulator, the edge and a relay in front of them, as processes on free ports."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.fakes.line_process import LineProcess, relay_bin
from tests.frameworks.faults import emulator_config, relay_config

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class World:
    """`with World(directory) as world:` all of it, running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[LineProcess] = []
        self._emulator_url = ""
        self.ports: dict[str, int] = {}
        """Of the relay: `grpc`, `http`, `admin`."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        certs = self._directory / "certs"
        emulator = self._run(
            "emulator",
            *(relay_bin(), "emulate", "-c", self._write("emulator.yaml", emulator_config())),
            *("--port", "0", "--plain-port", "0", "--cert-dir", str(certs)),
        )
        ready = emulator.wait_for(lambda line: line.get("ready") is True)
        self._emulator_url = f"http://127.0.0.1:{ready['plain_port']}"
        edge = self._run(
            "edge",
            *(sys.executable, "-m", "tests.frameworks.edge"),
            *(str(certs / "cert.pem"), str(certs / "key.pem")),
        )
        ports = {"lab": ready["tls_port"], **edge.wait_for(lambda line: "goaway" in line)}
        urls = {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}
        free = {"address": "127.0.0.1:0"}
        document = {
            "server": {name: dict(free) for name in ("grpc", "http", "admin")},
            **relay_config(urls, ready["ca_file"]),
        }
        relay = self._run("relay", relay_bin(), "serve", "-c", self._write("relay.yaml", document))
        line = relay.wait_for(lambda line: line.get("event") == "serving")
        self.ports = {name: int(line[name]) for name in ("grpc", "http", "admin")}

    def _write(self, name: str, document: Mapping[str, object]) -> str:
        path = self._directory / name
        path.write_text(yaml.safe_dump(dict(document), allow_unicode=True), encoding="utf-8")
        return str(path)

    def _run(self, name: str, *command: str) -> LineProcess:
        process = LineProcess(name, *command)
        self._processes.append(process)
        return process

    def _stop(self) -> None:
        while self._processes:
            self._processes.pop().stop()

    # --- addresses --------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Of the relay's gRPC."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def base_url(self) -> str:
        """Of the OpenAI-compatible surface, with `/v1`."""
        return f"http://127.0.0.1:{self.ports['http']}/v1"

    @property
    def pids(self) -> dict[str, int]:
        """Of the processes, by name."""
        return {process.name: process.pid for process in self._processes}

    # --- the emulator -----------------------------------------------------------------------

    def script(self, model: str, behaviour: Mapping[str, object] | str, *, count: int = 0) -> None:
        """How a model of `lab` behaves: from now on, or for the next `count` requests. Clients ask
        for `lab/MODEL`."""
        order: dict[str, object] = {"model": model, "behaviour": behaviour}
        if count:
            order |= {"match": "next", "count": count}
        _call(f"{self._emulator_url}/emulator/script", order)

    def streams(self, model: str) -> list[dict[str, Any]]:
        """What the emulator saw of a model, oldest first."""
        found = _call(f"{self._emulator_url}/emulator/streams?since=0")["streams"]
        return [stream for stream in found if stream["model"] == model]

    async def stream_ended(self, model: str, outcome: str, *, timeout_s: float = 3.0) -> Any:
        """The last stream of a model, once it ended so: `abandoned`, `clean`, `reset`."""

        def found() -> Any:
            streams = self.streams(model)
            return streams[-1] if streams and streams[-1]["outcome"] == outcome else None

        return await _until(found, f"{outcome} stream of {model}", timeout_s)

    async def eventually(self, condition: Callable[[], object]) -> None:
        """Ask until it is so.

        Raises:
            AssertionError: it is not.
        """
        await _until(condition, "such state", 3.0)

    async def quiet(self, *, timeout_s: float = 3.0) -> None:
        """Wait until no stream is open at the emulator.

        Raises:
            AssertionError: some are.
        """
        url = f"{self._emulator_url}/emulator/report"
        await _until(lambda: not _call(url)["streams"]["open"], "quiet emulator", timeout_s)

    # --- the relay --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """`GET /admin/state`."""
        return _call(f"http://127.0.0.1:{self.ports['admin']}/admin/state")

    async def idle(self, *, timeout_s: float = 3.0) -> None:
        """Wait until no generation runs in the relay and no stream to a provider is open.

        Raises:
            AssertionError: something is left.
        """

        def is_idle() -> Any:
            state = self.state()
            open_streams = sum(row["open_streams"] for row in state["origins"])
            return not state["generations"] and not state["background"] and not open_streams

        await _until(is_idle, "an idle relay", timeout_s)

    async def logged(self, *, timeout_s: float = 3.0, **fields: object) -> dict[str, Any]:
        """The relay's log line with these fields, once it is there."""
        return (await self.all_logged(1, timeout_s=timeout_s, **fields))[0]

    async def all_logged(
        self, count: int, *, timeout_s: float = 3.0, **fields: object
    ) -> list[dict[str, Any]]:
        """The lines of the relay's log with these fields, once there are so many."""
        lines = next(each.lines for each in self._processes if each.name == "relay")

        def found() -> Any:
            parsed = (json.loads(line) for line in list(lines) if line.startswith("{"))
            wanted = [line for line in parsed if fields.items() <= line.items()]
            return wanted if len(wanted) >= count else None

        what = f"{count} log lines with {fields}"
        logged: list[dict[str, Any]] = await _until(found, what, timeout_s)
        return logged


def _call(url: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        method="GET" if body is None else "POST",
        data=None if body is None else json.dumps(body).encode(),
    )
    with _OPENER.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


async def _until(condition: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Ask another process until it says so; there is nothing here that could be awaited."""
    until_s = time.monotonic() + timeout_s
    while True:
        found = await asyncio.to_thread(condition)
        if found:
            return found
        assert time.monotonic() < until_s, f"there is no {what} after {timeout_s:g} s"
        await asyncio.sleep(0.005)
