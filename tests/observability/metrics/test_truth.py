"""Metrics truth: after a script of answers, hedges, failovers, failures and cancels the counters
equal what the emulator counted by itself, over one worker and over two; and a worker that dies
takes nothing with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes.converse_client import generate, start
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.metrics_page import MetricsPage
from tests.fakes.relay_fleet import all_ready, relay_fleet
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import chat_body, provider

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads on Linux alone"),
]

CHAT = "/v1/chat/completions"
TOKENS = 12
PLAIN, RPC, HEDGED, SPARED, LEFT = 24, 6, 8, 3, 5
"""Requests of each kind. That of 24 connections one worker of two gets none is one case in eight
million."""
BEHAVIOURS = {
    "good": f"emu:ttft=15,itl=1,tokens={TOKENS}",
    "slow": "emu:ttft=5000",
    "quick": f"emu:ttft=15,itl=1,tokens={TOKENS}",
    "down": "emu:fault=status:500",
    "spare": f"emu:ttft=15,itl=1,tokens={TOKENS}",
    "busy": "emu:fault=rate:7",
    "broken": "emu:ttft=15,itl=1,tokens=12,fault=reset@5",
    "long": "emu:ttft=15,itl=20,tokens=500",
}
FAILING = ("down", "busy", "broken")
UNSENT = ("breaker_open", "limit_exceeded")
OF_EMULATOR = {"clean": ("success",), "abandoned": ("lost", "cancelled"), "reset": ()}
"""Outcomes of attempts that it sees as this one, of answers that are good."""


def document(emulator: EmulatorProcess, name: str) -> dict[str, Any]:
    for kind, behaviour in BEHAVIOURS.items():
        emulator.script(f"{name}-{kind}", behaviour)

    def at(*kinds: str) -> list[dict[str, str]]:
        return [{"provider": "lab", "model": f"{name}-{kind}"} for kind in kinds]

    hedge = {"mode": "active", "delay": 30, "max_extra_requests": 1.0, "max_extra_cost": 1.0}
    row = provider(f"{emulator.base_url_tls}", ca_file=emulator.ca_file)
    return {
        "providers": {"lab": row},
        "models": {
            "plain": {"candidates": at("good")},
            "hedged": {"candidates": at("slow", "quick"), "hedge": hedge},
            "spared": {"candidates": at("down"), "fallbacks": at("spare")},
            "failing": {"candidates": at("busy")},
            "broken": {"candidates": at("broken")},
            "left": {"candidates": at("long")},
        },
    }


class Script:
    """Asks, and counts what came of it, as a client sees it."""

    def __init__(self, relay: RelayProcess) -> None:
        self._relay = relay
        self.answers: Counter[tuple[str, str]] = Counter()
        """By alias and outcome, as metrics call them."""

    async def chat(self, alias: str) -> None:
        """One request over a connection of its own, read to its end."""
        body = {**chat_body(alias), "stream_options": {"include_usage": True}}
        async with self._relay.http() as http:
            response = await http.post(CHAT, json=body)
        is_whole = response.status_code == 200 and '"error"' not in response.text
        self.answers[alias, "ok" if is_whole else "error"] += 1

    async def rpc(self, alias: str) -> None:
        async with self._relay.channel() as channel:
            generated = await generate(channel, start(model=alias))
        self.answers[alias, "ok" if generated.error is None else "error"] += 1

    async def leave(self, alias: str) -> None:
        """Hang up after some words."""
        async with (
            self._relay.http() as http,
            http.stream("POST", CHAT, json=chat_body(alias)) as response,
        ):
            async for _ in response.aiter_raw():
                break
        self.answers[alias, "cancelled"] += 1

    async def run(self) -> None:
        async with asyncio.TaskGroup() as asking:
            for _ in range(PLAIN):
                asking.create_task(self.chat("plain"))
            for _ in range(RPC):
                asking.create_task(self.rpc("plain"))
            for _ in range(LEFT):
                asking.create_task(self.leave("left"))
            for _ in range(3):
                asking.create_task(self.chat("failing"))
                asking.create_task(self.chat("broken"))
        for _ in range(SPARED):
            await self.chat("spared")
        for _ in range(HEDGED):
            await self.chat("hedged")


async def quiet(admin: httpx2.AsyncClient) -> MetricsPage:
    """The page once nothing runs any more."""
    async with asyncio.timeout(10):
        while True:
            page = await MetricsPage.get(admin)
            if not page.sum("rtrelay_generations_running") + page.sum("rtrelay_streams_open"):
                return page
            await asyncio.sleep(0.05)


def seen(emulator: EmulatorProcess, name: str, kind: str) -> Counter[str]:
    return Counter(str(one["outcome"]) for one in emulator.streams(model=f"{name}-{kind}"))


async def test_counters_are_what_the_emulator_counted(
    tmp_path: Path, emulator: EmulatorProcess
) -> None:
    """Over one worker."""
    async with (
        relay_fleet(tmp_path, document(emulator, "alone")) as (relay,),
        relay.http("admin") as admin,
    ):
        script = Script(relay)
        await script.run()
        check(await quiet(admin), script, emulator, "alone", workers=1)


async def test_two_workers_of_which_one_dies(tmp_path: Path, emulator: EmulatorProcess) -> None:
    """The same over two; and what the dead one had told stays."""
    async with (
        relay_fleet(tmp_path, document(emulator, "pair"), workers=2) as (relay,),
        relay.http("admin") as admin,
    ):
        script = Script(relay)
        await script.run()
        before = await quiet(admin)
        rows = (await admin.get("/admin/state")).json()["workers"].values()
        served = [row["state"]["hedging"]["aliases"]["plain"]["requests"] for row in rows]
        assert len([count for count in served if count]) == 2, "each has served some"
        check(before, script, emulator, "pair", workers=2)
        pids = await all_ready(relay, 2)

        # One that does not answer is told of, and not missed in silence.
        os.kill(pids[0], signal.SIGSTOP)
        stuck = await MetricsPage.get(admin)
        assert stuck.sum("rtrelay_workers") == 2
        assert stuck.sum("rtrelay_workers_answering") == 1
        assert stuck.by("worker", "rtrelay_worker_answers") == {"1": 1}
        assert set(stuck.by("worker", "rtrelay_uptime_seconds")) == {"1"}
        did_not_go_down(before, stuck)

        os.kill(pids[0], signal.SIGKILL)
        did_not_go_down(stuck, await MetricsPage.get(admin))
        await relay.logged("worker_died")
        async with asyncio.timeout(20):
            while (await MetricsPage.get(admin)).sum("rtrelay_workers_answering") < 2:
                await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as asking:
            for _ in range(PLAIN):
                asking.create_task(script.chat("plain"))
        after = await quiet(admin)
        did_not_go_down(stuck, after)
        check(after, script, emulator, "pair", workers=2)
        assert after.sum("rtrelay_worker_restarts_total") == 1


def check(
    page: MetricsPage, script: Script, emulator: EmulatorProcess, name: str, *, workers: int
) -> None:
    """Everything that the emulator and the clients counted too."""
    plain = script.answers["plain", "ok"]
    # What clients saw.
    for (alias, outcome), count in script.answers.items():
        by_outcome = page.by("outcome", "rtrelay_generations_total", alias=alias)
        assert by_outcome == {outcome: count}, alias
    assert plain % PLAIN == RPC
    assert script.answers["hedged", "ok"] == HEDGED
    assert script.answers["left", "cancelled"] == LEFT
    by_frontend = page.by("frontend", "rtrelay_generations_total", alias="plain")
    assert by_frontend == {"chat_completions": plain - RPC, "generate": RPC}

    # What the provider saw, model by model.
    for kind in BEHAVIOURS:
        model, streams = f"{name}-{kind}", seen(emulator, name, kind)
        assert streams, kind
        assert page.sum("rtrelay_attempts_sent_total", model=model) == streams.total(), kind
        outcomes = page.by("outcome", "rtrelay_attempts_total", model=model)
        if kind in FAILING:  # beside those that a breaker or a limit kept back, unsent
            assert set(outcomes) <= {"failure", "overload"}, kind
            reasons = page.by("reason", "rtrelay_attempt_errors_total", model=model)
            sent = {why: count for why, count in reasons.items() if why not in UNSENT}
            assert sum(sent.values()) == streams.total(), (kind, reasons)
            assert sum(outcomes.values()) == sum(reasons.values()), kind
        else:
            for theirs, ours in OF_EMULATOR.items():
                told = sum(outcomes.get(outcome, 0) for outcome in ours)
                assert told == streams[theirs], (kind, outcomes, streams)
            assert sum(outcomes.values()) == streams.total(), kind

    good = emulator.streams(model=f"{name}-good")
    tokens = sum(int(one["tokens"]) for one in good)
    assert tokens == plain * TOKENS
    assert page.sum("rtrelay_tokens_total", model=f"{name}-good", kind="completion") == tokens
    gaps = page.sum("rtrelay_token_gap_mean_seconds_count", model=f"{name}-good")
    assert gaps == len(good)

    # Hedges: one to `quick` for each answer, and no others were asked there.
    hedged = page.sum("rtrelay_hedges_sent_total")
    quick = page.by("role", "rtrelay_attempts_total", model=f"{name}-quick")
    assert hedged == quick["hedge"] == page.sum("rtrelay_hedges_sent_total", alias="hedged")
    assert (
        page.sum("rtrelay_hedges_won_total")
        == hedged
        == seen(emulator, name, "quick")["clean"]
        - (quick.get("primary", 0) + quick.get("failover", 0))
    )
    assert hedged >= HEDGED / 2
    lost = page.sum("rtrelay_attempts_total", outcome="lost")
    assert lost == seen(emulator, name, "slow")["abandoned"] == hedged
    failovers = page.sum("rtrelay_attempts_total", role="failover", outcome="success")
    assert failovers == seen(emulator, name, "spare")["clean"]

    # And the histograms hold each answer once.
    for alias, count in (("plain", plain), ("hedged", HEDGED), ("left", LEFT)):
        assert page.sum("rtrelay_ttft_seconds_count", alias=alias) == count
        assert page.sum("rtrelay_ttft_seconds_bucket", alias=alias, le="+Inf") == count
    ended = script.answers.total()
    assert page.sum("rtrelay_generation_seconds_count") == ended
    assert page.sum("rtrelay_phase_seconds_count", phase="admission") == ended
    assert page.sum("rtrelay_generation_errors_total") == ended - sum(
        count for (_, outcome), count in script.answers.items() if outcome == "ok"
    )
    assert page.sum("rtrelay_workers") == page.sum("rtrelay_workers_answering") == workers


def did_not_go_down(before: MetricsPage, after: MetricsPage) -> None:
    now = after.counters
    assert {name: value for name, value in before.counters.items() if now[name] < value} == {}
