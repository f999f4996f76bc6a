"""The provider emulator as a process, for end-to-end tests.

The session fixture `emulator` starts one per test process; import it into a conftest:

    from tests.fakes.emulator_process import emulator

Each test should use model names of its own (`emu:ttft=20,seed=3`, or a name set by `script`), so
that tests sharing the process do not see each other; `report(model=...)` looks at one model.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

START_TIMEOUT_S = 20.0


class EmulatorProcess:
    """`with EmulatorProcess() as emulator:` a running emulator with TLS and plain ports."""

    def __init__(
        self, *arguments: str, cert_dir: Path | None = None, is_session_leader: bool = False
    ) -> None:
        self._arguments = arguments
        self._is_session_leader = is_session_leader
        self._directory = None if cert_dir else tempfile.TemporaryDirectory(prefix="emulator-")
        self._cert_dir = cert_dir or Path(self._directory.name if self._directory else ".")
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        """The ready line."""

    # --- addresses --------------------------------------------------------------------------

    @property
    def base_url_tls(self) -> str:
        """`https://127.0.0.1:port`, HTTP/2 and HTTP/1.1; without `/v1`."""
        return f"https://127.0.0.1:{self.ready['tls_port']}"

    @property
    def base_url_plain(self) -> str:
        """`http://127.0.0.1:port`, HTTP/1.1 and HTTP/2 with prior knowledge; without `/v1`."""
        return f"http://127.0.0.1:{self.ready['plain_port']}"

    @property
    def ca_file(self) -> str:
        """PEM of the authority that signed the TLS port's certificate."""
        return str(self.ready["ca_file"])

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process, for tests that stop or kill it."""
        assert self._process is not None, "the emulator is not running"
        return self._process

    # --- control ----------------------------------------------------------------------------

    def script(
        self, model: str, behaviour: str | Mapping[str, object], *, next_requests: int = 0
    ) -> None:
        """Set how `model` behaves: from now on, or for the next `next_requests` requests."""
        order: dict[str, object] = {"model": model, "behaviour": behaviour}
        if next_requests:
            order |= {"match": "next", "count": next_requests}
        self._call("POST", "/emulator/script", order)

    def report(self) -> dict[str, Any]:
        """`GET /emulator/report`."""
        return self._call("GET", "/emulator/report")

    def streams(self, *, since: int = 0, model: str | None = None) -> list[dict[str, Any]]:
        """Records of streams, oldest first; of one model if named."""
        found: list[dict[str, Any]] = self._call("GET", f"/emulator/streams?since={since}")[
            "streams"
        ]
        return [stream for stream in found if model is None or stream["model"] == model]

    def wait_for_streams(
        self, model: str, outcome: str, count: int = 1, *, timeout_s: float = 5.0
    ) -> list[dict[str, Any]]:
        """Ask until `count` streams of `model` have this outcome; they are returned."""
        until_s = time.monotonic() + timeout_s
        while True:
            streams = self.streams(model=model)
            found = [stream for stream in streams if stream["outcome"] == outcome]
            if len(found) >= count:
                return found
            if time.monotonic() > until_s:
                raise TimeoutError(f"{len(found)} of {count} {outcome} streams: {streams}")
            time.sleep(0.005)

    def reset(self) -> None:
        """Forget streams, scripts and draw counters."""
        self._call("POST", "/emulator/reset", {})

    def cloud(self, name: str, **fields: object) -> dict[str, Any]:
        """`POST /emulator/cloud/NAME`: what tests order of the emulated clouds."""
        return self._call("POST", f"/emulator/cloud/{name}", fields)

    def cloud_told(self, name: str) -> dict[str, Any]:
        """`GET /emulator/cloud/NAME`."""
        return self._call("GET", f"/emulator/cloud/{name}")

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.base_url_plain + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    # --- lifetime ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "relay.emulator", "--port", "0", "--plain-port", "0"]
        command += ["--cert-dir", str(self._cert_dir), "--exit-with-parent", *self._arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=self._is_session_leader,
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            self.stop()
            raise RuntimeError(f"the emulator did not start: {self._process.poll()}")
        self.ready = json.loads(line)
        return self

    def stop(self) -> None:
        """End the process and clean up. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorProcess]:
    """One emulator for all tests of this test process."""
    with EmulatorProcess() as process:
        yield process
