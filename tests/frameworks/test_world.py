"""The table and the world themselves, without any framework."""

from __future__ import annotations

import asyncio
import json
import urllib.request

from tests.frameworks.faults import (
    FAULTS,
    SECOND_TEXT,
    USES,
    Fault,
    Outcome,
    alias,
    emulator_config,
    relay_config,
    second_model,
)
from tests.frameworks.world import World


def test_the_table_has_the_fourteen_faults_and_goaway_twice() -> None:
    assert len({fault.name for fault in FAULTS}) == 15
    urls = {"lab": "https://a", "slow-tls": "https://b", "goaway": "https://c"}
    assert {fault.provider for fault in FAULTS} == set(urls)
    models = relay_config(urls, "ca.pem")["models"]
    assert isinstance(models, dict)
    assert len(models) == len(FAULTS) * len(USES) * 2


def test_no_model_serves_two_aliases() -> None:
    models = emulator_config()["models"]
    assert isinstance(models, dict)
    rows = [fault for fault in FAULTS if fault.provider == "lab"]
    # each alias has its first, and half of them (those of the edge too) a second
    assert len(models) == len(rows) * len(USES) * 2 + len(FAULTS) * len(USES)


def test_budgets_hold_what_happens_within_them() -> None:
    for fault in FAULTS:
        assert fault.alone_ms <= fault.with_second_ms, fault.name
        assert (fault.heard != "") == (Outcome.CUT in (fault.outcome, fault.alone)), fault.name


async def test_a_fault_is_played_and_the_second_answers(world: World) -> None:
    name = alias(_named("hang"), "bench")
    assert await asyncio.to_thread(_ask, world, name) == SECOND_TEXT
    (first,) = world.streams(name)
    assert (first["fault"], first["outcome"]) == ("hang", "abandoned")
    assert len(world.streams(second_model(name))) == 1
    await world.idle()


def _named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def _ask(world: World, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"{world.base_url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])
