"""A relay process is killed in the middle of a call: how long until the next turn is heard."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
import rtrelay
from rtrelay.direct import OpenAIChat
from rtrelay.v1 import Outcome

from tests.fakes.emulator_process import EmulatorProcess, emulator  # noqa: F401 - a fixture
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import provider

pytestmark = pytest.mark.sockets

HEARD_WITHIN_S = 0.3


def config(emulator: EmulatorProcess, address: str = "127.0.0.1:0") -> dict[str, Any]:  # noqa: F811
    row = provider(emulator.base_url_tls, ca_file=emulator.ca_file)
    candidate = {"provider": "lab", "model": "emu:ttft=20,itl=20,tokens=200,seed=81"}
    return {
        "server": {"grpc": {"address": address}},
        "providers": {"lab": row},
        "models": {"fast": {"candidates": [candidate]}},
    }


async def first_word(answer: rtrelay.Generation) -> None:
    async for event in answer:
        if isinstance(event, rtrelay.TextDelta):
            return


async def test_the_next_turn_after_a_kill_is_heard_directly(
    emulator: EmulatorProcess,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Within 300 ms of asking, and the turns after it, until the relay is back."""
    direct = OpenAIChat(
        f"{emulator.base_url_tls}/v1",
        api_key="sk-test",
        model="emu:ttft=20,itl=1,tokens=5,seed=82",
        ca_file=emulator.ca_file,
        trust_env=False,
    )
    changes: list[rtrelay.PathChange] = []
    loop = asyncio.get_running_loop()
    async with RelayProcess(tmp_path, config(emulator)) as relay:
        address = f"127.0.0.1:{relay.ports['grpc']}"
        client = rtrelay.Client(
            address,
            model="fast",
            direct=direct,
            direct_return_ms=100,
            on_path_change=changes.append,
        )
        session = await client.session().__aenter__()
        speaks = session.start("Hi")
        await first_word(speaks)
        assert speaks.via == "relay"
        cut = session.start("Hi")
        reader = aiter(cut)
        await anext(reader)
        relay.signal(signal.SIGKILL)
        asked_at_s = loop.time()
        answer = session.start("Are you there?")
        await first_word(answer)
        heard_s = loop.time() - asked_at_s
        assert answer.via == "direct"
        assert heard_s < HEARD_WITHIN_S
        with pytest.raises(rtrelay.RelayError, match="STREAM_LOST"):
            async for _ in reader:
                pass
        turns_s = []
        for _ in range(5):
            asked_at_s = loop.time()
            turn = session.start("And now?")
            assert await turn.text()
            turns_s.append(loop.time() - asked_at_s)
            assert turn.via == "direct"
            assert turn.end is not None
            assert turn.end.outcome == Outcome.OUTCOME_COMPLETED
            assert turn.end.usage.completion_tokens == 5
            assert turn.end.usage_final
        assert max(turns_s) < HEARD_WITHIN_S
        print(
            f"killed mid-call: the next turn's first word came {heard_s * 1e3:.0f} ms after asking,"
            f" the five after it were whole within {max(turns_s) * 1e3:.0f} ms"
        )
    await relay.exited()
    (tmp_path / "again").mkdir()
    async with RelayProcess(tmp_path / "again", config(emulator, address)):
        async with asyncio.timeout(20):
            while not changes or changes[-1].via != "relay":
                await asyncio.sleep(0.01)
        turn = session.start("Back?")
        await first_word(turn)
        assert turn.via == "relay"
        assert [change.via for change in changes] == ["direct", "relay"]
        stats = client.stats
        assert (stats.relay, stats.direct, stats.takeovers, stats.returns) == (3, 6, 1, 1)
        await client.aclose()
