"""The recipes of docs/rules.md, served by a whole worker in front of the emulator: which model is
asked, by which rule, at which price."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from relay.config import parse
from relay.config_warnings import warnings
from relay.outcome import GenerationEnd
from relay.prices import known_price
from tests.fakes.converse_client import start
from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.relay_under_test import Document, RelayUnderTest, relay_under_test

__all__ = ["emulator"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
RECIPES: dict[str, Document] = {
    title: yaml.safe_load(block)
    for title, block in re.findall(r"^### ([^\n]+)\n\n```yaml\n(.*?)```", PAGE, re.M | re.S)
}
MINI, LARGE = "openai/gpt-4o-mini", "openai/gpt-4o"
INSTANT, VERSATILE = "groq/llama-3.1-8b-instant", "groq/llama-3.3-70b-versatile"
TOOL = {"type": "function", "function": {"name": "book"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x.test/1.png"}}


class Told(NamedTuple):
    """What became of one request."""

    asked: str
    """`provider/model` that answered; empty where none was asked."""
    rule: str
    as_asked: str
    """The name that the client asked for, where it became another."""
    end: GenerationEnd


class Kitchen:
    """A relay with one recipe, and what is told of its ends."""

    def __init__(self, relay: RelayUnderTest) -> None:
        self.relay = relay
        self.ends: list[GenerationEnd] = []
        relay.worker.services.on_ended.append(lambda ended: self.ends.append(ended.end))

    async def ask(self, model: str, content: Any = "Hello", **more: Any) -> Told:
        """One request to the shim; it must be answered.

        Args:
            more: fields of the body; those that begin with `x_relay_` are headers.
        """
        headers = {key: more.pop(key) for key in [*more] if key.startswith("x_relay_")}
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        answer = await self.relay.chat({"max_tokens": 20, **body}, **headers)
        assert answer.status_code == 200, answer.text
        return self.told()

    def told(self) -> Told:
        """Of the generation that ended last."""
        end = self.ends[-1]
        decision = end.decision
        winner = next((one for one in end.attempts if one.is_winner), None)
        return Told(
            "" if winner is None else f"{winner.provider}/{winner.model}",
            "" if decision is None else decision.rule,
            "" if decision is None else decision.asked,
            end,
        )


@asynccontextmanager
async def kitchen(emulated: EmulatorProcess, title: str) -> AsyncIterator[Kitchen]:
    """The recipe of a heading, its providers played by the emulator."""
    document = yaml.safe_load(yaml.safe_dump(RECIPES[title]))
    document["providers"] = {
        candidate["provider"]: {
            "base_url": f"{emulated.base_url_tls}/v1",
            "ca_file": emulated.ca_file,
            "auth": "none",
            "warm_connections": 1,
        }
        for alias in document["models"].values()
        for candidate in alias["candidates"]
    }
    async with relay_under_test(document) as relay:
        yield Kitchen(relay)


def is_paid(told: Told) -> None:
    """It cost what the model that was asked costs, and nothing else."""
    door, _, model = told.asked.partition("/")
    price, usage = known_price(door, model), told.end.usage
    assert price is not None
    assert usage is not None
    (attempt,) = told.end.attempts
    cost = price.of(usage.prompt_tokens, usage.cached_tokens or 0, usage.completion_tokens)
    assert attempt.cost == pytest.approx(cost)


# --- the file -------------------------------------------------------------------------------


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_taken_without_a_warning(title: str) -> None:
    rows = {"openai": {"auth": "none"}, "groq": {"auth": "none"}}
    config = parse({"providers": rows, **RECIPES[title]}, {})
    assert [line for line in warnings(config) if "policies" in line] == []


def test_each_recipe_is_served_below() -> None:
    served = re.findall(r'kitchen\(emulator, "(.*)"\)', Path(__file__).read_text(encoding="utf-8"))
    assert {*served} == {*RECIPES}
    assert len(RECIPES) >= 11


# --- served ---------------------------------------------------------------------------------


@pytest.mark.sockets
async def test_hard_questions(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Hard questions to the better model") as relay:
        for more, model, rule in (
            ({}, MINI, "rest"),
            ({"tools": [TOOL]}, LARGE, "tools"),
            ({"response_format": SCHEMA}, LARGE, "schema"),
            ({"content": [{"type": "text", "text": "See"}, PICTURE]}, LARGE, "seeing"),
            ({"content": "word " * 2000}, LARGE, "long"),
        ):
            told = await relay.ask("auto", **more)
            assert told[:3] == (model, rule, "auto")
            is_paid(told)
        assert (await relay.ask("accurate"))[:3] == (LARGE, "", "")
        listed = (await relay.relay.http.get("/v1/models")).json()["data"]
        assert "auto" in {row["id"] for row in listed}


@pytest.mark.sockets
async def test_cheap_by_tag(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Cheap by tag, the cheapest first") as relay:
        told = await relay.ask("tag:cheap")
        assert told[:3] == (INSTANT, "cheapest", "tag:cheap")
        is_paid(told)
        unknown = await relay.relay.chat({"model": "tag:none", "messages": [{"role": "user"}]})
        assert unknown.status_code == 404


async def learn(relay: Kitchen, alias: str, ttft_s: float) -> None:
    """As if its first target had been asked some hundred times."""
    services = relay.relay.worker.services
    target = services.catalog.resolve(alias).candidates[0]
    state = services.planner.states.of(target, services.clock())
    for _ in range(600):
        state.latency.record(ttft_s, 0, 0, services.clock())
    state.refresh(services.clock())


@pytest.mark.sockets
async def test_cheap_and_in_time(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "The cheapest that is fast enough") as relay:
        assert (await relay.ask("voice"))[:3] == (INSTANT, "in-time", "voice")
        await learn(relay, "quick", 0.9)
        assert (await relay.ask("voice"))[:3] == (MINI, "in-time", "voice")
        await learn(relay, "usual", 0.9)
        assert (await relay.ask("voice"))[:3] == (MINI, "anyway", "voice")


@pytest.mark.sockets
async def test_the_fastest(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "The fastest now") as relay:
        assert (await relay.ask("voice"))[:3] == (MINI, "fastest", "voice")
        await learn(relay, "usual", 0.6)
        await learn(relay, "quick", 0.2)
        assert (await relay.ask("voice"))[:3] == (INSTANT, "fastest", "voice")


@pytest.mark.sockets
async def test_when_it_is_slow(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "When the usual one is slow") as relay:
        assert (await relay.ask("usual"))[:3] == (MINI, "", "")
        await learn(relay, "usual", 0.9)
        told = await relay.ask("usual")
        assert told[:3] == (INSTANT, "slow", "usual")
        is_paid(told)


@pytest.mark.sockets
async def test_by_language(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "By language") as relay:
        german = await relay.ask("usual", "Wann kommt der nächste Zug, bitte?")
        assert german[:3] == (VERSATILE, "german", "usual")
        assert (await relay.ask("usual", "When is the next train?"))[:3] == (MINI, "", "")
        assert (await relay.ask("usual", "ok"))[:3] == (MINI, "", "")


@pytest.mark.sockets
async def test_by_the_clock(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kitchen(emulator, "Nights and weekends for less") as relay:
        for now_s, model, rule in (
            (1_795_791_600, LARGE, ""),  # Friday, 2026-11-27, 16:00 in Berlin
            (1_795_809_600, MINI, "night"),  # 21:00
            (1_795_878_000, MINI, "weekend"),  # Saturday, 16:00
        ):
            monkeypatch.setattr("relay.surroundings.time.time", lambda at=now_s: float(at))
            assert (await relay.ask("accurate"))[:2] == (model, rule)


@pytest.mark.sockets
async def test_by_customer(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "By customer, and who is staff") as relay:
        assert (await relay.ask("usual"))[:2] == (MINI, "")
        assert (await relay.ask("usual", user="gold-7"))[:2] == (LARGE, "gold")
        staff = {"metadata": {"staff": "yes"}, "user": "gold-7"}
        assert (await relay.ask("usual", **staff))[:2] == (VERSATILE, "staff")
        assert (await relay.ask("usual", x_relay_tags="a,try-next"))[:2] == (VERSATILE, "asked")


@pytest.mark.sockets
async def test_old_names(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Old names, new models") as relay:
        for name, model, rule in (
            ("gpt-3.5-turbo-0125", MINI, "old-small"),
            ("claude-instant-1.2", MINI, "old-small"),
            ("gpt-4-0613", LARGE, "old-large"),
            ("gpt-4", LARGE, "old-large"),
        ):
            assert (await relay.ask(name))[:3] == (model, rule, name)


@pytest.mark.sockets
async def test_spoken_turns(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Spoken turns are short, raced and on time") as relay:
        found = await relay.relay.generate(start(model="usual"))
        assert found.error is None
        spoken = relay.told()
        assert (spoken.rule, len(spoken.end.attempts)) == ("spoken", 2)
        typed = await relay.ask("usual")
        assert (typed.asked, typed.rule, len(typed.end.attempts)) == (MINI, "", 1)


@pytest.mark.sockets
async def test_what_is_refused(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "What this relay is not for") as relay:
        assert (await relay.ask("usual"))[:2] == (MINI, "")
        for content, message in (
            ([PICTURE], "pictures are not taken here"),
            ("word " * 5000, "prompts are at most 5000 tokens"),
        ):
            body = {"model": "usual", "messages": [{"role": "user", "content": content}]}
            answer = await relay.relay.chat(body)
            assert answer.status_code == 403
            assert answer.json()["error"]["message"] == message
            assert not relay.told().end.attempts


@pytest.mark.sockets
async def test_many_at_once_are_each_decided_for_themselves(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Hard questions to the better model") as relay:
        tools = [{}, {"tools": [TOOL]}] * 8
        answers = await asyncio.gather(*(relay.ask("auto", **more) for more in tools))
        assert len(answers) == 16
        rules = sorted(end.decision.rule for end in relay.ends if end.decision is not None)
        assert rules == ["rest"] * 8 + ["tools"] * 8
