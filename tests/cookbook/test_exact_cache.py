"""The recipes of docs/cache.md, served by a whole worker in front of the emulator: who is asked,
what the decision says, what is paid and what is saved."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.fakes.books import Books
from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_under_test import Document, RelayUnderTest, provider, relay_under_test
from tests.fakes.servers import own_redis

__all__ = ["emulator", "own_redis"]
pytestmark = pytest.mark.sockets

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
RECIPES: dict[str, Document] = {
    title: yaml.safe_load(block)
    for title, block in re.findall(r"^### ([^\n]+)\n\n```yaml\n(.*?)```", PAGE, re.M | re.S)
}
PRICE = {"input": 1.0, "output": 10.0}
"""Micro-dollars a token."""
IN, OUT = 100, 3
COST_MICRO = round(IN * PRICE["input"] + OUT * PRICE["output"])


class Kitchen:
    """A relay with one recipe."""

    def __init__(self, relay: RelayUnderTest, emulator: EmulatorProcess, url: str) -> None:
        self.relay = relay
        self._emulator = emulator
        self._url = url

    async def ask(self, model: str, text: str = "Hello", **more: Any) -> tuple[str, str]:
        """Returns: the answer's text, and what is said of the cache."""
        headers = {key: more.pop(key) for key in [*more] if key.startswith("x_relay_")}
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        answer = await self.relay.chat(body, **headers)
        assert answer.status_code == 200, answer.text
        content = answer.json()["choices"][0]["message"]["content"]
        return content, answer.headers["x-relay-cache"]

    def calls(self) -> int:
        """That the provider has seen."""
        return len(self._emulator.streams())

    async def booked(self) -> list[dict[str, Any]]:
        """All rows, the oldest first."""
        await self.relay.settled()
        books = Books(self._url)
        try:
            return books.rows("SELECT * FROM generations ORDER BY admitted_at_us")
        finally:
            books.close()


@asynccontextmanager
async def kitchen(
    emulator: EmulatorProcess, title: str, folder: Path, **more: Any
) -> AsyncIterator[Kitchen]:
    """The recipe of a heading, its provider played by the emulator."""
    emulator.reset()
    behaviour = {"text": "Good day!", "ttft": 5, "itl": 2, "in": IN, "out": OUT}
    emulator.script("gpt-4o-mini", behaviour)
    document: Document = {**RECIPES[title], **more}
    url = f"sqlite:///{folder / 'relay.db'}"
    row = provider(emulator.base_url_tls, ca_file=emulator.ca_file, cancel_billing="stops")
    document["providers"] = {"openai": {**row, "prices": {"gpt-4o-mini": PRICE, "large": PRICE}}}
    document["store"] = {**document.get("store", {}), "url": url}
    async with relay_under_test(document) as relay:
        yield Kitchen(relay, emulator, url)


def test_each_recipe_is_served_below() -> None:
    served = re.findall(
        r'kitchen\(\s*emulator, "(.*?)"', Path(__file__).read_text(encoding="utf-8")
    )
    assert {*served} == {*RECIPES}
    assert len(RECIPES) == 4


async def test_greetings(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen(emulator, "A minute of greetings and menus", tmp_path) as at:
        assert await at.ask("voice") == ("Good day!", "miss")
        assert await at.ask("voice") == ("Good day!", "hit")
        assert (await at.ask("voice", "Goodbye"))[1] == "miss"
        assert at.calls() == 2
        first, hit, other = await at.booked()
        decision = orjson.loads(hit["decision"])
        assert decision["cache"] == "hit"
        assert decision["saved_micro"] == hit["saved_micro"] == COST_MICRO
        assert decision["cache_age_s"] < 60
        assert hit["settled_micro"] == 0
        assert first["settled_micro"] == other["settled_micro"] == COST_MICRO
        assert (first["saved_micro"], other["saved_micro"]) in ((0, 0), (None, None))
        assert (hit["provider"], hit["model"]) == ("openai", "gpt-4o-mini")


async def test_what_a_cascade_saves_is_all_that_it_had_cost(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    """Here of a small model's answer and the large one's in its place."""
    cascade = {"small": "openai/gpt-4o-mini", "large": "openai/large"}
    policies = {"cascades": {"voice": cascade}}
    title = "A minute of greetings and menus"
    async with kitchen(emulator, title, tmp_path, models={}, policies=policies) as at:
        refusal = {"text": "I'm sorry, but I can't help with that.", "ttft": 1, "itl": 0}
        emulator.script("gpt-4o-mini", {**refusal, "in": IN, "out": OUT})
        emulator.script("large", {"text": "Of course.", "ttft": 1, "itl": 0, "in": IN, "out": OUT})
        assert await at.ask("voice") == ("Of course.", "miss")
        assert await at.ask("voice") == ("Of course.", "hit")
        first, hit = await at.booked()
        assert first["settled_micro"] > COST_MICRO
        assert (hit["settled_micro"], hit["saved_micro"]) == (0, first["settled_micro"])


async def test_deterministic(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen(emulator, "The deterministic part of one model, an hour", tmp_path) as at:
        for model, more, told in (
            ("voice", {"temperature": 0}, "bypass"),
            ("classify", {}, "bypass"),
            ("classify", {"temperature": 0.5}, "bypass"),
            ("classify", {"temperature": 0}, "hit"),
            ("classify", {"seed": 7, "temperature": 0.5}, "hit"),
        ):
            await at.ask(model, **more)
            assert (await at.ask(model, **more))[1] == told
        assert at.calls() == 8


async def test_paced(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen(
        emulator, "Never wait for a twin, and sound like the first time", tmp_path
    ) as at:
        told = await asyncio.gather(at.ask("voice"), at.ask("voice"))
        assert [verdict for _, verdict in told] == ["miss", "miss"]
        assert await at.ask("voice") == ("Good day!", "hit")
        assert at.calls() == 2


async def test_several_machines(
    emulator: EmulatorProcess, own_redis: RedisServer, tmp_path: Path
) -> None:
    store = {"redis": own_redis.url()}
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
    async with (
        kitchen(emulator, "Several machines", folders[0], store=store) as here,
        kitchen(emulator, "Several machines", folders[1], store=store) as there,
    ):
        assert await here.ask("voice", x_relay_cache_ttl_s="86400") == ("Good day!", "miss")
        async with asyncio.timeout(10):
            while (await there.ask("voice"))[1] == "miss":
                await asyncio.sleep(0.05)  # it is written in the background
        hits = [row for row in await there.booked() if row["saved_micro"]]
        assert [row["saved_micro"] for row in hits] == [COST_MICRO]
