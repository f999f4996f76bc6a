"""A private Redis: its own port, a password, nothing on disk."""

from __future__ import annotations

import shutil
from typing import Final

import redis

from tests.fakes.server_process import ServerProcess, free_port, own_folder

PASSWORD: Final = "canary-redis-7d20aa"
"""Must turn up nowhere."""
DATABASES: Final = 64


class RedisServer(ServerProcess):
    """One server; what it holds is gone when it stops."""

    def __init__(self, program: str | None = None) -> None:
        program = program or shutil.which("redis-server")
        assert program is not None, "redis-server is not installed"
        self.port = free_port()
        self.folder = own_folder("redis")
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "save": "",
            "appendonly": "no",
            "databases": str(DATABASES),
            "dir": str(self.folder),
        }
        command = [program, *(part for name in options for part in (f"--{name}", options[name]))]
        super().__init__(command, self._answers, log=self.folder / "log")

    def url(self, database: int = 0) -> str:
        """Of one of the `DATABASES` numbered databases, with the password in it."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def flush(self, database: int | None = None) -> None:
        """Forget everything of one database, or of all."""
        with redis.Redis.from_url(self.url(database or 0)) as client:
            if database is None:
                client.flushall()
            else:
                client.flushdb()

    def remove(self) -> None:
        """Stop it and delete its folder. Idempotent."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url(), socket_connect_timeout=1.0) as client:
                client.ping()
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True
