"""Real servers for the tests of the stores; each is started when a test first asks for it."""

from tests.fakes.servers import (
    empty_postgres_url,
    own_postgres,
    own_postgres_url,
    own_redis,
    postgres_cluster,
    postgres_pool,
    postgres_server,
    postgres_url,
    redis_server,
    redis_url,
)
from tests.store.limit_worlds import shared_world, world

__all__ = [
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
    "shared_world",
    "world",
]
