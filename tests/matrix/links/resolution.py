"""Names that do not resolve (row U2), asked of a name server of our own by a relay of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from relay.store.engine import engine_for
from tests.fakes.askers import ASKERS, Reply
from tests.fakes.books import Books
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, ServerStream, in_turn, stream_chunks
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import Document, RelayUnderTest, eventually
from tests.matrix.links.named_relay import is_allowed, keeps_addresses, resolv_conf
from tests.matrix.links.names import NXDOMAIN, SERVFAIL, SILENCE, Answer, NameServer
from tests.matrix.links.telling import answered_by_spare, comes_true, model, refused, row
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import (
    CHAT,
    FACES,
    LIMIT_MICRO,
    PROVIDER_KEY,
    WHOLE_MICRO,
    KeyedClient,
    document,
    merged,
    whole_answer,
)

CONNECT_MS = 700
WHOLE = stream_chunks(whole_answer("One", " two"))
HERE = ("127.0.0.1",)


@dataclass
class Named:
    """A relay whose providers have names, and who knows these."""

    client: KeyedClient
    names: NameServer
    lab: H2Server
    books: Books
    stage: Stage

    async def ask(self, face: str, of: str) -> Reply:
        return await ASKERS[face](self.client, of)

    async def attempts(self, count: int) -> list[list[tuple[str, str, str]]]:
        """Of each generation, in order: provider, state in the books, reason."""
        await eventually(lambda: self.books.open_rows() == 0)
        generations = self.books.rows("SELECT * FROM generations ORDER BY admitted_at_us, id")
        assert len(generations) == count, generations
        self.books.check()
        return [
            [
                (one["provider"], one["state"], one["reason"] or "")
                for one in self.books.rows(
                    "SELECT * FROM attempts WHERE generation_id = :id ORDER BY ordinal",
                    id=generation["id"],
                )
            ]
            for generation in generations
        ]


@asynccontextmanager
async def named(stage: Stage, **answers: Answer) -> AsyncIterator[Named]:
    """Start it. A provider of each of these names is at NAME.relay.test, and so is `lab`; `NAME`
    and `NAME-pair` are aliases of it."""
    if not is_allowed():
        pytest.skip("no mount namespace of one's own here")
    stage.patch.setenv("MATRIX_KEY", PROVIDER_KEY)
    stage.patch.setenv("MATRIX_PEPPER", PEPPER)
    hosts = [f"{name}.relay.test" for name in ("lab", "spare", *answers)]
    tls = stage.authority.server_context(*hosts, alpn=("h2",))
    lab, spare = H2Server(tls=tls), H2Server(tls=tls)
    lab.routes[CHAT] = WHOLE
    spare.routes[CHAT] = stream_chunks(whole_answer("spare", " words"))
    async with lab, spare, NameServer() as names:
        names.answers.update({"lab.relay.test": HERE, "spare.relay.test": HERE})
        names.answers.update({f"{name}.relay.test": answer for name, answer in answers.items()})
        settings = document(stage, lab, spare, connect_ms=CONNECT_MS)
        settings = merged(settings, _named_providers(stage, lab, spare, list(answers)))
        program = (
            "-m",
            "tests.matrix.links.named_relay",
            resolv_conf(stage.tmp_path, names.address),
            stage.weakness,
        )
        process = RelayProcess(stage.tmp_path, settings, program=program)
        async with process, process.channel() as channel, process.http() as http:
            engine = engine_for(settings["store"]["url"])
            books = Books(settings["store"]["url"])
            try:
                rows = Rows(engine)
                team_id = rows.team(rows.organisation())
                rows.budget("team", team_id, LIMIT_MICRO)
                _, key = rows.key(team_id)
                client = KeyedClient(RelayUnderTest(cast("Any", None), channel, http), key)
                async with asyncio.timeout(10):
                    while (await http.get("/v1/models")).status_code != 200:
                        await asyncio.sleep(0.02)  # it looks for new keys in its own time
                yield Named(client, names, lab, books, stage)
            finally:
                books.close()
                engine.dispose()


def _named_providers(stage: Stage, lab: H2Server, spare: H2Server, others: list[str]) -> Document:
    limits = {"timeouts": {"connect_ms": CONNECT_MS, "first_token_ms": 2500}}
    ports = {"lab": lab.port, "spare": spare.port, **dict.fromkeys(others, lab.port)}
    providers = {
        # A further request wants a further connection, and so the name again.
        name: row(stage, f"https://{name}.relay.test:{port}", max_streams=1)
        for name, port in ports.items()
    }
    models: Document = {}
    for name in others:
        models[name] = {**model(name), **limits}
        models[f"{name}-pair"] = {**model(name, "spare"), **limits}
    # The dial itself has more time, so that it is the request's own limit that ends the wait.
    return {"providers": providers, "models": models, "transport": {"dial_timeout_ms": 20_000}}


# --- the parts ------------------------------------------------------------------------------------


async def does_not_resolve(stage: Stage) -> None:
    async with named(stage, gone=NXDOMAIN, ill=SERVFAIL) as here:
        face = stage.draw.choice(FACES)
        for name in ("gone", "ill"):
            answered_by_spare(await here.ask(face, f"{name}-pair"))
            refused(await here.ask(face, name), face, "UPSTREAM_UNREACHABLE", 503)
            assert f"{name}.relay.test" in here.names.asked
        for name, (saved, lost) in zip(
            ("gone", "ill"), _pairs(await here.attempts(4)), strict=True
        ):
            assert saved == [(name, "free", "UPSTREAM_UNREACHABLE"), ("spare", "actual", "")]
            assert lost == [(name, "free", "UPSTREAM_UNREACHABLE")]
        cost = here.books.rows("SELECT sum(settled_micro) AS n FROM generations")
        assert cost == [{"n": 2 * WHOLE_MICRO}]
        assert not here.lab.requests(CHAT)


def _pairs(rows: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(rows[::2], rows[1::2], strict=True))


async def resolves_too_late(stage: Stage) -> None:
    """The answer would come after 30 s: several names wait, and nobody else does."""
    async with named(stage, late=SILENCE, later=SILENCE, latest=SILENCE) as here:
        face = stage.draw.choice(FACES)
        answers = [
            asyncio.create_task(here.ask(face, f"{name}-pair")) for name in ("late", "later")
        ]
        alone = asyncio.create_task(here.ask(face, "latest"))
        waited = ("late.relay.test", "later.relay.test", "latest.relay.test")
        assert await comes_true(lambda: set(waited) <= set(here.names.asked))
        began_s = time.monotonic()
        reply = await here.ask(face, "alone")
        took_s = time.monotonic() - began_s
        assert reply.is_clean, reply
        assert reply.provider == "lab"
        assert took_s < CONNECT_MS / 1000, "it waited for the name of somebody else"
        for answer in answers:
            answered_by_spare(await answer)
        refused(await alone, face, "CONNECT_TIMEOUT", 503)
        told = await here.attempts(4)
        assert [("latest", "free", "CONNECT_TIMEOUT")] in told
        assert [("late", "free", "CONNECT_TIMEOUT"), ("spare", "actual", "")] in told


async def resolves_no_more(stage: Stage) -> None:
    """It did, and a further connection is wanted when its old answer is over."""
    if not keeps_addresses():
        pytest.skip("this relay leaves names to its HTTP engine, which forgets them in time")
    gate = asyncio.Event()

    async def held(stream: ServerStream) -> None:
        await gate.wait()
        await WHOLE(stream)

    async with named(stage) as here:
        here.lab.routes[CHAT] = in_turn(held, WHOLE)
        face = stage.draw.choice(FACES)
        first = asyncio.create_task(here.ask(face, "pair"))
        await here.lab.request(CHAT, timeout_s=10)
        here.names.answers["lab.relay.test"] = stage.draw.choice((NXDOMAIN, SERVFAIL))
        here.names.asked.clear()
        second = await here.ask(face, "pair")
        gate.set()
        for reply in (second, await first):
            assert reply.is_clean, reply
            assert (reply.text, reply.provider) == ("One two", "lab")
        assert "lab.relay.test" in here.names.asked
        assert len(here.lab.connections) == 2
        for attempts in await here.attempts(2):
            assert {provider for provider, *_ in attempts} == {"lab"}


ROWS = {
    "U2": Row(
        "U2",
        inject="the provider's name: NXDOMAIN, SERVFAIL, an answer after 30 s; one that resolved "
        "before and does no more",
        client="as U1, within the connect limit (`CONNECT_TIMEOUT` where no answer came); a name "
        "that did resolve: nothing of it",
        accounting="void",
        retry="the next target; the old address serves while there is no new one; nobody waits for "
        "somebody else's name",
        parts=(
            Part("no_answer", does_not_resolve, weakness="nobody_else_is_asked", timeout_s=60),
            Part("late", resolves_too_late, weakness="connections_are_waited_for", timeout_s=60),
            Part("no_more", resolves_no_more, weakness="addresses_are_forgotten", timeout_s=60),
        ),
        also=("tests/transport/test_connect.py::test_a_name_that_does_not_resolve",),
    ),
}
