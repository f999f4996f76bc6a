"""The recipes of docs/cascades.md through a whole worker, before the emulator: which answer the
client gets, what the decision says, and what every leg cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml
from rtrelay.v1 import Start

from tests.fakes.books import Books
from tests.fakes.converse_client import prompt
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import RelayUnderTest, chat_body, provider, relay_under_test

PAGE = (Path(__file__).parents[2] / "docs" / "cascades.md").read_text(encoding="utf-8")
RECIPES: dict[str, Any] = {}
for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
    RECIPES |= yaml.safe_load(block)["policies"]["cascades"]

PRICES = {
    "fast": {"input": 1.0, "output": 4.0},
    "accurate": {"input": 10.0, "output": 40.0},
    "judge": {"input": 1.0, "output": 4.0},
}
"""Micro-dollars a token, so that a sum can be done by hand."""
IN = 100
"""Prompt tokens that every emulated answer reports."""
LONG = "The train leaves at nine from platform four and gets in before noon, as always. " * 3

Says = Mapping[str, object]


def says(text: str, *, out: int = 3, ttft: int = 0, **more: object) -> Says:
    return {"text": text, "ttft": ttft, "itl": 0, "in": IN, "out": out, **more}


HANGS: Says = {"head": 0, "ttft": 60_000, "in": IN, "out": 1}


def cost(alias: str, out: int) -> int:
    """Of a whole answer, micro-dollars."""
    return round(IN * PRICES[alias]["input"] + out * PRICES[alias]["output"])


class Kitchen:
    """A worker with one cascade, and who is behind it."""

    def __init__(
        self, name: str, relay: RelayUnderTest, emulator: EmulatorProcess, url: str
    ) -> None:
        self.name = name
        self.relay = relay
        self._emulator = emulator
        self._url = url

    def script(self, alias: str, behaviour: Says) -> None:
        self._emulator.script(f"{self.name}-{alias}", behaviour)

    async def ask(self, text: str = "Where?") -> tuple[str, dict[str, Any]]:
        """The answer's text, and the decision."""
        found = await self.relay.generate(Start(model=self.name, prompt=prompt(text)))
        assert found.error is None, found.error
        end = found.answer.end
        assert end is not None
        return found.text, orjson.loads(end.decision_json)

    async def streams(self, alias: str, outcome: str) -> list[dict[str, Any]]:
        """Once there is one; the relay is in this thread, and goes on meanwhile."""
        wait = self._emulator.wait_for_streams
        return await asyncio.to_thread(wait, f"{self.name}-{alias}", outcome)

    async def booked(self) -> dict[str, Any]:
        """The last generation's row, and `attempts` with theirs, once it is settled."""
        await self.relay.settled()
        books = Books(self._url)
        try:
            (row,) = books.rows("SELECT * FROM generations ORDER BY admitted_at_us DESC LIMIT 1")
            row["attempts"] = books.rows(
                "SELECT * FROM attempts WHERE generation_id = :id", id=row["id"]
            )
            return row
        finally:
            books.close()


@asynccontextmanager
async def kitchen(
    name: str,
    emulator: EmulatorProcess,
    folder: Path,
    row: Mapping[str, Any] | None = None,
    **cascade: Any,
) -> AsyncIterator[Kitchen]:
    """The recipe of that name, with the aliases `fast`, `accurate` and `judge`.

    Args:
        row: more of the provider's.
    """
    url = f"sqlite:///{folder / 'relay.db'}"
    document = {
        "store": {"url": url},
        "providers": {
            "emulator": provider(
                emulator.base_url_tls,
                ca_file=emulator.ca_file,
                cancel_billing="stops",
                prices={f"{name}-{alias}": price for alias, price in PRICES.items()},
                **(row or {}),
            )
        },
        "models": {
            alias: {"candidates": [{"provider": "emulator", "model": f"{name}-{alias}"}]}
            for alias in PRICES
        },
        "policies": {"cascades": {name: {**RECIPES[name], **cascade}}},
    }
    async with relay_under_test(document) as relay:
        yield Kitchen(name, relay, emulator, url)


def by_label(decision: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {leg["label"]: leg.get(field) for leg in decision["legs"]}


async def test_careful(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("careful", emulator, tmp_path) as at:
        at.script("fast", says("In Paris.", out=4))
        at.script("accurate", says("It is in Paris.", out=6))
        text, decision = await at.ask()
        assert text == "In Paris."
        assert (decision["composition"], decision["name"]) == ("cascade", "careful")
        assert (decision["outcome"], decision["reason"]) == ("small", "accepted")
        assert by_label(decision, "cost_micro") == {"small": cost("fast", 4)}
        row = await at.booked()
        assert row["settled_micro"] == cost("fast", 4)
        at.script("fast", says("I'm sorry, but I can't help with that.", out=9))
        text, decision = await at.ask()
        assert text == "It is in Paris."
        assert (decision["outcome"], decision["reason"]) == ("escalated", "refusal")
        assert list(by_label(decision, "model").items()) == [
            ("small", "fast"),
            ("large", "accurate"),
        ]
        row = await at.booked()
        costs = by_label(decision, "cost_micro")
        assert costs["large"] == cost("accurate", 6)
        assert row["settled_micro"] == sum(costs.values())
        assert len(row["attempts"]) == 2
        assert orjson.loads(row["decision"])["reason"] == "refusal"


async def test_careful_with_json(emulator: EmulatorProcess, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    async with kitchen("careful", emulator, tmp_path) as at:
        at.script("fast", says('{"n": "seven"}'))
        at.script("accurate", says('{"n": 7}'))
        answer = await at.relay.chat(chat_body("careful", stream=False, response_format=wanted))
        assert answer.json()["choices"][0]["message"]["content"] == '{"n": 7}'
        assert orjson.loads((await at.booked())["decision"])["reason"] == "schema"
        at.script("fast", says('{"n": 8}'))
        answer = await at.relay.chat(chat_body("careful", stream=False, response_format=wanted))
        assert answer.json()["choices"][0]["message"]["content"] == '{"n": 8}'


async def test_careful_with_a_small_model_that_is_down(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen("careful", emulator, tmp_path) as at:
        at.script("fast", {"fault": "status:503"})
        at.script("accurate", says("Paris"))
        text, decision = await at.ask()
        assert text == "Paris"
        assert decision["reason"] == "small_failed"
        at.relay.forget()
        at.script("accurate", {"fault": "status:503"})
        answer = await at.relay.chat(chat_body("careful"))
        assert answer.status_code == 503


async def test_sure(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("sure", emulator, tmp_path) as at:
        at.script("fast", says("solve", nll=0.05, wrong_nll=1.5, wrong=0.0, out=5))
        at.script("accurate", says("solve", out=5))
        text, decision = await at.ask("What is 17 + 25?")
        assert (text, decision["outcome"]) == ("It is 42.", "small")
        answer = await at.relay.chat(chat_body("sure", "What is 17 + 25?", stream=False))
        assert answer.json()["choices"][0].get("logprobs") is None
        asked = await at.relay.chat(
            chat_body("sure", "What is 17 + 25?", stream=False, logprobs=True)
        )
        assert asked.json()["choices"][0]["logprobs"]["content"]
        at.script("fast", says("solve", nll=0.05, wrong_nll=1.5, wrong=1.0, out=5))
        text, decision = await at.ask("What is 17 + 25?")
        assert text == "It is 42."
        assert (decision["outcome"], decision["reason"]) == ("escalated", "logprobs")
        assert by_label(decision, "cost_micro")["large"] == cost("accurate", 5)


async def test_sure_with_a_wire_that_has_no_log_probabilities(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    row = {"quirks": {"refuses": ["logprobs"]}}
    async with kitchen("sure", emulator, tmp_path, row) as at:
        at.script("fast", says("It is 42.", out=5))
        at.script("accurate", says("It is 42, exactly.", out=7))
        text, decision = await at.ask()
        assert (text, decision["outcome"]) == ("It is 42.", "small")
        assert [leg["label"] for leg in decision["legs"]] == ["small", "small"]
        assert (await at.booked())["settled_micro"] == cost("fast", 5)
    escalate = {"logprobs": {"mean_below": -0.4, "on_missing": "large"}}
    (tmp_path / "more").mkdir()
    async with kitchen("sure", emulator, tmp_path / "more", row, escalate=escalate) as at:
        text, decision = await at.ask()
        assert (text, decision["reason"]) == ("It is 42, exactly.", "logprobs_missing")


async def test_a_client_that_leaves_stops_both(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("quick", emulator, tmp_path) as at:
        at.script("fast", HANGS)
        at.script("accurate", HANGS)
        start = Start(model="quick", prompt=prompt("Where?"))
        found = await at.relay.generate(start, timeout_s=0.5)
        assert found.error is not None
        await at.streams("fast", "abandoned")
        await at.streams("accurate", "abandoned")
        row = await at.booked()
        assert len(row["attempts"]) == 2
        assert orjson.loads(row["decision"])["composition"] == "cascade"


async def test_sure_keeps_the_small_answer_where_the_large_model_is_down(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen("sure", emulator, tmp_path) as at:
        at.script("fast", says("solve", nll=1.5, out=5))
        at.script("accurate", {"fault": "status:503"})
        text, decision = await at.ask("What is 17 + 25?")
        assert text == "It is 42."
        assert (decision["outcome"], decision["reason"]) == ("small_after_failure", "logprobs")
        row = await at.booked()
        assert row["settled_micro"] == cost("fast", 5)


async def test_checked(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("checked", emulator, tmp_path) as at:
        at.script("judge", says("judge", out=1))
        at.script("fast", says("solve", out=5))
        at.script("accurate", says("solve", out=7))
        text, decision = await at.ask("What is 17 + 25?")
        assert (text, decision["outcome"]) == ("It is 42.", "small")
        assert by_label(decision, "cost_micro") == {
            "small": cost("fast", 5),
            "self_check": cost("judge", 1),
        }
        assert by_label(decision, "outcome") == {"small": "ok", "self_check": "ok"}
        at.script("fast", says("solve", out=5, wrong=1.0))
        text, decision = await at.ask("What is 17 + 25?")
        assert text == "It is 42."
        assert decision["reason"] == "self_check"
        row = await at.booked()
        total = cost("fast", 5) + cost("judge", 1) + cost("accurate", 7)
        assert row["settled_micro"] == total
        assert [one["is_winner"] for one in row["attempts"]].count(1) == 1
        at.script("judge", HANGS)
        text, decision = await at.ask("What is 17 + 25?")
        assert decision["reason"] == "self_check_failed"
        await at.streams("judge", "abandoned")


async def test_sorted(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("sorted", emulator, tmp_path) as at:
        at.script("judge", says("rate", out=1))
        at.script("fast", says("small", out=2))
        at.script("accurate", says("large", out=2))
        text, decision = await at.ask("What is 17 + 25?")
        assert (text, decision["reason"]) == ("small", "accepted")
        text, decision = await at.ask("What is 123 * 47?")
        assert (text, decision["reason"]) == ("large", "classifier")
        assert by_label(decision, "cost_micro") == {
            "classifier": cost("judge", 1),
            "large": cost("accurate", 2),
        }
        assert by_label(decision, "outcome") == {"classifier": "ok", "large": "ok"}


async def test_ruled(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("ruled", emulator, tmp_path) as at:
        at.script("fast", says("small", out=2))
        at.script("accurate", says("large", out=2))
        for question, text in (("Prove it.", "large"), ("Improve it.", "small")):
            found, decision = await at.ask(question)
            assert found == text
            assert [leg["label"] for leg in decision["legs"]] == [text]
        found, decision = await at.ask("x " * 9000)
        assert (found, decision["reason"]) == ("large", "rule")


async def test_quick(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("quick", emulator, tmp_path) as at:
        at.script("fast", says(LONG, ttft=50, nll=0.05, out=60))
        at.script("accurate", HANGS)
        text, decision = await at.ask()
        assert text == LONG
        assert by_label(decision, "outcome") == {"small": "ok", "large": "not_needed"}
        await at.streams("accurate", "abandoned")  # upstream, at once
        at.script("accurate", says("large", out=2, ttft=20))
        at.script("fast", says(LONG, ttft=100, nll=1.5, out=60))
        text, decision = await at.ask()
        assert (text, decision["reason"]) == ("large", "logprobs")
        at.script("fast", HANGS)
        text, decision = await at.ask()
        assert (text, decision["reason"]) == ("large", "deadline")
        assert by_label(decision, "outcome")["small"] == "late"


async def test_a_stream_of_the_shim_is_one_answer(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen("careful", emulator, tmp_path) as at:
        at.script("fast", says("I cannot help with that. " + LONG, out=60))
        at.script("accurate", says(LONG, out=60))
        async with at.relay.openai() as client:
            stream = await client.chat.completions.create(
                model="careful", messages=[{"role": "user", "content": "Where?"}], stream=True
            )
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        assert text == LONG
