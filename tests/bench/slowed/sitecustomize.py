"""A relay that got slower, for the test that CI would see it: Python imports this at its start.

With this directory in PYTHONPATH, `SLOWED_REQUEST_US` and `SLOWED_TOKEN_US` microseconds of CPU are
burnt for each request to a provider and for each chunk of its answer, in a relay process and in
the micro benches of a pytest process, and nowhere else: not in emulator, nginx and generator,
which a relay is compared with. The product knows nothing of it.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

REQUEST_US = float(os.environ.get("SLOWED_REQUEST_US", "0"))
TOKEN_US = float(os.environ.get("SLOWED_TOKEN_US", "0"))


def _burning(call: Callable[..., Any], us: float) -> Callable[..., Any]:
    wait_ns = round(us * 1e3)

    @functools.wraps(call)
    def burning(*arguments: Any, **named: Any) -> Any:
        until_ns = time.perf_counter_ns() + wait_ns
        while time.perf_counter_ns() < until_ns:
            pass
        return call(*arguments, **named)

    return burning


def _slow(module: str, name: str, method: str, us: float) -> None:
    owner = getattr(import_module(module), name)
    setattr(owner, method, _burning(getattr(owner, method), us))


def _slow_reads() -> None:
    """Each read of an answer, whoever asks for it."""
    stream = import_module("relay.transport.wreq").WreqStream
    begin = stream.__init__

    def slowed(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._next = self.read_next = _burning(self._next, TOKEN_US)

    stream.__init__ = slowed


if "relay.cli" in sys.orig_argv:
    _slow("relay.transport.pool", "PooledTransport", "open", REQUEST_US)
    _slow_reads()
elif "pytest" in sys.orig_argv:
    _slow("bench.micro.path", "_Transport", "open", REQUEST_US)
    _slow("bench.micro.path", "_Stream", "__anext__", TOKEN_US)
