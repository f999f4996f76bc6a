"""Without a relay, an answer comes by the client's own way."""

from __future__ import annotations

import time

import pytest
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings

from tests.frameworks.pipecat_pipe import Pipe, asks

direct_provider = pytest.importorskip("tests.fakes.direct_provider")

pytestmark = pytest.mark.sockets


async def test_the_next_turn_goes_round_a_relay_that_is_gone(unused_tcp_port: int) -> None:
    provider = direct_provider.FakeProvider(direct_provider.says("Straight", " ahead"))
    llm = RelayLLMService(
        f"127.0.0.1:{unused_tcp_port}",
        client_options={"direct": provider},
        settings=RelayLLMSettings(model="fast"),
    )
    async with Pipe(llm) as pipe:
        began_s = time.monotonic()
        await pipe.send(asks())
        await pipe.answered()
        assert time.monotonic() - began_s < 0.3
    assert pipe.answers == ["Straight ahead"]
    assert pipe.usages[0].total_tokens == 5
    assert not pipe.errors
    assert provider.closed
