"""The recipes of docs/experiments.md through a whole worker, in front of the emulator: who gets
which arm, what is decided and booked, what is stopped, and what shadows and feedback leave behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from rtrelay.v1 import FeedbackRequest, RelayServiceStub

from relay.observability.experiments import from_store
from relay.observability.experiments.compare import compare
from relay.observability.experiments.rows import Notes
from relay.store.audit_reader import reader_for
from tests.docs.pages import blocks
from tests.fakes.books import Books
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    chat_body,
    eventually,
    provider,
    relay_under_test,
)

AB, RAILS, SHADOW = (
    yaml.safe_load(block.text)["policies"]
    for block in blocks("experiments.md")
    if block.language == "yaml"
)
PRICE = {"input": 1.0, "output": 10.0}
"""Micro-dollars a token."""


class Kitchen:
    """A worker with the recipe; `voice` and `haiku` are models of the emulator."""

    def __init__(self, relay: RelayUnderTest, emulator: EmulatorProcess, url: str) -> None:
        self.relay = relay
        self.url = url
        self._emulator = emulator

    def says(self, alias: str, text: str = "Hello.", **more: object) -> None:
        behaviour = {"text": text, "ttft": 0, "itl": 0, "in": 100, "out": 3, **more}
        self._emulator.script(f"exp-{alias}", behaviour)

    async def ask(self, session: str, status: int = 200, **more: Any) -> str:
        """Ask once; the request's id."""
        told = await self.relay.chat(
            chat_body("voice", **more), x_relay_session_id=session, authorization="Bearer any"
        )
        assert told.status_code == status, told.text
        return str(told.headers["x-relay-request-id"])

    async def rows(self) -> list[dict[str, Any]]:
        """Of the accounts, once all is settled, with `decision` parsed."""
        await self.relay.settled()
        books = Books(self.url)
        try:
            found = books.rows("SELECT * FROM generations ORDER BY admitted_at_us")
        finally:
            books.close()
        for row in found:
            row["decision"] = orjson.loads(row["decision"] or "{}")
        return found

    def state(self, part: str) -> Any:
        return self.relay.worker._state()["policies"][part]


@asynccontextmanager
async def kitchen(
    emulator: EmulatorProcess, folder: Path, policies: dict[str, Any]
) -> AsyncIterator[Kitchen]:
    url = f"sqlite:///{folder / 'relay.db'}"
    names = {"voice": "exp-voice", "haiku": "exp-haiku"}
    document = {
        "store": {"url": url},
        "providers": {
            "emulator": provider(
                emulator.base_url_tls,
                ca_file=emulator.ca_file,
                cancel_billing="stops",
                prices=dict.fromkeys(names.values(), PRICE),
            )
        },
        "models": {
            alias: {"candidates": [{"provider": "emulator", "model": model}]}
            for alias, model in names.items()
        },
        "policies": policies,
    }
    async with relay_under_test(document) as relay:
        made = Kitchen(relay, emulator, url)
        for alias in names:
            made.says(alias)
        yield made


async def test_divided_by_weight_and_kept_by_session(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen(emulator, tmp_path, AB) as made:
        sessions = [f"call-{number}" for number in range(30)]
        for _ in range(2):
            await asyncio.gather(*(made.ask(session) for session in sessions))
        rows = await made.rows()
    arms: dict[str, set[str]] = {}
    for row in rows:
        decision = row["decision"]
        assert decision["experiment"] == "voice-ab"
        assert decision["finish"] == "STOP"
        arms.setdefault(row["session_id"], set()).add(decision["arm"])
        use = {"now": "exp-voice", "haiku": "exp-haiku"}[decision["arm"]]
        assert row["model"] == use
        assert row["settled_micro"] == 130
        if decision["arm"] == "haiku":
            assert decision["asked"] == "voice"
    assert len(arms) == 30
    assert all(len(found) == 1 for found in arms.values())
    assert 0 < sum(found == {"haiku"} for found in arms.values()) < 10


async def test_a_losing_arm_is_stopped_and_its_callers_are_served(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with kitchen(emulator, tmp_path, RAILS) as made:
        made.says("haiku", fault="status:500")
        for number in range(150):
            told = await made.relay.chat(
                chat_body("voice"), x_relay_session_id=f"call-{number}", authorization="Bearer x"
            )
            assert told.status_code in (200, 500, 502, 503)
            if made.state("experiments")["voice-ab"]["stopped"]:
                break
        stopped = made.state("experiments")["voice-ab"]["stopped"]
        assert stopped["haiku"]["respect"] == "error_share"
        assert stopped["haiku"]["in_control"] == 0
        for number in range(20):
            await made.ask(f"later-{number}")
        rows = await made.rows()
    later = [row["decision"]["arm"] for row in rows if row["session_id"].startswith("later")]
    assert later == ["now"] * 20


async def test_copies_go_elsewhere_and_nobody_notices(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    policies = {"shadows": {"haiku-shadow": {**SHADOW["shadows"]["haiku-shadow"], "share": 1.0}}}
    async with kitchen(emulator, tmp_path, policies) as made:
        made.says("voice", "The train leaves at noon.")
        made.says("haiku", "The train leaves at nine.", out=5)
        request_id = await made.ask("call-1", user="anna")
        await eventually(lambda: made.state("shadows")["haiku-shadow"]["started"] == 1)
        own, copied = await made.rows()
    assert (own["id"], own["surface"], own["model"]) == (
        request_id,
        "chat_completions",
        "exp-voice",
    )
    assert own["decision"] == {}
    assert (copied["surface"], copied["team_id"], copied["key_id"]) == ("shadow", "shadow", "")
    assert (copied["model"], copied["session_id"]) == ("exp-haiku", "")
    assert (own["settled_micro"], copied["settled_micro"]) == (130, 150)
    told = copied["decision"]["shadow"]
    assert (told["name"], told["of"]) == ("haiku-shadow", request_id)
    assert (told["of_finish"], told["finish"], told["is_equal"]) == ("STOP", "STOP", False)
    assert (told["of_chars"], told["chars"]) == (25, 25)
    assert told["likeness"] == pytest.approx(0.75)


async def test_feedback_is_in_the_report(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with kitchen(emulator, tmp_path, RAILS) as made:
        ids = [await made.ask(f"call-{number}") for number in range(24)]
        rows = {row["id"]: row for row in await made.rows()}
        headers = {"authorization": "Bearer any"}
        for request_id in ids[:-1]:
            score = float(rows[request_id]["decision"]["arm"] == "haiku")
            body = {"request_id": request_id, "score": score}
            told = await made.relay.http.post("/v1/feedback", json=body, headers=headers)
            assert told.json()["counts_for_experiment"] is True
        stub: Any = RelayServiceStub(made.relay.channel)
        word = FeedbackRequest(request_id=ids[-1], label="odd")
        told = await stub.Feedback(word, metadata=(("authorization", "Bearer any"),))
        assert told.counts_for_experiment
        engine = reader_for(made.url)
        seen = list(from_store.observed_in(engine, "voice-ab", 0, 1 << 60, Notes()))
        engine.dispose()
    found = compare("voice-ab", seen, weights={"now": 1.0, "haiku": 1.0})
    assert sum(arm.rated for arm in found.arms) == 23
    scores = {arm.name: arm.estimates["score"] for arm in found.arms}
    assert scores["haiku"] is not None
    assert scores["now"] is not None
    assert (scores["haiku"].value, scores["now"].value) == (1.0, 0.0)
    assert [arm.finishes.keys() for arm in found.arms] == [{"STOP": 1}.keys()] * 2
