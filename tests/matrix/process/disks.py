"""A disk that is full, fails, or may not be written: under the usage, the audit log, the log."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from relay.administering import desk_of
from relay.administration.administrators import create_administrator
from relay.administration.roles import OPERATOR, Actor
from relay.errors import StoreDown
from relay.governance.admission import Admission
from relay.governance.audit_chain import EMPTY, Entry, Head
from relay.store.audit_store import AuditStore
from relay.store.base import OpenedGeneration
from tests.fakes.admin_tokens import owner_of
from tests.fakes.h2_server import in_turn, stream_chunks
from tests.fakes.relay_under_test import chat_body
from tests.matrix.process.blind import blind
from tests.matrix.process.faulty_disk import FAULTS, Fault, FaultyDisk
from tests.matrix.process.place import Gated, Place, ask, asking, ended, holds, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, WHOLE_MICRO, KeyedClient, World, whole_answer, world

NOBODY = "rtk_nobody"


async def usage(stage: Stage, fault: Fault) -> None:
    disk = FaultyDisk(stage.patch)
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(lab.script, stream_chunks(whole_answer("again")))
        running = asking(here.relay, [here.face()])
        await soon(lambda: lab.begun == 1)
        disk.fail(fault)
        for face in stage.draw.sample(FACES, k=2):
            await _refused(here.relay, face)
        assert len(here.lab.requests(CHAT)) == 1, "sent without a row"
        lab.gate.set()
        (reply,) = await ended(running, 5)
        assert reply.is_clean, "what runs is none the worse"
        assert disk.failed
        disk.mend()
        again = await until_taken(here.relay, here.face())
        assert again.text == "again"
        for booked in await here.booked(2):
            assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


async def _refused(client: KeyedClient, face: str) -> None:
    reply = await ask(client, face)
    assert reply.reason == "LEDGER_UNAVAILABLE", reply
    assert reply.code in {"503", "14"}


async def until_taken(client: KeyedClient, face: str) -> Any:
    """Ask until it is answered, as clients do that are told to come again."""
    for _ in range(400):
        reply = await ask(client, face)
        if reply.is_clean:
            return reply
        assert reply.reason == "LEDGER_UNAVAILABLE", reply
    raise AssertionError("it does not recover")


def rows_are_not_needed(patch: pytest.MonkeyPatch) -> None:
    """That nothing is admitted without its row."""
    reserve = Admission._reserve

    async def go_on(
        admission: Admission, opened: OpenedGeneration, amounts: list[int], grant: Any
    ) -> int:
        try:
            return await reserve(admission, opened, amounts, grant)
        except StoreDown:
            return amounts[0]

    patch.setattr(Admission, "_reserve", go_on)


async def full(stage: Stage) -> None:
    """By a limit of the process on the size of its files: the kernel refuses the write."""
    async with place(stage) as here, here.relay() as relay, here.client(relay) as client:
        assert (await ask(client, "sse")).is_clean
        await soon(lambda: not here.books.open_rows())
        largest = max(one.stat().st_size for one in here.stage.tmp_path.iterdir())
        room = largest + stage.draw.randrange(1, 20_000)
        _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (room, hard))
        asked = 0
        while (reply := await ask(client, "json")).is_clean:
            asked += 1
            assert asked < 300, "the disk is not full"
        assert (reply.reason, reply.code) == ("LEDGER_UNAVAILABLE", "503"), reply
        sent = len(here.lab.requests(CHAT))
        for face in stage.draw.sample(FACES, k=2):
            await _refused(client, face)
        assert len(here.lab.requests(CHAT)) == sent, "sent without a row"
        await _denied(client)
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert (await until_taken(client, "sse")).is_clean
        await soon(lambda: not here.books.open_rows())
        await holds(lambda: _denials(here), "the denial is told once there is room")
        states = here.books.check()
        assert states["settled"] == len(here.lab.requests(CHAT)), states
        assert set(states) == {"settled"}, states


async def _denied(client: KeyedClient) -> None:
    told = await client.chat(chat_body("alone"), authorization=f"Bearer {NOBODY}")
    assert told.status_code in (401, 503), "behind, it is not known whether it is a key"


def _denials(here: Place | World) -> list[dict[str, Any]]:
    return here.books.rows("SELECT * FROM audit WHERE action IN ('key.denied', 'store.down')")


async def audit(stage: Stage) -> None:
    disk = FaultyDisk(stage.patch, only="audit")
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab", " words"))
        token = owner(here)
        headers = {"authorization": f"Bearer {token}"}
        trail = here.relay.worker.accounts.trail
        disk.fail(stage.draw.choice(FAULTS))
        told = await here.relay.chat(chat_body("alone"), authorization=f"Bearer {NOBODY}")
        assert told.status_code == 401
        await holds(lambda: trail.describe()["down"], "nobody says that it cannot be written")  # type: ignore[attr-defined]
        reply = await here.ask(here.face(), "alone")
        assert reply.is_clean, "the data path does not wait for the log"
        async with here.relay.admin() as admin:
            act: dict[str, Any] = {"json": {"name": "acme"}, "headers": headers}
            told = await admin.post("/admin/v1/organisations", **act)
            assert told.status_code >= 500, "an act that nobody is told of"
            names = "SELECT name FROM organisations WHERE name = 'acme'"
            assert not here.books.rows(names), "and it was done"
            disk.mend()
            await holds(lambda: _denials(here), "what waited is written")
            told = await admin.post("/admin/v1/organisations", **act)
            assert told.status_code < 300, told.text
        assert here.books.rows(names)
        assert trail.describe()["lost"] == 0  # type: ignore[attr-defined]
        (booked,) = await here.booked(1)
        assert booked.state == "settled"


def owner(here: World) -> str:
    desk = desk_of(here.relay.worker._config, here.rows._engine)
    return create_administrator(desk, Actor("cli:tests", OPERATOR), "root", "owner").secret


def acts_go_untold(patch: pytest.MonkeyPatch) -> None:
    """That an act whose entry cannot be written is not done."""
    append = AuditStore.append

    def try_to(store: AuditStore, connection: Any, entries: Sequence[Entry]) -> Head:
        try:
            return append(store, connection, entries)
        except Exception:
            if not entries[0].action.startswith("organisation."):
                raise
            return EMPTY

    patch.setattr(AuditStore, "append", try_to)


async def log(stage: Stage) -> None:
    """Both outputs of the process, and the anchors of the audit log, on a disk without room."""
    anchors = {"audit": {"anchor": "/dev/full", "checkpoint_s": 1}}
    async with place(stage, anchors) as here:
        token = owner_of(here.document)
        device = os.open("/dev/full", os.O_WRONLY)
        try:
            async with blind(here, output=device) as (relay, client):
                replies = await ended(asking(client, stage.draw.choices(FACES, k=4)), 10)
                for reply in replies:
                    assert reply.is_clean, reply
                state: dict[str, Any] = {}

                async def is_told() -> bool:
                    state.update(await relay.state(token))
                    return state["log"]["dropped_lines"] > 0 and bool(
                        state["accounts"]["audit"]["not_anchored"]
                    )

                for _ in range(200):
                    if await is_told():
                        break
                    await asyncio.sleep(0.02)
                assert state["log"]["dropped_lines"] > 0
                assert state["accounts"]["audit"]["not_anchored"]
                assert (await ask(client, "json")).is_clean
        finally:
            os.close(device)
        assert [one.state for one in here.booked()] == ["settled"] * 5
        here.books.check()


ROWS = (
    Row(
        "P3",
        inject="disk full, EIO, read-only: under usage, audit log and log",
        client="503 `LEDGER_UNAVAILABLE`; what runs ends cleanly; acts of administrators are"
        " refused; a log that cannot be written is nobody's trouble",
        accounting="nothing is admitted without its row; ends are kept until it works again",
        retry="never sent; it recovers without a restart",
        parts=(
            Part("usage_full", full, weakness="rows_are_not_needed", timeout_s=60),
            *(
                Part(f"usage_{how}", partial(usage, fault=how), rows_are_not_needed)
                for how in FAULTS
            ),
            Part("audit", audit, acts_go_untold),
            Part("log", log, weakness="lines_are_written_at_once", timeout_s=60),
        ),
        also=(
            "tests/store/test_sqlite_faults.py",
            "tests/governance/test_audit_trail.py::test_entries_wait_for_the_database_and_none_is_lost",
            "tests/governance/test_audit_anchor.py::test_full_disk_is_told",
            "tests/test_log_sink.py",
            "tests/observability/payloads/test_log.py",
        ),
    ),
)
