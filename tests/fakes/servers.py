"""Fixtures of real database servers; import the ones that are used into a conftest:

    from tests.fakes.servers import postgres_server, postgres_url, ...

`postgres_url` and `redis_url` are for most tests: a database of their own on a server that the
tests of one process share. Who stops, kills or pauses a server takes `own_postgres` or `own_redis`.

Every process of xdist has servers of its own, made when they are first asked for: a PostgreSQL is
there in 0.9 s, a database on it in 10 ms, a Redis in 30 ms, and no test waits for another's.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator

import pytest

from relay.store.engine import make_ready
from tests.fakes.postgres_pool import PostgresPool
from tests.fakes.postgres_server import PASSWORD, ROLE, PostgresServer, postgres_bin
from tests.fakes.redis_server import DATABASES, RedisServer

_TEMPLATE = "relay_template"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresServer]:
    """A stopped cluster that has the role and an empty database with our tables, to copy from."""
    if postgres_bin() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    server = PostgresServer.create()
    try:
        with server:
            server.create_role()
            make_ready(server.create_database(_TEMPLATE))
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_server(postgres_cluster: PostgresServer) -> Iterator[PostgresServer]:
    """A running server for all tests of this process; never stop it."""
    server = postgres_cluster.copy()
    try:
        with server:
            yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_pool(postgres_server: PostgresServer) -> PostgresPool:
    """Databases with our tables for all tests of this process."""
    return PostgresPool(postgres_server, _TEMPLATE)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_pool: PostgresPool) -> Iterator[str]:
    """Of a database with our tables that is as if it were new."""
    name = postgres_pool.take()
    yield postgres_server.url(name)
    postgres_pool.give_back(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Of a fresh database without tables; it is dropped after the test."""
    name = f"relay_{next(_numbers)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def own_postgres(postgres_cluster: PostgresServer) -> Iterator[PostgresServer]:
    """A running server for one test, which may do to it what it likes; its database with our
    tables has the URL `own_postgres_url`."""
    server = postgres_cluster.copy()
    try:
        with server:
            yield server
    finally:
        server.remove()


@pytest.fixture
def own_postgres_url(own_postgres: PostgresServer) -> str:
    """Of the database with our tables on `own_postgres`."""
    return own_postgres.url(_TEMPLATE)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running server for all tests of this process; never stop it."""
    yield from _redis()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A running server for one test, which may do to it what it likes."""
    yield from _redis()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Of an empty numbered database; tests later than the next 63 may find the same one."""
    database = next(_numbers) % DATABASES
    redis_server.flush(database)
    return redis_server.url(database)


def _redis() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: redis-server)")
    server = RedisServer()
    try:
        with server:
            yield server
    finally:
        server.remove()


__all__ = [
    "PASSWORD",
    "ROLE",
    "empty_postgres_url",
    "own_postgres",
    "own_postgres_url",
    "own_redis",
    "postgres_cluster",
    "postgres_pool",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
]
