"""A supervisor's part: each worker's hints to the others, and to other machines where there is
Redis; theirs to every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.instance import instance_id
from relay.supervisor import Supervisor

if TYPE_CHECKING:
    from relay.hints.redis_bus import RedisBus


class HintHub:
    """Made before the workers; passes bytes on and looks at none of them."""

    def __init__(self, supervisor: Supervisor, redis_url: str | None) -> None:
        """
        Args:
            redis_url: None to pass hints on this machine alone.
        """
        self._redis: RedisBus | None = None
        if redis_url is not None:
            # Here: relays without Redis are spared its client's imports.
            from relay.hints.redis_bus import RedisBus

            self._redis = RedisBus(redis_url, instance_id(), supervisor.hint)
            supervisor.on_hint = self._out

    def start(self) -> None:
        """Begin; never waits."""
        if self._redis is not None:
            self._redis.start()

    async def aclose(self) -> None:
        """Idempotent, bounded in time."""
        if self._redis is not None:
            await self._redis.aclose()

    def describe(self) -> dict[str, Any] | None:
        """Of the way to other machines; None without one."""
        return None if self._redis is None else self._redis.describe()

    def _out(self, number: int, hint: dict[str, Any]) -> None:
        if self._redis is not None:
            self._redis.publish(hint)
