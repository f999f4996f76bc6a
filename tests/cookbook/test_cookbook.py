"""The recipes of docs/cookbook.md, served by a whole worker in front of the emulator: who is asked,
what is decided, what is paid. And its index: every recipe of every page is in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from relay.config import known_providers
from relay.outcome import GenerationEnd
from relay.prices import known_price
from tests.docs.pages import DOCS
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.relay_under_test import Document, RelayUnderTest, relay_under_test

PAGE: Final = (DOCS / "cookbook.md").read_text(encoding="utf-8")
RECIPE: Final = re.compile(r"^### ([^\n]+)\n\n(?:(?!#)[^\n]*\n)*?```yaml\n(.*?)```", re.M | re.S)
RECIPES: Final[dict[str, Document]] = {
    title: yaml.safe_load(block) for title, block in RECIPE.findall(PAGE)
}
DOWN: Final = {"fault": "status:503"}
IN, OUT = 100, 20


class Kitchen:
    """A relay with one recipe."""

    def __init__(self, relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
        self.relay = relay
        self._emulator = emulator
        self.ends: list[GenerationEnd] = []
        relay.worker.services.on_ended.append(lambda ended: self.ends.append(ended.end))

    def says(self, model: str, **behaviour: Any) -> None:
        self._emulator.script(model, {"text": "Hello.", "itl": 0, "in": IN, "out": OUT} | behaviour)

    def says_once(self, model: str, **behaviour: Any) -> None:
        said = {"text": "Hello.", "itl": 0, "in": IN, "out": OUT} | behaviour
        self._emulator.script(model, said, next_requests=1)

    async def answer(self, model: str, **more: Any) -> httpx2.Response:
        headers = {key: more.pop(key) for key in [*more] if key.startswith("x_relay_")}
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
        return await self.relay.chat(body, **headers)

    async def ask(self, model: str, **more: Any) -> tuple[str, GenerationEnd]:
        """`provider/model` that answered, at its price and no other's; and the end."""
        answer = await self.answer(model, **more)
        assert answer.status_code == 200, answer.text
        end = self.ends[-1]
        (winner,) = [one for one in end.attempts if one.is_winner]
        provider, asked = answer.headers["x-relay-provider"], answer.headers["x-relay-model"]
        price = known_price(provider, asked)
        assert price is not None
        assert winner.cost == pytest.approx(price.of(IN, 0, OUT))
        return f"{provider}/{asked}", end

    def asked(self, model: str) -> int:
        return len(self._emulator.streams(model=model))


@asynccontextmanager
async def kitchen(emulator: EmulatorProcess, title: str) -> AsyncIterator[Kitchen]:
    """The recipe of a heading, its providers played by the emulator in their own formats."""
    document = played(emulator, title)
    async with relay_under_test(document) as relay:
        made = Kitchen(relay, emulator)
        for _, model in targets_of(document):
            made.says(model)
        yield made


def targets_of(document: Document) -> list[tuple[str, str]]:
    return [
        (one["provider"], one["model"])
        for alias in document["models"].values()
        for one in (*alias["candidates"], *alias.get("fallbacks", ()))
    ]


def played(emulator: EmulatorProcess, title: str) -> Document:
    """The recipe of a heading with the emulator behind it, which forgets what it knew."""
    emulator.reset()
    document: Document = yaml.safe_load(yaml.safe_dump(RECIPES[title]))
    doors = document.get("providers", {})
    document["providers"] = {
        name: {
            **{key: value for key, value in doors.get(name, {}).items() if key != "api_key"},
            "base_url": emulator.base_url_tls + _path(doors.get(name, {}).get("door", name)),
            "ca_file": emulator.ca_file,
            "auth": "none",
            "warm_connections": 1,
        }
        for name, _ in targets_of(document)
    }
    return document


def _path(door: str) -> str:
    """Of its address, as far as the emulator has it."""
    return "/v1" if known_providers()[door]["base_url"].endswith("/v1") else ""


# --- the index ------------------------------------------------------------------------------


def test_each_recipe_is_served_below() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {*re.findall(r'(?:kitchen|played)\(emulator, "(.*)"\)', text)} == {*RECIPES}


@pytest.mark.parametrize(
    ("page", "test"),
    [
        ("cookbook.md", "test_cookbook.py"),
        ("rules.md", "test_rules.py"),
        ("cascades.md", "test_cascade.py"),
        ("panels.md", "test_panel.py"),
        ("cache.md", "test_exact_cache.py"),
        ("semantic-cache.md", "test_semantic_cache.py"),
        ("guardrails.md", "test_guardrails.py"),
    ],
)
def test_every_recipe_of_a_page_is_in_the_index_and_in_a_test(page: str, test: str) -> None:
    """Under a heading of its own, or as a cascade or panel by its name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    served = (Path(__file__).parent / test).read_text(encoding="utf-8")
    titles = (
        list(RECIPES)
        if page == "cookbook.md"
        else re.findall(r"^### ([^\n]+)\n\n```yaml", text, re.M)
    )
    names = re.findall(r"^  (?:cascades|panels):\n    (\w+):", text, re.M)
    assert titles or names
    for title in titles:
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        assert f"({page if page != 'cookbook.md' else ''}#{anchor})" in PAGE, title
        assert f'"{title}"' in served, title
    for name in names:
        assert f"[`{name}`]({page}" in PAGE, name
        assert f'kitchen("{name}"' in served or f'kitchen(\n        "{name}"' in served, name


# --- the recipes ----------------------------------------------------------------------------


async def test_failover(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "One provider, another when it fails") as k:
        target, end = await k.ask("fast")
        assert (target, len(end.attempts)) == ("openai/gpt-4o-mini", 1)
        k.says("gpt-4o-mini", **DOWN)
        target, end = await k.ask("fast")
        assert target == "anthropic/claude-haiku-4-5"
        assert [one.cost for one in end.attempts if not one.is_winner] == [0]


async def test_equals(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Equals, whoever is quickest now") as k:
        first = {(await k.ask("fast", x_relay_session_id="call-1"))[0] for _ in range(4)}
        assert len(first) == 1
        model = first.pop().partition("/")[2]
        k.says(model, **DOWN)
        assert (await k.ask("fast", x_relay_session_id="call-1"))[0].partition("/")[2] != model


async def test_cheapest(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "The cheapest first") as k:
        assert (await k.ask("cheap"))[0] == "groq/llama-3.1-8b-instant"
        k.says("llama-3.1-8b-instant", **DOWN)
        assert (await k.ask("cheap"))[0] == "openai/gpt-4o-mini"


async def test_cut_the_tail(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Cut the tail, 5 % more requests at most") as k:
        target, end = await k.ask("voice", x_relay_hedge="race")
        assert (target, len(end.attempts)) == ("openai/gpt-4o-mini", 1)
        assert end.hedge is not None  # decided, told, and not sent
        assert k.asked("gemini-2.5-flash") == 0
        k.says("gpt-4o-mini", **DOWN)
        assert (await k.ask("voice"))[0] == "gemini/gemini-2.5-flash"


async def test_dearer_tier(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "The same model, a dearer tier when it is slow") as k:
        target, end = await k.ask("voice")
        assert (target, len(end.attempts)) == ("openai/gpt-4o-mini", 1)
        k.says_once("gpt-4o-mini", ttft=3000)
        answer = await k.answer("voice", x_relay_hedge="race")
        assert answer.status_code == 200
        end = k.ends[-1]
        assert end.hedge is not None
        assert (end.hedge.second, end.hedge.won) == ("openai/gpt-4o-mini#priority", True)
        dearer = next(one.cost for one in end.attempts if one.is_winner)
        price = known_price("openai", "gpt-4o-mini")
        assert price is not None
        assert dearer is not None
        assert 1.0 < dearer / price.of(IN, 0, OUT) <= 2.0


async def test_reasoning(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Reasoning has its own patience") as k:
        target, end = await k.ask("deep", reasoning_effort="low")
        assert (target, len(end.attempts)) == ("openai/gpt-5-mini", 1)


async def test_zone(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "Never out of the zone") as k:
        answer = await k.answer("eu-only")
        assert (answer.status_code, answer.headers["x-relay-provider"]) == (200, "there")
        k.says("mistral-small-latest", **DOWN)
        assert (await k.answer("eu-only")).status_code == 503


async def test_some_may_have_it(emulator: EmulatorProcess, tmp_path: Path) -> None:
    document = played(emulator, "Some may have it, others not")
    rest = {key: value for key, value in document.items() if key not in ("store", "auth")}
    async with keyed_relay(tmp_path, rest) as there:
        key = await there.key(scopes={"model_tags": ["cheap"]})
        codes = {}
        for model in ("fast", "deep"):
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            answer = await there.relay.chat(body, authorization=f"Bearer {key}")
            codes[model] = answer.status_code
        assert codes == {"fast": 200, "deep": 403}
