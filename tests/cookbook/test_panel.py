"""The recipes of docs/panels.md through a whole worker, in front of the emulator: which answer the
client gets, what the decision says, and what every leg cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from rtrelay.v1 import Start

from tests.fakes.books import Books
from tests.fakes.converse_client import prompt
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.relay_under_test import RelayUnderTest, chat_body, provider, relay_under_test

PAGE = (Path(__file__).parents[2] / "docs" / "panels.md").read_text(encoding="utf-8")
RECIPES: dict[str, Any] = {}
for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
    RECIPES |= yaml.safe_load(block)["policies"]["panels"]

PRICE = {"input": 1.0, "output": 10.0}
"""Micro-dollars a token, so that a sum can be done by hand."""
IN = 100
"""Prompt tokens that every emulated answer reports."""

Says = Mapping[str, object]


def says(text: str, *, out: int = 3, ttft: int = 0, **more: object) -> Says:
    return {"text": text, "ttft": ttft, "itl": 0, "in": IN, "out": out, **more}


HANGS: Says = {"head": 0, "ttft": 60_000, "in": IN, "out": 1}


def cost(out: int) -> int:
    """Of a whole answer, micro-dollars."""
    return round(IN * PRICE["input"] + out * PRICE["output"])


class Kitchen:
    """A worker with one panel, and who is behind it."""

    def __init__(
        self, name: str, relay: RelayUnderTest, emulator: EmulatorProcess, url: str
    ) -> None:
        self.name = name
        self.relay = relay
        self._emulator = emulator
        self._url = url

    def script(self, alias: str, behaviour: Says) -> None:
        self._emulator.script(f"{self.name}-{alias}", behaviour)

    def script_next(self, alias: str, behaviour: Says) -> None:
        self._emulator.script(f"{self.name}-{alias}", behaviour, next_requests=1)

    async def ask(self, text: str = "Where?") -> tuple[str, dict[str, Any]]:
        """The answer's text, and the decision."""
        found = await self.relay.generate(Start(model=self.name, prompt=prompt(text)))
        assert found.error is None, found.error
        end = found.answer.end
        assert end is not None
        return found.text, orjson.loads(end.decision_json)

    async def abandoned(self, alias: str) -> None:
        """Return when the provider has seen that its stream was reset."""
        wait = self._emulator.wait_for_streams
        await asyncio.to_thread(wait, f"{self.name}-{alias}", "abandoned")

    async def booked(self) -> dict[str, Any]:
        """See `booked`."""
        await self.relay.settled()
        return await booked(self._url)


async def booked(url: str) -> dict[str, Any]:
    """The last generation's row, once it is settled, and `attempts` with theirs."""
    books = Books(url)
    try:
        async with asyncio.timeout(10):
            while True:
                (row,) = books.rows(
                    "SELECT * FROM generations ORDER BY admitted_at_us DESC LIMIT 1"
                )
                if row["state"] != "open":
                    break
                await asyncio.sleep(0.005)
        row["attempts"] = books.rows(
            "SELECT * FROM attempts WHERE generation_id = :id", id=row["id"]
        )
        return row
    finally:
        books.close()


def document_of(name: str, emulator: EmulatorProcess, **panel: Any) -> dict[str, Any]:
    """The recipe of that name, with an alias for each model it names."""
    recipe = {**RECIPES[name], **panel}
    aliases = {"gemini", "mini", "haiku", "accurate"}
    return {
        "providers": {
            "emulator": provider(
                emulator.base_url_tls,
                ca_file=emulator.ca_file,
                cancel_billing="stops",
                prices={f"{name}-{alias}": PRICE for alias in aliases},
            )
        },
        "models": {
            alias: {"candidates": [{"provider": "emulator", "model": f"{name}-{alias}"}]}
            for alias in aliases
        },
        "policies": {"panels": {name: recipe}},
    }


@asynccontextmanager
async def kitchen(
    name: str, emulator: EmulatorProcess, folder: Path, **panel: Any
) -> AsyncIterator[Kitchen]:
    """A worker with the recipe of that name."""
    url = f"sqlite:///{folder / 'relay.db'}"
    document = {"store": {"url": url}, **document_of(name, emulator, **panel)}
    async with relay_under_test(document) as relay:
        yield Kitchen(name, relay, emulator, url)


def by_label(decision: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {leg["label"]: leg.get(field) for leg in decision["legs"]}


async def test_agreed(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("agreed", emulator, tmp_path) as at:
        at.script("gemini", says("Paris.", out=4))
        at.script("mini", HANGS)
        at.script("haiku", says("paris", out=2, ttft=50))
        text, decision = await at.ask()
        assert text == "Paris."
        assert decision["composition"] == "panel"
        assert (decision["name"], decision["outcome"]) == ("agreed", "agreed")
        assert decision["reason"] == "quorum"
        assert by_label(decision, "outcome") == {"a": "ok", "b": "not_needed", "c": "not_chosen"}
        assert by_label(decision, "vote") == {"a": 0, "b": None, "c": 0}
        assert by_label(decision, "is_chosen") == {"a": True, "b": None, "c": None}
        costs = by_label(decision, "cost_micro")
        assert (costs["a"], costs["c"]) == (cost(4), cost(2))
        await at.abandoned("mini")  # upstream, at once
        row = await at.booked()
        assert len(row["attempts"]) == 3
        assert [one["is_winner"] for one in row["attempts"]].count(1) == 1
        assert sum(one["cost_micro"] for one in row["attempts"]) == row["settled_micro"]
        assert row["settled_micro"] == sum(costs.values())
        assert orjson.loads(row["decision"])["reason"] == "quorum"
        # The wait for the second vote is the providers' time, not the relay's.
        assert orjson.loads(row["phases"])["first_content"] > 30_000


async def test_a_client_of_the_shim_sees_one_answer(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen("agreed", emulator, tmp_path) as at:
        for alias in ("gemini", "mini", "haiku"):
            at.script(alias, says("It is Paris."))
        async with at.relay.openai() as client:
            whole = await client.chat.completions.create(
                model="agreed", messages=[{"role": "user", "content": "Where?"}]
            )
            assert whole.choices[0].message.content == "It is Paris."
            listed = {one.id: one for one in (await client.models.list()).data}
            takes_texts = {
                name: (one.model_extra or {})["x_relay"]["embeddings"]
                for name, one in listed.items()
            }
            assert (takes_texts["gemini"], takes_texts["agreed"]) == (True, False)
        answer = await at.relay.chat(chat_body("agreed", n=2))
        assert answer.status_code == 400
        assert "n = 2 is not supported by panel 'agreed'" in answer.text


async def test_all_members_fail(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("agreed", emulator, tmp_path) as at:
        for alias in ("gemini", "mini", "haiku"):
            at.script(alias, {"fault": "status:503"})
        answer = await at.relay.chat(chat_body("agreed"))
        assert answer.status_code == 503
        assert "panel 'agreed': 0 of 3 members answered, 1 needed (a (gemini): " in answer.text
        row = await at.booked()
        assert orjson.loads(row["decision"])["outcome"] == "too_few"


async def test_consistent(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("consistent", emulator, tmp_path) as at:
        for text in ("It is 1,234.5", "about 1200", "1.234,5", "1234.50!", "none"):
            at.script_next("mini", says(text))
        text, decision = await at.ask()
        assert text in ("It is 1,234.5", "1.234,5", "1234.50!")
        assert (decision["outcome"], decision["reason"]) == ("agreed", "quorum")
        assert by_label(decision, "model") == dict.fromkeys("abcde", "mini")


async def test_label(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("label", emulator, tmp_path) as at:
        at.script("gemini", says('{"label": "good"}'))
        at.script("mini", says('{"label": "bad", "why": 1}', out=5))
        at.script("haiku", says('```json\n{"why": 2, "label": "Bad"}\n```', ttft=50))
        text, decision = await at.ask()
        assert text == '{"label": "bad", "why": 1}'
        assert (decision["outcome"], len(decision["legs"])) == ("agreed", 3)
        at.script("haiku", says("I cannot say", ttft=50))
        at.script("accurate", says("TIE", out=1))
        text, decision = await at.ask()
        assert text == '{"label": "good"}'
        assert (decision["outcome"], decision["reason"]) == ("plurality", "judge_tie")
        assert by_label(decision, "verdict")["judge.1"] == "tie"
        row = await at.booked()
        assert row["settled_micro"] == 3 * cost(3) - cost(3) + cost(5) + 2 * cost(1)
        assert len(row["attempts"]) == 5


async def test_judged(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("judged", emulator, tmp_path) as at:
        at.script("gemini", says("Somewhere", out=2))
        at.script("mini", says("In Paris", out=7))
        emulator.script("judged-accurate", says("B", out=1))
        emulator._call(  # it finds Paris in either place
            "POST",
            "/emulator/script",
            {
                "model": "judged-accurate",
                "match": "prompt",
                "prompt": "answer A begins]\nIn Paris",
                "behaviour": says("A", out=1),
            },
        )
        text, decision = await at.ask()
        assert text == "In Paris"
        assert (decision["outcome"], decision["reason"]) == ("judged", "judge")
        assert by_label(decision, "verdict") == {
            "a": None,
            "b": None,
            "judge.1": "b",
            "judge.2": "b",
        }
        row = await at.booked()
        assert row["settled_micro"] == cost(2) + cost(7) + 2 * cost(1)
        winner = [one for one in row["attempts"] if one["is_winner"]]
        assert [one["model"] for one in winner] == ["judged-mini"]


async def test_a_judge_that_goes_by_position(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("judged", emulator, tmp_path) as at:
        emulator.reset()
        at.script("gemini", says("Somewhere", out=7))
        at.script("mini", says("In Paris", out=2))
        at.script("accurate", says("A", out=1))
        text, decision = await at.ask()
        assert text == "In Paris"  # the cheaper one
        assert (decision["outcome"], decision["reason"]) == ("judged", "judge_tie")


async def test_valid(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("valid", emulator, tmp_path) as at:
        at.script("mini", says("It is Paris"))
        at.script("haiku", says('{"city": "Paris"}', ttft=30))
        text, decision = await at.ask()
        assert text == '{"city": "Paris"}'
        assert (decision["outcome"], decision["reason"]) == ("scored", "score")
        assert by_label(decision, "score") == {"a": 0, "b": 1}
        at.script("haiku", says("Paris"))
        answer = await at.relay.chat(chat_body("valid"))
        assert answer.status_code == 503
        assert "none of 2 answers scores 1 or more" in answer.text


async def test_patient(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen("patient", emulator, tmp_path, wait_ms=250) as at:
        at.script("gemini", HANGS)
        at.script("mini", says("Paris"))
        at.script("haiku", HANGS)
        text, decision = await at.ask()
        assert text == "Paris"
        assert (decision["outcome"], decision["reason"]) == ("too_few", "any")
        assert by_label(decision, "outcome") == {"a": "late", "b": "ok", "c": "late"}
        await at.abandoned("gemini")
        await at.abandoned("haiku")


async def test_a_client_that_leaves_takes_every_leg_with_it(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen("agreed", emulator, tmp_path) as at:
        for alias in ("gemini", "mini", "haiku"):
            at.script(alias, HANGS)
        found = await at.relay.generate(
            Start(model="agreed", prompt=prompt("Where?")), timeout_s=0.3
        )
        assert found.error is not None
        for alias in ("gemini", "mini", "haiku"):
            await at.abandoned(alias)
        row = await at.booked()
        assert [one["is_winner"] for one in row["attempts"]] == [0, 0, 0]


async def test_a_key_pays_for_as_many_members_as_it_may(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    """It may ask for the panel, and for none of its models by itself."""
    for alias in ("gemini", "mini", "haiku"):
        emulator.script(f"agreed-{alias}", says("Paris."))
    body = chat_body("agreed", max_tokens=20)
    async with keyed_relay(tmp_path, document_of("agreed", emulator)) as there:
        seen = []
        for number, most_micro in enumerate((4000, 2600)):
            key = await there.key(
                f"key_{number}", scopes={"models": ["agreed"], "max_cost_micro": most_micro}
            )
            bearer = {"authorization": f"Bearer {key}"}
            answer = await there.relay.chat(body, **bearer)
            assert answer.status_code == 200, answer.text
            await there.relay.settled()
            row = await booked(f"sqlite:///{tmp_path / 'relay.db'}")
            assert row["key_id"] == f"key_{number}"
            seen.append(orjson.loads(row["decision"]))
        answer = await there.relay.chat(chat_body("mini"), **bearer)
        assert answer.status_code == 403
    (all_three, two), outcomes = seen, [by_label(one, "outcome") for one in seen]
    assert all_three["outcome"] == two["outcome"] == "agreed"
    assert "budget_exceeded" not in outcomes[0].values()
    assert outcomes[1]["c"] == "budget_exceeded"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_cooked(name: str) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert f'kitchen("{name}"' in text
