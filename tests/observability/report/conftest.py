"""A PostgreSQL of the tests, started when one first asks for it."""

from tests.fakes.servers import postgres_cluster, postgres_pool, postgres_server, postgres_url

__all__ = ["postgres_cluster", "postgres_pool", "postgres_server", "postgres_url"]
