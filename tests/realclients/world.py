"""The emulator and a relay in front of it, as processes, and what a test asks of them."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.fakes.line_process import LineProcess, relay_bin
from tests.realclients.behaviours import emulator_config, relay_config

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_FAST = {"ttft": "5", "itl": "1"}


class World:
    """`with World(directory) as world:` both of them, running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[LineProcess] = []
        self._numbers = itertools.count(1)
        self._served: dict[str, bool] = {}
        self.emulator_url = ""
        self._admin_url = ""
        self.url = ""
        """Of the relay, without a path."""

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
        emulator = self._run(
            "emulator",
            *(relay_bin(), "emulate", "-c", self._write("emulator.yaml", emulator_config())),
            *("--port", "0", "--plain-port", "0", "--cert-dir", str(self._directory / "certs")),
        )
        ready = emulator.wait_for(lambda line: line.get("ready") is True)
        self.emulator_url = f"http://127.0.0.1:{ready['plain_port']}"
        document = relay_config(f"https://127.0.0.1:{ready['tls_port']}", str(ready["ca_file"]))
        relay = self._run("relay", relay_bin(), "serve", "-c", self._write("relay.yaml", document))
        line = relay.wait_for(lambda line: line.get("event") == "serving")
        self.url = f"http://127.0.0.1:{line['http']}"
        self._admin_url = f"http://127.0.0.1:{line['admin']}"

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

    # --- the relay --------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """What a client of OpenAI is given."""
        return f"{self.url}/v1"

    def serves(self, path: str) -> bool:
        """Whether a POST to a path is answered by anything but 404."""
        if path not in self._served:
            try:
                _call(f"{self.url}{path}", {})
                status = 200
            except urllib.error.HTTPError as error:
                status = error.code
                error.close()
            self._served[path] = status != 404
        return self._served[path]

    def troubles(self, *, timeout_s: float = 3.0) -> list[str]:
        """What the relay warned of, and what it still does though all clients have gone."""
        relay = next(each for each in self._processes if each.name == "relay")
        lines = [json.loads(line) for line in list(relay.lines) if line.startswith("{")]
        found = [str(line) for line in lines if line["level"] != "info"]
        until_s = time.monotonic() + timeout_s
        while left := _running(_call(f"{self._admin_url}/admin/state")):
            if time.monotonic() >= until_s:
                return [*found, left]
            time.sleep(0.01)  # another process: there is nothing to await
        return found

    # --- the emulator -----------------------------------------------------------------------

    def scripted(
        self, then: Mapping[str, object], *first: Mapping[str, object], provider: str = "lab"
    ) -> str:
        """A model of the test's own: its first answers one by one, and all after them.

        Returns:
            What a client asks the relay for.
        """
        name = f"own-{next(self._numbers)}"
        url = f"{self.emulator_url}/emulator/script"
        _call(url, {"model": name, "behaviour": {**_FAST, **then}})
        for behaviour in first:
            order = {"model": name, "behaviour": {**_FAST, **behaviour}}
            _call(url, {**order, "match": "next", "count": 1})
        return f"{provider}/{name}"

    def last_stream(self) -> int:
        """Number of the newest request at the emulator, for `since`."""
        return int(_call(f"{self.emulator_url}/emulator/report")["streams"]["last_id"])

    def streams(self, since: int) -> list[dict[str, Any]]:
        """The requests since, oldest first."""
        found: list[dict[str, Any]] = _call(f"{self.emulator_url}/emulator/streams?since={since}")[
            "streams"
        ]
        return found

    def abandoned(self, since: int, *, timeout_s: float = 3.0) -> dict[str, Any]:
        """The one request since, once the relay has given it up.

        Raises:
            AssertionError: it has not, or there are others.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            streams = self.streams(since)
            if len(streams) == 1 and streams[0]["outcome"] == "abandoned":
                return streams[0]
            assert time.monotonic() < until_s, f"not abandoned after {timeout_s:g} s: {streams}"
            time.sleep(0.01)  # another process: there is nothing to await


def _running(state: dict[str, Any]) -> str:
    """What a relay is at; empty if nothing."""
    streams = sum(row["open_streams"] for row in state["origins"])
    facts = {"generations": state["generations"], "open streams": streams}
    return ", ".join(f"{count} {name}" for name, count in facts.items() if count)


def _call(url: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        method="GET" if body is None else "POST",
        headers={"content-type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with _OPENER.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer
