"""Metrics truth: after a script of answers, hedges, failovers, failures, cancels, silences and
policies the counters equal what the emulator counted by itself, money its count times the price,
over one worker and over two; and a worker that dies takes nothing with it."""

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
PLAIN, RPC, HEDGED, SPARED, LEFT, LATE = 24, 6, 8, 3, 5, 4
"""Requests of each kind. That of 24 connections one worker of two gets none is one case in eight
million."""
ARMS, RULED, EASY, UNSURE, GUARDED, TRIPPING = 16, 5, 4, 3, 3, 24
TEXTS, ROUNDS = ("one", "two", "three"), 4
"""Of what the cache is for: each text so many times, one after another."""
ADDRESS = "jo.doe@example.com"
NOT_SURE = "I am not sure" + " what to make of it" * 30
"""As the small model repeats it: cut off long before its end."""
IN_A_ROW = 5
"""Failures that open a breaker."""
PROMPT_TOKENS = 30
GOOD = f"emu:ttft=15,itl=1,tokens={TOKENS},usage_in={PROMPT_TOKENS}"
INPUT_USD, OUTPUT_USD = 2.0, 8.0
"""Per million tokens."""
ANSWER_USD = (PROMPT_TOKENS * INPUT_USD + TOKENS * OUTPUT_USD) / 1e6
DEAD_AIR_MS = 2000
BEHAVIOURS = {
    "good": GOOD,
    "slow": "emu:ttft=5000",
    "quick": GOOD,
    "down": "emu:fault=status:500",
    "spare": GOOD,
    "busy": "emu:fault=rate:7",
    "broken": "emu:ttft=15,itl=1,tokens=12,fault=reset@5",
    "long": "emu:ttft=15,itl=20,tokens=500",
    "late": f"emu:ttft={DEAD_AIR_MS + 300},itl=1,tokens={TOKENS},usage_in={PROMPT_TOKENS}",
    "arm": GOOD,
    "rival": GOOD,
    "cheap": GOOD,
    "faq": GOOD,
    "guarded": GOOD,
    "small": "emu:ttft=15,itl=5,text=echo",
    "large": GOOD,
    "dead": "emu:fault=status:500",
    "relief": GOOD,
}
WHOLE = (
    "good",
    "quick",
    "spare",
    "late",
    "arm",
    "rival",
    "cheap",
    "faq",
    "guarded",
    "large",
    "relief",
)
"""Models whose every answer is whole, or else was never begun."""
FAILING = ("down", "busy", "broken", "dead")
UNSENT = ("breaker_open", "limit_exceeded")
OF_EMULATOR = {"clean": ("success",), "abandoned": ("lost", "cancelled"), "reset": ()}
"""Outcomes of attempts that it sees as this one, of answers that are good."""


def document(emulator: EmulatorProcess, name: str) -> dict[str, Any]:
    for kind, behaviour in BEHAVIOURS.items():
        emulator.script(f"{name}-{kind}", behaviour)

    def at(*kinds: str) -> list[dict[str, str]]:
        return [{"provider": "lab", "model": f"{name}-{kind}"} for kind in kinds]

    hedge = {"mode": "active", "delay": 30, "max_extra_requests": 1.0, "max_extra_cost": 1.0}
    price = {"input": INPUT_USD, "output": OUTPUT_USD}
    prices = {f"{name}-{kind}": price for kind in BEHAVIOURS}
    row = provider(f"{emulator.base_url_tls}", ca_file=emulator.ca_file, prices=prices)
    arms = [{"name": "now", "use": "arms"}, {"name": "new", "use": "rival"}]
    escalate = {"phrases": ["I am not sure"]}
    return {
        "observability": {"metrics": {"dead_air_ms": DEAD_AIR_MS}},
        "policies": {
            "rules": [{"name": "batch", "when": {"tags": ["batch"]}, "use": "cheap"}],
            "experiments": {"ab": {"model": "arms", "arms": arms, "sticky": "none"}},
            "cascades": {"helped": {"small": "small", "large": "large", "escalate": escalate}},
        },
        "cache": {"exact": {"models": ["faq"]}},
        "guardrails": {
            "rails": {
                "mail": {
                    "scan": {"kind": "pii"},
                    "where": {"models": ["guarded"]},
                    "action": "redact",
                }
            }
        },
        "providers": {"lab": row},
        "models": {
            "plain": {"candidates": at("good")},
            "hedged": {"candidates": at("slow", "quick"), "hedge": hedge},
            "spared": {"candidates": at("down"), "fallbacks": at("spare")},
            "failing": {"candidates": at("busy")},
            "broken": {"candidates": at("broken")},
            "left": {"candidates": at("long")},
            "late": {"candidates": at("late")},
            "arms": {"candidates": at("arm")},
            "rival": {"candidates": at("rival")},
            "ruled": {"candidates": at("good")},
            "cheap": {"candidates": at("cheap")},
            "faq": {"candidates": at("faq")},
            "guarded": {"candidates": at("guarded")},
            "small": {"candidates": at("small")},
            "large": {"candidates": at("large")},
            "tripped": {"candidates": at("dead"), "fallbacks": at("relief")},
        },
    }


class Script:
    """Asks, and counts what came of it, as a client sees it."""

    def __init__(self, relay: RelayProcess) -> None:
        self._relay = relay
        self.answers: Counter[tuple[str, str]] = Counter()
        """By alias and outcome, as metrics call them."""

    async def chat(self, alias: str, text: str = "Hello", **headers: str) -> None:
        """One request over a connection of its own, read to its end."""
        body = {**chat_body(alias, text), "stream_options": {"include_usage": True}}
        async with self._relay.http() as http:
            response = await http.post(CHAT, json=body, headers=headers)
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
            for _ in range(LATE):
                asking.create_task(self.chat("late"))
            for _ in range(ARMS):
                asking.create_task(self.chat("arms"))
            for _ in range(RULED):
                asking.create_task(self.chat("ruled", **{"x-relay-tags": "batch"}))
            for _ in range(GUARDED):
                asking.create_task(self.chat("guarded", f"Write to {ADDRESS}"))
            asking.create_task(self.chat("guarded"))
            for number in range(EASY):
                asking.create_task(self.chat("helped", f"Where is room {number}?"))
            for _ in range(UNSURE):
                asking.create_task(self.chat("helped", NOT_SURE))
        for _ in range(SPARED):
            await self.chat("spared")
        for _ in range(HEDGED):
            await self.chat("hedged")
        for text in TEXTS * ROUNDS:
            await self.chat("faq", text)
        for _ in range(TRIPPING):
            await self.chat("tripped")


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
        page = await quiet(admin)
        check(page, script, emulator, "alone", workers=1)
        check_breaker(page, emulator, "alone", workers=1)


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
        check_breaker(before, emulator, "pair", workers=2)
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
    failovers = page.sum(
        "rtrelay_attempts_total", role="failover", outcome="success", model=f"{name}-spare"
    )
    assert failovers == seen(emulator, name, "spare")["clean"]

    check_money(page, emulator, name)
    check_dead_air(page, plain)
    check_policies(page, emulator, name)

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


def check_money(page: MetricsPage, emulator: EmulatorProcess, name: str) -> None:
    """What each whole answer cost, by the emulator's count; and that all of it was spent."""
    for kind in WHOLE:
        streams = seen(emulator, name, kind)
        assert set(streams) == {"clean"}, kind
        cost = page.sum("rtrelay_attempt_cost_usd_total", model=f"{name}-{kind}")
        assert cost == pytest.approx(streams.total() * ANSWER_USD, rel=1e-9), kind
    # Of what was cut short less than the whole is known, and more than nothing.
    for kind in ("slow", "long"):
        assert page.sum("rtrelay_attempt_cost_usd_total", model=f"{name}-{kind}") > 0
    for kind in ("down", "busy", "dead"):
        assert page.sum("rtrelay_attempt_cost_usd_total", model=f"{name}-{kind}") == 0
    assert page.sum("rtrelay_attempts_unpriced_total") == 0
    whole = page.sum("rtrelay_attempt_cost_usd_total")
    assert page.by("team", "rtrelay_spend_usd_total") == {"": pytest.approx(whole, rel=1e-9)}


def check_dead_air(page: MetricsPage, plain: int) -> None:
    """Of the scripted silences each, and of what was quick none."""
    for alias, judged, silent in (
        ("late", LATE, LATE),
        ("plain", plain, 0),
        ("hedged", HEDGED, 0),
        ("failing", 3, 3),  # nothing came, which is a silence too
        ("left", LEFT, 0),
    ):
        assert page.sum("rtrelay_dead_air_judged_total", alias=alias) == judged, alias
        assert page.sum("rtrelay_dead_air_generations_total", alias=alias) == silent, alias


def check_policies(page: MetricsPage, emulator: EmulatorProcess, name: str) -> None:
    """Choices are what was scripted, and what was asked is what they say."""

    def chosen(kind: str, policy: str) -> dict[str, float]:
        return page.by("outcome", "rtrelay_policy_choices_total", kind=kind, name=policy)

    def asked(kind: str) -> int:
        return seen(emulator, name, kind).total()

    assert chosen("rule", "batch") == {"matched": RULED} == {"matched": asked("cheap")}
    assert chosen("experiment", "ab") == {"now": asked("arm"), "new": asked("rival")}
    assert asked("arm") + asked("rival") == ARMS
    assert chosen("cascade", "helped") == {"small": EASY, "escalated": UNSURE}
    assert seen(emulator, name, "small") == {"clean": EASY, "abandoned": UNSURE}
    assert asked("large") == UNSURE

    found = page.by("action", "rtrelay_guardrail_verdicts_total", guardrail="mail", side="input")
    assert found == {"redact": GUARDED}
    prompts = [one["prompt_start"] for one in emulator.streams(model=f"{name}-guarded")]
    assert (len(prompts), prompts.count("Hello")) == (GUARDED + 1, 1)
    assert ADDRESS not in " ".join(prompts)

    verdicts = page.by("verdict", "rtrelay_cache_lookups_total", alias="faq")
    misses = asked("faq")  # each worker has a memory of its own
    assert verdicts == {"miss": misses, "hit": len(TEXTS) * ROUNDS - misses}
    saved = page.sum("rtrelay_cache_saved_usd_total", alias="faq")
    assert saved == pytest.approx(verdicts["hit"] * ANSWER_USD, rel=1e-9)


def check_breaker(page: MetricsPage, emulator: EmulatorProcess, name: str, *, workers: int) -> None:
    """One that trips keeps the rest away: what came to the provider is what made it trip."""
    trips = page.sum("rtrelay_breaker_trips_total", model=f"{name}-dead")
    states = page.by("state", "rtrelay_breaker_state", model=f"{name}-dead")
    came = seen(emulator, name, "dead").total()
    assert 1 <= trips <= workers
    assert trips == workers - states.get("closed", 0)
    # A worker that hears of another's trip opens its own sooner.
    assert IN_A_ROW <= came <= IN_A_ROW * workers
    assert seen(emulator, name, "relief").total() == TRIPPING
    assert page.sum("rtrelay_breaker_trips_total", model=f"{name}-good") == 0


def did_not_go_down(before: MetricsPage, after: MetricsPage) -> None:
    now = after.counters
    assert {name: value for name, value in before.counters.items() if now[name] < value} == {}
