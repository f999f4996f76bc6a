"""What changes under load: a worker dies, a reload, a key revoked, a certificate swapped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

import httpx2
import pytest

from relay.config import ConfigError, parse
from relay.dispatch import Services
from relay.governance.directory_sync import DirectorySync
from relay.store import schema
from relay.tls.door import Door
from tests.fakes.relay_fleet import all_ready, shared
from tests.fakes.relay_under_test import chat_body
from tests.fakes.tls_files import TlsFiles
from tests.fakes.tls_relay import TlsRelay, tls_relay
from tests.matrix.process.place import Gated, ask, asking, ended, holds, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, WHOLE_MICRO, merged, world

WORKERS = 2
STREAMS = 12
"""Each over a connection of its own: that one worker of two gets none of them is one case in four
thousand, and is asserted."""


async def worker_dies(stage: Stage) -> None:
    if sys.platform != "linux":
        pytest.skip("SO_REUSEPORT spreads on Linux alone")
    lab = Gated()
    async with place(stage, script=lab.script, inter_token_ms=100_000, total_ms=200_000) as here:
        with shared(here.document) as document:
            here.document = document
            relay = here.relay("--workers", str(WORKERS))
            async with relay:
                pids = await all_ready(relay, WORKERS)
                relay.log.clear()
                bearer = {"authorization": f"Bearer {here.key}"}
                url = f"http://127.0.0.1:{relay.ports['http']}"
                running = [asyncio.create_task(_own(url, bearer)) for _ in range(STREAMS)]
                await soon(lambda: lab.begun == STREAMS)
                held = _by_worker(here.books.rows("SELECT instance_id FROM generations"))
                assert len(held) == WORKERS, held
                os.kill(pids[1], signal.SIGKILL)
                await relay.logged("worker_died", timeout_s=20)
                async with relay.http("admin") as admin:
                    assert (await admin.get("/healthz")).status_code == 200
                estimated = "SELECT instance_id FROM generations WHERE state = 'estimated'"
                await holds(lambda: here.books.rows(estimated), "what it held stays open", 60)
                lab.gate.set()
                await asyncio.wait(running, timeout=20)
                whole = sum(task.result() for task in running if task.done())
                (dead,) = _by_worker(here.books.rows(estimated))
                assert whole == STREAMS - held[dead], (whole, held, "others are none the worse")
                assert any(line.get("event") == "worker_started" for line in relay.log) or (
                    await _is_replaced(relay)
                ), "its place stays empty"
                states = here.books.check()
                assert states == {"settled": whole, "estimated": held[dead]}


async def _is_replaced(relay: Any) -> bool:
    try:
        await relay.logged("worker_started", timeout_s=8)
    except TimeoutError:
        return False
    return True


async def _own(url: str, headers: dict[str, str]) -> bool:
    """Ask over a connection of its own; whether the answer came whole."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        try:
            told = await http.post(CHAT, json=chat_body("alone"), headers=headers)
        except httpx2.TransportError:
            return False
    return told.text.endswith("data: [DONE]\n\n")


def _by_worker(rows: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row["instance_id"]] = found.get(row["instance_id"], 0) + 1
    return found


async def reloaded(stage: Stage) -> None:
    """A file without the provider that is answering: who waits for it gets all of it."""
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        running = asking(here.relay, stage.draw.choices(FACES, k=4))
        await soon(lambda: lab.begun == 4)
        spare = {"candidates": [{"provider": "spare", "model": "m"}]}
        changed = {
            **here.document,
            "providers": {"spare": here.document["providers"]["spare"]},
            "models": {"alone": spare, "pair": spare},
        }
        here.relay.worker._take(parse({**changed, "server": {}}))
        await holds(lambda: "lab" not in here.relay.worker._catalog.endpoints, "it is not taken")
        reply = await here.ask(here.face(), "alone")
        assert (reply.text, reply.provider) == ("spare words", "spare")
        lab.gate.set()
        for told in await ended(running, 10):
            assert told.is_clean, told
            assert told.text == "One two"
        booked = await here.booked(5)
        assert {(one.state, one.cost_micro) for one in booked} == {("settled", WHOLE_MICRO)}
        broken = merged(here.document, {"models": {"alone": {"candidates": []}}})
        try:
            here.relay.worker._take(parse({**broken, "server": {}}))
        except ConfigError:
            pass  # as a reload that is refused
        assert (await here.ask("json", "alone")).text == "spare words"


def reloads_end_what_runs(patch: pytest.MonkeyPatch) -> None:
    """That what runs keeps the configuration it began with."""
    from relay.errors import Draining
    from relay.server import Worker

    use = Worker._use

    def cut(worker: Worker, config: Any, taken: Any) -> None:
        use(worker, config, taken)
        services: Services = worker.services
        services.live.cancel_all(Draining("another configuration"))

    patch.setattr(Worker, "_use", cut)


async def revoked(stage: Stage) -> None:
    """A key with answers under way: they end well, and no other begins within a second."""
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        running = asking(here.relay, stage.draw.choices(FACES, k=3))
        await soon(lambda: lab.begun == 3)
        lab.gate.set()
        begun, now_us = lab.begun, time.time_ns() // 1000
        what, name = stage.draw.choice([(schema.keys, here.key_id), (schema.teams, "")])
        if name:
            here.rows.change(what, name, revoked_at_us=now_us)
        else:
            (team,) = here.books.rows("SELECT team_id FROM keys")
            here.rows.change(what, team["team_id"], archived_at_us=now_us)
        began_s = time.monotonic()
        while (reply := await ask(here.relay, "json")).is_clean:
            assert time.monotonic() - began_s < 5, "it is heard by nobody"
            begun += 1
        assert reply.code == "401", reply
        for told in await ended(running, 10):
            assert told.is_clean, told
        for face in ("sse", "json"):
            assert (await ask(here.relay, face)).code == "401"
        assert len(here.lab.requests(CHAT)) == begun
        assert {one.state for one in await here.booked(begun)} == {"settled"}


def nobody_looks_at_keys(patch: pytest.MonkeyPatch) -> None:
    """The looks at the store for keys that were changed."""

    async def sleeps(_: DirectorySync) -> None:
        await asyncio.Event().wait()

    patch.setattr(DirectorySync, "_run", sleeps)


async def certificate_swapped(stage: Stage) -> None:
    """New files under running streams: new handshakes see them, streams never notice."""
    lab = Gated()
    files = TlsFiles(stage.tmp_path)
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        document = {name: here.document[name] for name in ("providers", "models")}
        async with tls_relay(files, files.settings(check_files_ms=50), document) as relay:
            listener = stage.draw.choice(["grpc", "http", "admin"])
            before = await _serial(relay, listener)
            async with relay.http() as http:
                running = [
                    asyncio.create_task(http.post(CHAT, json=chat_body("alone"))) for _ in range(3)
                ]
                await soon(lambda: lab.begun == 3)
                wanted = files.renew()
                assert wanted != before
                until_s = time.monotonic() + 5
                while await _serial(relay, listener) != wanted:
                    assert time.monotonic() < until_s, "the new one is never shown"
                    await asyncio.sleep(0.02)
                lab.gate.set()
                for task in running:
                    told = await asyncio.wait_for(task, 10)
                    assert told.text.endswith("data: [DONE]\n\n"), told.text


async def _serial(relay: TlsRelay, listener: str) -> int:
    return (await relay.handshake(listener, alpn=("h2",)))[2]


def files_are_read_once(patch: pytest.MonkeyPatch) -> None:
    """The looks at the files of listeners."""
    patch.setattr(Door, "look", lambda *_: False)


ROWS = (
    Row(
        "P9",
        inject="one worker of several dies, the file is reloaded, a key revoked, a certificate"
        " swapped: all of it while answers are under way",
        client="the others' answers are whole; a revoked key is refused within a second",
        accounting="what a dead worker held is estimated once; the rest is settled",
        retry="its place is filled again; the health port answers meanwhile",
        parts=(
            Part("worker_dies", worker_dies, weakness="its_place_stays_empty", timeout_s=120),
            Part("reload", reloaded, reloads_end_what_runs),
            Part("revoked", revoked, nobody_looks_at_keys),
            Part("certificate", certificate_swapped, files_are_read_once),
        ),
        also=(
            "tests/integration/test_workers.py",
            "tests/integration/test_killed_relay.py::test_one_worker_of_four_is_killed",
            "tests/integration/test_shutdown.py::"
            "test_process_reloads_on_sighup_without_dropping_a_stream",
            "tests/integration/test_keys.py::test_a_revocation_holds_on_every_worker",
            "tests/integration/test_tls_swap.py",
        ),
    ),
)
