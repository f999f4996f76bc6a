"""Real servers; each is started when a test first asks for it."""

from tests.fakes.servers import own_redis, redis_server, redis_url

__all__ = ["own_redis", "redis_server", "redis_url"]
