"""What one team reads does not depend on what another does (L5, non-interference).

The same calls of one team are made twice, once alone and once with another team's between them; but
for ids and moments the answers are the same. The other team asks the same texts of the same model,
repeats the same idempotency keys, names the ids of the first one's answers and asks for what it
keeps, so that a cache, a store of answers or an error that looked at anything but its own tenant
would show.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.properties import examples
from tests.properties.keyed_lab import CHAT, KeyedLab, keyed_lab

pytestmark = pytest.mark.sockets

Running = tuple[asyncio.Runner, KeyedLab]
SAME = re.compile(r"(gen|req|resp|msg|chatcmpl|rs|fc)[_-][\w-]+|\"created(_at)?\":\s*[\d.]+")
HEADERS = ("x-relay-cache", "x-relay-attempts", "idempotent-replayed", "content-type")


class Call(NamedTuple):
    """One request of a team."""

    kind: str
    text: str
    key: str


TEXTS = st.sampled_from(["one", "two", '{"status": 500}', '{"prompt_tokens": 7}'])
CALLS = st.builds(
    Call,
    st.sampled_from(["chat", "stream", "respond", "go on", "look", "repeat", "rate", "models"]),
    TEXTS,
    st.sampled_from(["k1", "k2"]),
)
OWN = st.lists(CALLS, min_size=1, max_size=5)
BETWEEN = st.lists(st.tuples(st.integers(0, 5), CALLS), max_size=5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    more = {"cache": {"exact": {}}, "server": {"http": {"responses_store": {}}}}
    with keyed_lab(tmp_path_factory.mktemp("lab"), 3, **more) as found:
        yield found


class Team:
    """One team's calls, and the ids that it has been given."""

    def __init__(self, lab: KeyedLab, name: str, run: str, spied: list[str]) -> None:
        self._lab = lab
        self._name = name
        self._run = run
        self._spied = spied
        """Ids of somebody else, which it names where it has none of its own."""
        self.answers: list[str] = []
        self.responses: list[str] = []

    async def make(self, call: Call) -> tuple[int, dict[str, str], str]:
        """What it reads, without what differs between any two requests."""
        # Texts of one run are its own: what was kept for the run before is no part of this one.
        text = f"{call.text} {self._run}"
        if call.text.startswith("{"):
            text = f'{call.text[:-1]}, "run": "{self._run}"}}'
        chat = {"model": "fast", "messages": [{"role": "user", "content": text}], "temperature": 0}
        told = await self._ask(call, chat, text)
        if found := told.headers.get("x-relay-request-id"):
            self.answers.append(found)
        headers = {name: told.headers[name] for name in HEADERS if name in told.headers}
        return told.status_code, headers, SAME.sub("-", told.text)

    async def _ask(self, call: Call, chat: dict[str, Any], text: str) -> Any:
        post, last = self._lab.post, [*self._spied, *self.responses][-1:]
        match call.kind:
            case "chat" | "stream":
                return await post(self._name, CHAT, {**chat, "stream": call.kind == "stream"})
            case "repeat":
                key = f"{call.key} {self._run}"
                return await post(self._name, CHAT, chat, idempotency_key=key)
            case "respond" | "go on":
                body: dict[str, Any] = {"model": "fast", "input": text}
                if call.kind == "go on":
                    body["previous_response_id"] = (last or ["resp_none"])[0]
                told = await post(self._name, "/v1/responses", body)
                if told.status_code == 200:
                    self.responses.append(told.json()["id"])
                return told
            case "look":
                path = f"/v1/responses/{(last or ['resp_none'])[0]}"
                return await self._lab.relay.http.get(path, headers=self._lab.headers(self._name))
            case "rate":
                named = [*self._spied, *self.answers][-1:] or ["gen_none"]
                body = {"request_id": named[0], "score": 0.5}
                return await post(self._name, "/v1/feedback", body)
            case _:
                headers = self._lab.headers(self._name)
                return await self._lab.relay.http.get("/v1/models", headers=headers)


_runs = itertools.count()


async def read_by_one(lab: KeyedLab, own: list[Call], between: list[tuple[int, Call]]) -> list[Any]:
    """What the first team reads, with the second one's calls between its own. Its targets begin
    anew, so that nothing is learnt over."""
    run = f"run {next(_runs):06}"
    one = Team(lab, "team 0", run, [])
    other = Team(lab, "team 1", run, one.responses)
    found = []
    for at, call in enumerate(own):
        for place, odd in between:
            if place == at:
                await other.make(odd)
        lab.relay.forget()  # what a provider has failed is everybody's to know
        found.append(await one.make(call))
    return found


@examples(40, full=2000)
@given(own=OWN, between=BETWEEN)
def test_what_one_reads_does_not_depend_on_the_other(
    running: Running, own: list[Call], between: list[tuple[int, Call]]
) -> None:
    runner, lab = running
    alone = runner.run(read_by_one(lab, own, []))
    runs = re.compile(r"run \d+")
    beside = runner.run(read_by_one(lab, own, between))
    for call, mine, theirs in zip(own, alone, beside, strict=True):
        told, again = (runs.sub("", repr(one)) for one in (mine, theirs))
        assert told == again, f"{call} reads something else beside {between}"
