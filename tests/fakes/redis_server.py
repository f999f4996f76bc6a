"""A private redis-server on a free loopback port.

with RedisServer(directory) as server:
    server.url; server.client.flushall(); server.signal(signal.SIGSTOP); server.restart()
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from redis import Redis
from redis.exceptions import RedisError

BINARY: Final = shutil.which("redis-server")
START_S: Final = 10.0


class RedisServer:
    """Keeps nothing on disk. Leaving the block kills it.

    Args:
        arguments: further ones of redis-server, as `--replicaof`.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._directory = directory
        self._arguments = arguments
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis.from_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert BINARY is not None
        self._process = subprocess.Popen(
            [
                BINARY,
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._directory)),
                *self._arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
            except (RedisError, OSError):
                assert time.monotonic() < until_s, "redis-server does not answer"
                time.sleep(0.01)
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        """To this very process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.client.close()
