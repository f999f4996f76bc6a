"""One worker's limits as a process of its own, for tests that kill it or ask it hard.

    python -m tests.store.limit_process KIND PLACE INSTANCE LEASE_S

Says `ready`, then does what each line of its input asks and answers with a line:

    hold N      takes N units of the lease `slot`, of 3     -> held
    hammer S    takes one of `rpm`, 600 a minute, for S seconds, several at a time -> how often
"""

from __future__ import annotations

import asyncio
import sys
import time

from relay.store.limit_backend import Backend
from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent
from relay.store.redis_limits import RedisBackend
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_limits import SqliteBackend

RPM = Charge("rpm", 600, 1, RATE)
PATIENCE_S = 5.0


def backend_of(kind: str, place: str, instance_id: str, lease_s: float) -> Backend:
    if kind == "sqlite":
        return SqliteBackend(place, instance_id=instance_id, lease_s=lease_s, patience_s=PATIENCE_S)
    return RedisBackend(
        place, instance_id=instance_id, lease_s=lease_s, connect_timeout_s=PATIENCE_S
    )


def limits_of(kind: str, place: str, instance_id: str, lease_s: float) -> SharedLimits:
    backend = backend_of(kind, place, instance_id, lease_s)
    return SharedLimits(backend, patience_s=PATIENCE_S, lease_s=lease_s)


async def hammer(limits: SharedLimits, seconds: float) -> int:
    until_s = time.monotonic() + seconds
    granted = 0

    async def one() -> None:
        nonlocal granted
        while time.monotonic() < until_s:
            try:
                await limits.take([RPM], 0)
            except LimitSpent:
                continue
            granted += 1

    await asyncio.gather(*(one() for _ in range(4)))
    return granted


async def main(kind: str, place: str, instance_id: str, lease_s: str) -> None:
    limits = limits_of(kind, place, instance_id, float(lease_s))
    await limits.start()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        act, number = line.split()
        if act == "hold":
            await limits.take([Charge("slot", 3, int(number), LEASE)], 0)
            print("held", flush=True)
        else:
            granted = await hammer(limits, float(number))
            assert limits.times_down == 0
            print(granted, flush=True)
    await limits.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
