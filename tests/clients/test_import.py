"""Importing the client is cheap and opens nothing: job runners import it and then fork."""

from __future__ import annotations

import asyncio
import sys

import pytest
import rtrelay

LOOK = """
import sys, threading
import rtrelay
heavy = {"grpc", "google.protobuf", "asyncio", "relay"} & sys.modules.keys()
assert not heavy, heavy
assert threading.active_count() == 1
assert "Client" in dir(rtrelay)
rtrelay.Client("127.0.0.1:1")
assert rtrelay.sync.SyncClient and rtrelay.direct.OpenAIChat
assert "httpx2" not in sys.modules
assert threading.active_count() == 1
assert "relay" not in sys.modules
"""


async def test_importing_is_light() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOOK, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors.decode()) == (0, "")


@pytest.mark.parametrize("name", rtrelay.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(rtrelay, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = rtrelay.nothing
