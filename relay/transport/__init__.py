"""Upstream HTTP; the only importer of wreq, pyqwest, httpx2 and ssl."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from relay.resolving import Resolver
from relay.transport.engine import EngineName, TransportSettings
from relay.transport.pool import PooledTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.transport.engine import Engine

__all__ = ["ENGINES", "EngineName", "TransportSettings", "make_transport"]

ENGINES: dict[EngineName, str] = {
    "wreq": "WreqEngine",
    "pyqwest": "PyqwestEngine",
    "httpx": "HttpxEngine",
}
"""Engine class by module of this package. Modules are imported when asked for, so that a relay
holds one HTTP stack and not three."""


def make_transport(
    engine: EngineName,
    settings: TransportSettings | None = None,
    resolver: Resolver | None = None,
) -> PooledTransport:
    """A transport over the engine of that name. The caller awaits its `aclose`.

    Args:
        resolver: None for the machine's.

    Call it inside the running loop that will use it.

    Raises:
        ValueError: no such engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    settings = settings or TransportSettings()
    module = import_module(f"{__name__}.{engine}")
    factory = cast("Callable[[TransportSettings], Engine]", getattr(module, ENGINES[engine]))
    return PooledTransport(factory(settings), settings, resolver=resolver or Resolver())
