"""A relay process that is told to stop while a call goes on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
import rtrelay
from rtrelay.v1 import Outcome

from tests.fakes.emulator_process import EmulatorProcess, emulator  # noqa: F401 - a fixture
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import provider

pytestmark = pytest.mark.sockets


def config(emulator: EmulatorProcess) -> dict[str, Any]:  # noqa: F811
    row = provider(emulator.base_url_tls, ca_file=emulator.ca_file)
    return {"server": {"drain_grace_ms": 20_000}, "providers": {"lab": row}}


async def test_a_call_goes_on_at_the_next_relay(
    emulator: EmulatorProcess,  # noqa: F811
    tmp_path: Path,
) -> None:
    """What runs finishes where it is, what is new goes to the other, the old process ends, and
    nothing is cut or lost."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        RelayProcess(tmp_path / "a", config(emulator)) as first,
        RelayProcess(tmp_path / "b", config(emulator)) as second,
    ):
        addresses = [f"127.0.0.1:{relay.ports['grpc']}" for relay in (first, second)]
        async with rtrelay.Client(addresses) as client, client.session() as session:
            assert session.address == addresses[0]
            slow = session.start("Hi", model="lab/emu:ttft=5,itl=20,tokens=60,seed=71")
            reader = aiter(slow)
            await anext(reader)
            first.signal(signal.SIGTERM)
            waits = session.start("Hi", model="lab/emu:ttft=300,itl=1,tokens=5,seed=72")
            while session.address != addresses[1] or session.ready is None:
                await asyncio.wait_for(anext(reader), 10)
            assert not slow.is_over
            new = session.start("Hi", model="lab/emu:ttft=5,itl=1,tokens=5,seed=73")
            assert await new.text()
            assert await waits.text()
            async for _ in reader:
                pass
            for answer in (slow, waits, new):
                assert answer.end is not None
                assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
            assert slow.end is not None
            assert slow.end.usage.completion_tokens == 60
            assert await first.exited() == 0
            assert await session.start("Hi", model="lab/emu:ttft=5,tokens=3,seed=74").text()
