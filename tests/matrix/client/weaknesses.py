"""Defences that parts of this folder take away from a relay in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
import uvicorn


def nobody_waits_in_line(patch: pytest.MonkeyPatch) -> None:
    """The line of connections that wait to be taken."""
    made = uvicorn.Config.__init__

    def init(config: uvicorn.Config, *given: Any, **more: Any) -> None:
        made(config, *given, **{**more, "backlog": 1})

    patch.setattr(uvicorn.Config, "__init__", init)
