"""What the log is told of targets that are ejected and come back."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from relay.errors import ConnectError
from relay.target_news import TargetNews
from relay.upkeep import Upkeep
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import now_s, on_virtual_time

HELLO = FakeEndpoint(headers_s=0.25, chunks=answer("Hello"))
BROKEN = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
HEDGED = {"hedge": {"mode": "active", "delay": 1000}}
"""Requests are the probes then."""


def told(news: TargetNews, scenario: Scenario) -> list[dict[str, Any]]:
    """The lines of one look."""
    with capture_logs() as lines:
        news.tell(scenario.services.planner.states.items(), now_s())
    return [dict(line) for line in lines]


async def asked(scenario: Scenario, count: int) -> None:
    for _ in range(count):
        await scenario.generate()


@on_virtual_time
async def test_ejection_and_return_are_a_line_each() -> None:
    scenario = Scenario({"a": [BROKEN] * 5 + [HELLO], "b": HELLO}, alias_more=HEDGED)
    news = TargetNews()
    await asked(scenario, 4)
    assert told(news, scenario) == []
    await asked(scenario, 1)
    (ejected,) = told(news, scenario)
    assert 23.0 < ejected.pop("retry_in_s") <= 36.0
    assert ejected == {
        "event": "target_ejected",
        "log_level": "info",
        "target": "a/m",
        "reason": "consecutive",
    }
    await asyncio.sleep(20)
    assert told(news, scenario) == []
    await asyncio.sleep(17)
    await asked(scenario, 1)  # the probe
    (returning,) = told(news, scenario)
    assert (returning["event"], returning["target"]) == ("target_returning", "a/m")
    assert (returning["reason"], returning["share"]) == ("consecutive", 0.1)
    back: list[dict[str, Any]] = []
    for _ in range(120):
        await asked(scenario, 20)
        await asyncio.sleep(1.0)
        back += told(news, scenario)
    assert [(line["event"], line["target"]) for line in back] == [("target_back", "a/m")]
    await scenario.settled()


@on_virtual_time
async def test_a_probe_that_fails_is_no_further_ejection() -> None:
    scenario = Scenario({"a": [BROKEN] * 6 + [HELLO], "b": HELLO}, alias_more=HEDGED)
    news = TargetNews()
    await asked(scenario, 5)
    assert [line["event"] for line in told(news, scenario)] == ["target_ejected"]
    await asyncio.sleep(37)
    await asked(scenario, 1)  # fails
    assert told(news, scenario) == []
    await asyncio.sleep(37)
    await asked(scenario, 1)
    assert [line["event"] for line in told(news, scenario)] == ["target_returning"]
    await scenario.settled()


@on_virtual_time
async def test_upkeep_tells_it_while_no_request_runs() -> None:
    scenario = Scenario({"a": [BROKEN] * 5 + [HELLO], "b": HELLO})
    upkeep = Upkeep(scenario.services, None, 0)
    await upkeep.start()
    with capture_logs() as lines:
        await asked(scenario, 5)
        assert "target_ejected" not in [line["event"] for line in lines]
        await asyncio.sleep(3.5)
    await upkeep.aclose()
    assert [line["target"] for line in lines if line["event"] == "target_ejected"] == ["a/m"]
    await scenario.settled()
