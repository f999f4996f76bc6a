"""A relay with keys, a hard budget and accounts, in front of providers that do as they are told.

    async with world(stage) as here:
        here.lab.routes[CHAT] = cut(after=[word("One")])
        reply = await here.ask("sse", "pair")
        assert reply.reason == "UPSTREAM_RESET"
    (generation,) = await here.booked(1)
    assert generation.state == "estimated"

Models: `alone` has the misbehaving `lab`, `pair` has `spare` behind it as a fallback. Leaving the
block asserts what holds after every row: nothing runs, no reservation is open, every sum adds up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rtrelay.v1 import Start

from relay.store.engine import engine_for
from tests.fakes.askers import ASKERS, Reply
from tests.fakes.books import Books
from tests.fakes.converse_client import Conversation, Generated, generate
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.relay_under_test import (
    DONE,
    Document,
    RelayUnderTest,
    answer_chunks,
    chunk,
    eventually,
    provider,
    relay_under_test,
)
from tests.matrix.row import Stage

CHAT = "/v1/chat/completions"
PROVIDER_KEY = "canary-key-of-our-own-account-0123456789"
FACES = tuple(ASKERS)
"""`sse`, `json`, `generate`, `converse`."""
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
PRICES = {"m": {"input": 1.0, "output": 10.0}}
"""Dollars for a million tokens: a token of the prompt is a micro-dollar, one of the answer ten."""
WHOLE_MICRO = 200
"""What an answer with `USAGE` costs."""
LIMIT_MICRO = 1_000_000


def word(text: str) -> bytes:
    """A provider's event with this text."""
    return chunk({"content": text})


def whole_answer(*words: str, usage: Mapping[str, int] | None = None) -> list[bytes]:
    """A clean answer with usage (`USAGE`)."""
    told = chunk(usage=dict(usage or USAGE), choices=[])
    return [*answer_chunks(*words)[:-1], told, DONE]


class KeyedClient(RelayUnderTest):
    """A relay as one key's owner uses it."""

    def __init__(self, relay: RelayUnderTest, key: str) -> None:
        super().__init__(relay.worker, relay.channel, relay.http)
        self._metadata = {"authorization": f"Bearer {key}"}
        self.http.headers["authorization"] = f"Bearer {key}"

    def talk(self, **setup: Any) -> Conversation:
        setup["metadata"] = {**self._metadata, **setup.get("metadata", {})}
        return Conversation(self.channel, **setup)

    async def generate(
        self, request: Start | bytes, *, timeout_s: float | None = None
    ) -> Generated:
        return await generate(self.channel, request, timeout_s=timeout_s, metadata=self._metadata)


@dataclass(frozen=True)
class Booked:
    """A generation as it stands in the accounts."""

    row: Mapping[str, Any]
    attempts: list[Mapping[str, Any]]

    @property
    def state(self) -> str:
        """`settled`, `estimated`, `void`."""
        return str(self.row["state"])

    @property
    def cost_micro(self) -> int:
        return int(self.row["settled_micro"])

    @property
    def asked(self) -> list[str]:
        """Providers of the attempts, in order."""
        return [str(attempt["provider"]) for attempt in self.attempts]


@dataclass
class World:
    """See above."""

    relay: KeyedClient
    lab: H2Server
    spare: H2Server
    books: Books
    rows: Rows
    key_id: str
    budget_id: str
    stage: Stage
    document: Document
    """The configuration, but for the ports."""
    everything: list[str] = field(default_factory=list)
    """All that clients were sent; searched for secrets at the end."""

    async def ask(self, face: str, model: str = "pair") -> Reply:
        """One question over `sse`, `json`, `generate` or `converse`."""
        reply = await ASKERS[face](self.relay, model)
        self.everything.append(reply.everything)
        return reply

    def face(self) -> str:
        """A door, drawn."""
        return self.stage.draw.choice(FACES)

    async def quiet(self) -> None:
        """Wait until nothing runs and nothing is open in the accounts.

        Raises:
            TimeoutError: something is left.
        """
        await self.relay.settled()
        await eventually(lambda: self.books.open_rows() == 0)

    async def booked(self, count: int) -> list[Booked]:
        """Wait until all is booked; the generations in order of admission.

        Raises:
            AssertionError: there are not `count` of them.
        """
        await self.quiet()
        attempts = self.books.rows("SELECT * FROM attempts ORDER BY generation_id, ordinal")
        found = [
            Booked(row, [one for one in attempts if one["generation_id"] == row["id"]])
            for row in self.books.rows("SELECT * FROM generations ORDER BY admitted_at_us, id")
        ]
        assert len(found) == count, [row.row for row in found]
        return found

    def check_secrecy(self) -> None:
        """No client saw our key, or how a provider is reached."""
        for text in self.everything:
            assert PROVIDER_KEY not in text
            assert "127.0.0.1" not in text
            assert "certificate" not in text.lower()


def document(stage: Stage, lab: H2Server, spare: H2Server, **timeouts: int) -> Document:
    """The configuration: `alone` and `pair`, prices, accounts."""
    row = {
        "ca_file": stage.ca_file,
        "auth": "bearer",
        "api_key": "${MATRIX_KEY}",
        "prices": PRICES,
    }
    lab_only = {"candidates": [{"provider": "lab", "model": "m"}], "timeouts": timeouts}
    return {
        "store": {"url": f"sqlite:///{stage.tmp_path / 'relay.db'}"},
        "auth": {"pepper": "${MATRIX_PEPPER}", "sync_ms": 50},
        "audit": {"anchor": str(stage.tmp_path / "audit.anchor")},
        "budgets": {"default_max_tokens": 100},
        "providers": {"lab": provider(lab.url, **row), "spare": provider(spare.url, **row)},
        "models": {
            "alone": lab_only,
            "pair": {**lab_only, "fallbacks": [{"provider": "spare", "model": "m"}]},
        },
    }


def merged(base: Document, more: Document) -> Document:
    """`base` with `more` laid over it, section by section."""
    made = dict(base)
    for name, value in more.items():
        before = made.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            made[name] = merged(before, value)
        else:
            made[name] = value
    return made


@asynccontextmanager
async def world(
    stage: Stage,
    more: Document | None = None,
    *,
    lab: H2Server | None = None,
    limit_micro: int = LIMIT_MICRO,
    **timeouts: int,
) -> AsyncIterator[World]:
    """Start it all; `spare` answers "spare words".

    Args:
        more: laid over `document`.
        lab: a provider of the scenario's own, not started yet; else one over TLS and HTTP/2.
        limit_micro: of the key's hard budget.
        timeouts: of both models, `first_token_ms` and the like.
    """
    stage.patch.setenv("MATRIX_KEY", PROVIDER_KEY)
    stage.patch.setenv("MATRIX_PEPPER", PEPPER)
    made = lab or H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    spare = H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    spare.routes[CHAT] = stream_chunks(whole_answer("spare", " words"))
    async with made, spare:
        settings = merged(document(stage, made, spare, **timeouts), more or {})
        async with relay_under_test(settings) as relay:
            engine = engine_for(settings["store"]["url"])
            books = Books(settings["store"]["url"])
            try:
                rows = Rows(engine)
                team_id = rows.team(rows.organisation())
                budget_id = rows.budget("team", team_id, limit_micro)
                key_id, key = rows.key(team_id)
                client = KeyedClient(relay, key)
                await _known(client)
                here = World(client, made, spare, books, rows, key_id, budget_id, stage, settings)
                yield here
                await here.quiet()
                books.check()
                here.check_secrecy()
            finally:
                books.close()
                engine.dispose()


async def _known(client: KeyedClient) -> None:
    access = client.worker.accounts.access
    assert access is not None
    while not await access.sync.look():  # the machine stood still; the part's own limit bounds it
        await asyncio.sleep(0)
    answer = await client.http.get("/v1/models")
    assert answer.status_code == 200, answer.text
