"""The rtrelay client: sessions of generations over the `rtrelay.v1` contract.

    async with rtrelay.Client("127.0.0.1:50051", model="fast") as client:
        async with client.session() as session:
            print(await session.start("Why is the sky blue?").text())

Importing it costs next to nothing and opens nothing: gRPC is imported with the first name that
needs it, so that processes which fork (job runners of voice frameworks) may import it before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtrelay import direct as direct
    from rtrelay import sync as sync
    from rtrelay._switchboard import Reconnect
    from rtrelay.client import Client
    from rtrelay.errors import RelayError
    from rtrelay.events import (
        AudioDelta,
        Event,
        Extra,
        ReasoningDelta,
        RefusalDelta,
        Retract,
        Segment,
        TextDelta,
        ToolArgumentsDelta,
        ToolCall,
    )
    from rtrelay.session import Generation, Session
    from rtrelay.stats import PathChange, Stats

__all__ = [
    "AudioDelta",
    "Client",
    "Event",
    "Extra",
    "Generation",
    "PathChange",
    "ReasoningDelta",
    "Reconnect",
    "RefusalDelta",
    "RelayError",
    "Retract",
    "Segment",
    "Session",
    "Stats",
    "TextDelta",
    "ToolArgumentsDelta",
    "ToolCall",
]

_MODULES = {
    "Client": "client",
    "Generation": "session",
    "PathChange": "stats",
    "Reconnect": "_switchboard",
    "RelayError": "errors",
    "Session": "session",
    "Stats": "stats",
}
"""Where names live; those that are not here are events."""


_SUBMODULES = ("direct", "sync")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'events')}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
