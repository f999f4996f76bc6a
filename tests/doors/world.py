"""The emulator as a process, a relay in front of it where one is wanted, and what a test asks."""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.fakes.line_process import LineProcess, relay_bin

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_FAST = {"ttft": "5", "itl": "1"}

RECORDED = 50


class Refused(Exception):
    """The relay answered with an error."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class World:
    """`with World(directory) as world:` a running emulator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[LineProcess] = []
        self._numbers = itertools.count(1)
        self.url = ""
        """Without TLS."""
        self.tls_url = ""
        self.ca_file = ""

    def __enter__(self) -> Self:
        try:
            emulator = self._run(
                "emulator",
                *(relay_bin(), "emulate", "--port", "0", "--plain-port", "0"),
                *("--cert-dir", str(self.directory / "certs")),
            )
            ready = emulator.wait_for(lambda line: line.get("ready") is True)
        except BaseException:
            self._stop()
            raise
        self.url = f"http://127.0.0.1:{ready['plain_port']}"
        self.tls_url = f"https://127.0.0.1:{ready['tls_port']}"
        self.ca_file = str(ready["ca_file"])
        self.post("/emulator/recorder", {"keep": RECORDED})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    # --- the emulator -----------------------------------------------------------------------

    def scripted(self, **behaviour: str) -> str:
        """A model of the test's own that behaves so."""
        name = f"own-{next(self._numbers)}"
        self.post("/emulator/script", {"model": name, "behaviour": {**_FAST, **behaviour}})
        return name

    def order(self, name: str, **fields: object) -> dict[str, Any]:
        """`POST /emulator/cloud/NAME`."""
        return self.post(f"/emulator/cloud/{name}", fields)

    def token(self, kind: str, **fields: object) -> str:
        """A new access token."""
        return str(self.order("token", kind=kind, **fields)["access_token"])

    def last_request(self) -> int:
        """Number of the newest recorded request."""
        return max((int(each["id"]) for each in self.requests(0)), default=0)

    def requests(self, since: int) -> list[dict[str, Any]]:
        """Requests to the emulator since, oldest first."""
        found: list[dict[str, Any]] = self.get(f"/emulator/requests?since={since}")["requests"]
        return found

    def get(self, path: str) -> dict[str, Any]:
        """JSON of the emulator."""
        return _call(self.url + path, None)

    def post(self, path: str, body: object) -> dict[str, Any]:
        """JSON of the emulator."""
        return _call(self.url + path, body)

    # --- a relay ----------------------------------------------------------------------------

    def secret(self, value: str) -> str:
        """A reference to a value, as configurations have them."""
        path = self.directory / f"secret-{next(self._numbers)}"
        path.write_text(value, encoding="utf-8")
        return f"${{file:{path}}}"

    def start_relay(self, document: Mapping[str, object]) -> Relay:
        """A relay that serves until the world ends."""
        path = self.directory / f"relay-{next(self._numbers)}.yaml"
        path.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
        process = self._run("relay", relay_bin(), "serve", "-c", str(path))
        line = process.wait_for(lambda line: line.get("event") == "serving")
        return Relay(f"http://127.0.0.1:{line['http']}", process)

    def _run(self, name: str, *command: str) -> LineProcess:
        process = LineProcess(name, *command)
        self._processes.append(process)
        return process

    def _stop(self) -> None:
        while self._processes:
            self._processes.pop().stop()


class Relay:
    """A relay process, asked as OpenAI is."""

    def __init__(self, url: str, process: LineProcess) -> None:
        self.url = url
        self._process = process

    def chat(self, body: Mapping[str, object]) -> list[dict[str, Any]]:
        """The chunks of a streamed answer.

        Raises:
            Refused: it is an error.
        """
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            headers={"content-type": "application/json"},
            data=json.dumps({**body, "stream": True}).encode(),
        )
        try:
            with _OPENER.open(request, timeout=20) as response:
                lines = response.read().decode().splitlines()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode()) from None
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(each) for each in data if each != "[DONE]"]

    def log(self) -> list[str]:
        """What it said."""
        return list(self._process.lines)


def _call(url: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        method="GET" if body is None else "POST",
        headers={"content-type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with _OPENER.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer
