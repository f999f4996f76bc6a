"""The servers that other tests use: started, paused, killed, followed, and gone with us."""

from __future__ import annotations

import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fakes.postgres_server import ROLE, PostgresServer, postgres_bin
from tests.fakes.redis_server import RedisServer
from tests.fakes.server_process import ServerProcess, own_folder


def _ask(url: str, question: str = "SELECT count(*) FROM generations") -> object:
    with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row[0] if row is not None else None


def test_a_database_of_its_own_has_the_tables_and_a_plain_role(postgres_url: str) -> None:
    assert _ask(postgres_url) == 0
    assert _ask(postgres_url, "SHOW fsync") == "on"
    assert _ask(postgres_url, "SELECT current_user") == ROLE
    assert _ask(postgres_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_a_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("relay_template").replace("canary", "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_a_killed_server_comes_back_with_its_data(
    own_postgres: PostgresServer, own_postgres_url: str
) -> None:
    with psycopg.connect(own_postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE revision SET changed = 7")
        own_postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    own_postgres.start()
    assert _ask(own_postgres_url, "SELECT changed FROM revision") == 7


def test_a_paused_server_answers_nobody_until_it_is_resumed(
    own_postgres: PostgresServer, own_postgres_url: str
) -> None:
    with closing(psycopg.connect(own_postgres_url, autocommit=True)) as connection:
        own_postgres.pause()
        connection.pgconn.send_query(b"SELECT 1")
        connection.pgconn.flush()
        assert not select.select([connection.fileno()], [], [], 0.1)[0]
        own_postgres.resume()
        assert select.select([connection.fileno()], [], [], 5.0)[0]


def test_redis_forgets_when_told_and_asks_for_its_password(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url(3)) as client:
        client.set("a", "1")
        own_redis.flush(3)
        assert client.get("a") is None
    stranger = redis.Redis(port=own_redis.port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def _is_gone(pid: int) -> bool:
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_server_ends_with_a_killed_test_run(kind: str) -> None:
    if (postgres_bin() if kind == "postgres" else shutil.which("redis-server")) is None:
        pytest.skip(f"{kind} is not installed")
    make = {
        "postgres": "from tests.fakes.postgres_server import PostgresServer as S; s = S.create()",
        "redis": "from tests.fakes.redis_server import RedisServer as S; s = S()",
    }[kind]
    code = f"{make}; s.start(); print(*s._pids(), s.folder, flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdin is not None
    *pids, folder = run.stdout.readline().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    run.stdin.close()
    assert pids
    assert all(_is_gone(int(pid)) for pid in pids)
    assert Path(folder).exists()
    other = own_folder(kind)
    assert not Path(folder).exists()
    other.rmdir()


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo the disk is upside down; exit 3"]
    server = ServerProcess(command, lambda: False, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match="sh did not start: the disk is upside down"):
        server.start()
    assert not server.is_running
