"""PostgreSQL: killed, failed over, without a free connection; and keys that cannot be read."""

from __future__ import annotations

import time
from typing import Any

import pytest

from relay.governance.directory import Directory
from relay.governance.token_text import mint
from relay.store import open_store
from relay.store.base import StoreUnavailable
from relay.store.directory_rows import Changes
from relay.store.postgres_ledger import PostgresLedger
from relay.store.postgres_link import PostgresSettings
from tests.fakes.converse_client import reason_of, start, status_of
from tests.fakes.h2_server import in_turn, stream_chunks
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.relay_under_test import Document, chat_body
from tests.matrix.process.disks import rows_are_not_needed, until_taken
from tests.matrix.process.place import Gated, ask, asking, ended, holds, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, KeyedClient, World, whole_answer, world

QUICK = PostgresSettings(
    wait_s=0.5, connect_s=0.5, batch_s=0.8, lock_s=0.3, last_backoff_s=0.1, close_s=2.0
)


def _server(stage: Stage) -> tuple[PostgresServer, Document]:
    """One that runs, with our tables, and what a configuration says of it."""
    server: PostgresServer = stage.fixture("own_postgres")
    if not server.is_running:
        server.start()
    server.execute("ALTER ROLE relay CONNECTION LIMIT -1")
    server.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
    server.execute("SELECT pg_reload_conf()")
    stage.patch.setattr(open_store, "PostgresLedger", _quick)
    url: str = stage.fixture("own_postgres_url")
    return server, {"store": {"url": url}}


def _quick(url: str, **how: Any) -> PostgresLedger:
    return PostgresLedger(url, QUICK, **how)


async def _stranger(here: World) -> tuple[int, str]:
    """What somebody is told, over HTTP and gRPC, whose key the relay does not know."""
    key = mint("virtual key").text
    told = await here.relay.chat(chat_body("alone"), authorization=f"Bearer {key}")
    other = KeyedClient(here.relay, "")
    other.http.headers["authorization"] = here.relay._metadata["authorization"]
    other._metadata = {"authorization": f"Bearer {key}"}
    result = await other.generate(start("g", "alone"))
    return told.status_code, reason_of(status_of(result.error))


async def killed_and_back(stage: Stage) -> None:
    server, more = _server(stage)
    lab = Gated()
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = in_turn(lab.script, stream_chunks(whole_answer("again")))
        directory = _directory(here)
        running = asking(here.relay, [here.face()])
        await holds(lambda: lab.begun and _attempts(here), "it is not under way")
        server.kill()
        for face in stage.draw.sample(FACES, k=2):
            reply = await ask(here.relay, face)
            assert reply.reason == "LEDGER_UNAVAILABLE", reply
        await soon(lambda: directory._has_failed)
        assert await _stranger(here) == (503, "LEDGER_UNAVAILABLE")
        known = await here.relay.http.get("/v1/models")
        assert known.status_code == 200, "a key that is known goes on"
        lab.gate.set()
        (reply,) = await ended(running, 5)
        assert reply.is_clean, reply
        assert len(here.lab.requests(CHAT)) == 1
        server.start()
        await until_taken(here.relay, here.face())
        await soon(lambda: not directory._has_failed)
        assert (await _stranger(here))[0] == 401
        assert [one.state for one in await here.booked(2)] == ["settled"] * 2


def _attempts(here: World) -> list[dict[str, Any]]:
    return here.books.rows("SELECT * FROM attempts")


def _directory(here: World) -> Directory:
    access = here.relay.worker.accounts.access
    assert access is not None
    return access.directory


def it_is_never_behind(patch: pytest.MonkeyPatch) -> None:
    """That a key may be good which is not known yet."""
    patch.setattr(Directory, "is_behind", property(lambda _: False))


async def failed_over(stage: Stage) -> None:
    server, _ = _server(stage)
    follower = server.standby()
    url: str = stage.fixture("own_postgres_url")
    both = url.replace("@", f"@127.0.0.1:{follower.port},", 1)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    server.execute("SELECT pg_reload_conf()")
    lab = Gated()
    try:
        with follower:
            async with world(stage, {"store": {"url": both}}) as here:
                here.lab.routes[CHAT] = in_turn(lab.script, stream_chunks(whole_answer("again")))
                running = asking(here.relay, [here.face()])
                await holds(lambda: lab.begun, "the server that writes is not found")
                await holds(lambda: _attempts(here), "it is not under way")
                server.kill()
                reply = await ask(here.relay, here.face())
                assert reply.reason == "LEDGER_UNAVAILABLE", reply
                lab.gate.set()
                (reply,) = await ended(running, 5)
                assert reply.is_clean, reply
                follower.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
                follower.promote()
                await until_taken(here.relay, here.face())
                assert [one.state for one in await here.booked(2)] == ["settled"] * 2
    finally:
        follower.remove()


def the_first_address_is_the_only_one(patch: pytest.MonkeyPatch) -> None:
    """The search for the server that writes."""
    patch.setattr("relay.store.postgres_link.has_several_hosts", lambda _: False)


async def no_connection_is_free(stage: Stage) -> None:
    server, more = _server(stage)
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        assert (await ask(here.relay, here.face())).is_clean
        server.execute("ALTER ROLE relay CONNECTION LIMIT 1")
        assert (await ask(here.relay, here.face())).is_clean, "what is connected goes on"
        server.execute("ALTER ROLE relay CONNECTION LIMIT 0")
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'"
        server.execute(ends)
        sent = len(here.lab.requests(CHAT))
        for face in stage.draw.sample(FACES, k=2):
            reply = await ask(here.relay, face)
            assert reply.reason == "LEDGER_UNAVAILABLE", reply
        assert len(here.lab.requests(CHAT)) == sent
        await soon(lambda: _directory(here)._has_failed)
        assert (await _stranger(here))[0] == 503
        server.execute("ALTER ROLE relay CONNECTION LIMIT -1")
        await until_taken(here.relay, here.face())
        assert {one.state for one in await here.booked(3)} == {"settled"}


class _Away:
    """Reads nothing, and counts who wants to."""

    def __init__(self) -> None:
        self.looks = 0

    def changes(self, since: int | None) -> Changes:
        self.looks += 1
        raise StoreUnavailable("away")


async def keys_cannot_be_read(stage: Stage) -> None:
    """The store of keys alone is away: those that are known are good for `stale_s`."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        access = here.relay.worker.accounts.access
        assert access is not None
        away = _Away()
        reader, access.sync._reader = access.sync._reader, away
        await soon(lambda: access.directory._has_failed)
        looks, count = away.looks, stage.draw.randint(20, 40)
        for _ in range(count):
            assert (await _stranger(here))[0] == 503
        assert away.looks - looks < count / 2, "each caller asks the store"
        assert (await ask(here.relay, here.face())).is_clean
        access.directory._looked_s = time.monotonic() - 61
        reply = await ask(here.relay, stage.draw.choice(["sse", "json"]))
        assert (reply.reason, reply.code) == ("LEDGER_UNAVAILABLE", "503"), reply
        access.sync._reader = reader
        await holds(lambda: not access.directory.is_behind, "it is never read again", 10)
        assert (await ask(here.relay, here.face())).is_clean
        assert (await _stranger(here))[0] == 401
        assert {one.state for one in await here.booked(2)} == {"settled"}


ROWS = (
    Row(
        "P6",
        inject="PostgreSQL killed, failed over, out of connections; the store of keys away",
        client="a key that is known serves for `stale_s` (60 s), an unknown one gets 503 and never"
        " 401; what needs its row gets `LEDGER_UNAVAILABLE`",
        accounting="nothing is admitted without its row; ends are kept until it works again",
        retry="one look at the store at a time, apart by chance; no caller makes one",
        parts=(
            Part("killed", killed_and_back, it_is_never_behind),
            Part("failover", failed_over, the_first_address_is_the_only_one, timeout_s=60),
            Part("no_connection", no_connection_is_free, rows_are_not_needed),
            Part("keys_away", keys_cannot_be_read, it_is_never_behind),
        ),
        also=(
            "tests/store/test_postgres_outages.py",
            "tests/integration/test_keys.py::test_an_outage_is_503_and_never_401",
            "tests/governance/test_directory_sync.py",
            "tests/governance/test_directory.py",
        ),
    ),
)
