"""The dashboard of a supervisor: both workers in one picture, a playground over the socket, and
one that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_fleet import all_ready, relay_fleet
from tests.fakes.relay_under_test import chat_body
from tests.observability.pages.lab import PAGE, document, read_events

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(120)]


async def picture(admin: httpx2.AsyncClient) -> Any:
    return (await admin.get("/dashboard/api/picture")).json()


async def test_two_workers_are_one_picture(emulator: EmulatorProcess, tmp_path: Path) -> None:
    doc = document(emulator, 9100)
    async with (
        relay_fleet(tmp_path, doc, workers=2) as (relay,),
        relay.http("admin") as admin,
    ):
        pids = await all_ready(relay, 2)
        for _ in range(40):  # the kernel chooses the worker, by the connection
            async with relay.http() as http:
                assert (await http.post("/v1/chat/completions", json=chat_body("chat"))).is_success
            seen = {row["worker"] for row in (await picture(admin))["recent"]}
            if seen == {0, 1}:
                break
        told = await picture(admin)
        assert seen == {0, 1}
        assert told["total"]["quarter"]["generations"] == len(told["recent"])
        assert [(row["number"], row["why"]) for row in told["workers"]] == [(0, ""), (1, "")]

        order = {"model": "voice", "prompt": "Hello"}
        play = admin.stream("POST", "/dashboard/api/play", json=order, headers=PAGE)
        async with play as response:
            names = [name async for name, _ in read_events(response)]
        assert (names[0], names[-1]) == ("begin", "end")

        os.kill(pids[1], signal.SIGSTOP)  # stuck: it does not answer, and is not gone
        try:
            missing = await picture(admin)
        finally:
            os.kill(pids[1], signal.SIGCONT)
        assert missing["workers"][1]["why"] == "no answer within 1 s"
        words = [one["words"] for one in missing["findings"]]
        assert any(one.startswith("worker 1 of 2 does not answer") for one in words)
        async with asyncio.timeout(10):
            while any(row["why"] for row in (await picture(admin))["workers"]):
                await asyncio.sleep(0.1)
