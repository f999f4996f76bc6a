"""What it costs to be asked whether there is too much to do.

    python -m bench.micro.overload

`admitted` is what every request pays (asked, counted in and out), `bare` the same calls of an
object that does nothing, `look` one look at the loop (twenty a second; every fifth reads memory
too), `refused` an error that is made instead of an answer; `reference` is `orjson.loads` of a line
of an answer. Best of several rounds, microseconds. A token pays nothing.
"""

from __future__ import annotations

import asyncio
import logging
import timeit
from collections.abc import Callable

import orjson
import structlog

from bench.micro.codec import PAYLOAD
from relay.overload import Overload
from relay.resilience.overload import Bounds, RequestClass

_NUMBER, _ROUNDS = 20_000, 7


class _Nothing:
    """Says yes."""

    def check(self, kind: RequestClass) -> None:
        """Nothing."""

    def enter(self) -> None:
        """Nothing."""

    def leave(self) -> None:
        """Nothing."""


def _asked(overload: Overload | _Nothing) -> Callable[[], None]:
    def ask() -> None:
        overload.check(RequestClass.NEW)
        overload.enter()
        overload.leave()

    return ask


async def measure() -> dict[str, float]:
    """Microseconds by name; nothing else runs in the loop."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    calm = Overload(Bounds(max_rss_bytes=1 << 50))
    calm.start()
    full = Overload(Bounds(max_generations=1))
    full.enter()
    work: dict[str, Callable[[], object]] = {
        "admitted": _asked(calm),
        "bare": _asked(_Nothing()),
        "look": lambda: calm.looked(0.001),
        "refused": lambda: full.refusal(RequestClass.NEW),
        "reference": lambda: orjson.loads(PAYLOAD),
    }
    found = {
        name: min(timeit.repeat(do, number=_NUMBER, repeat=_ROUNDS)) / _NUMBER * 1e6
        for name, do in work.items()
    }
    await calm.aclose()
    return found


if __name__ == "__main__":
    for name, value in asyncio.run(measure()).items():
        print(f"{name:>10} {value:8.3f} us")
