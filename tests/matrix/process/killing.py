"""A relay that is killed, at an instant that is drawn, and started again."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from tests.fakes.h2_server import ServerStream
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import DONE, chunk
from tests.matrix.process.place import Place, ask, holds, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import FACES, USAGE, WHOLE_MICRO, KeyedClient, word

ASKERS = 6


async def _slowly(stream: ServerStream) -> None:
    await stream.send_headers()
    for number in range(4):
        await asyncio.sleep(0.01)
        await stream.send(word(f"w{number} "))
    rest = [chunk(finish="stop"), chunk(usage=USAGE, choices=[]), DONE]
    await stream.send(b"".join(rest), end=True)


async def at_any_instant(stage: Stage) -> None:
    async with place(stage, script=_slowly) as here:
        relay = here.relay()
        async with relay, here.client(relay) as client:
            running = [
                asyncio.create_task(_until_it_dies(client, face))
                for face in stage.draw.choices(FACES, k=ASKERS)
            ]
            await soon(lambda: here.books.rows("SELECT 1 FROM attempts"))
            await asyncio.sleep(stage.draw.uniform(0, 0.3))  # the instant is what is drawn
            relay.signal(signal.SIGKILL)
            await relay.exited()
            whole = sum(await asyncio.gather(*running))
        _nothing_is_lost(here, whole)
        before = {one.row["id"]: one for one in here.booked()}
        async with here.relay() as successor, here.client(successor) as client:
            await holds(lambda: not here.books.open_rows(), "what died stays open")
            assert (await ask(client, "json")).is_clean
            await holds(lambda: not here.books.open_rows(), "its end is not booked")
            await _nothing_twice(here, before)
        await _the_log_is_whole(here)


async def _until_it_dies(client: KeyedClient, face: str) -> int:
    """How many answers came whole."""
    count = 0
    while (reply := await ask(client, face)).is_clean:
        count += 1
    # A client of a relay that is gone is told nothing by it, or what it told before.
    assert reply.reason == "TRANSPORT", reply
    return count


def _nothing_is_lost(here: Place, whole: int) -> None:
    here.books.check(is_quiet=False)
    settled = [one for one in here.booked() if one.state == "settled"]
    assert len(settled) >= whole, "an end that a client has is not booked"
    assert {one.cost_micro for one in settled} <= {WHOLE_MICRO}


async def _nothing_twice(here: Place, before: dict[str, Any]) -> None:
    states = here.books.check()
    assert set(states) <= {"settled", "estimated", "void"}
    after = {one.row["id"]: one for one in here.booked()}
    assert len(after) == len(before) + 1
    for id_, one in before.items():
        if one.state != "open":
            assert (after[id_].state, after[id_].cost_micro) == (one.state, one.cost_micro)


async def _the_log_is_whole(here: Place) -> None:
    verified = await here.command("audit", "verify")
    assert verified.status == 0, verified


async def as_it_is_sent(stage: Stage) -> None:
    """The provider has the request: the relay dies at that, and its row is there all the same."""
    relays: list[RelayProcess] = []

    async def kill(stream: ServerStream) -> None:
        relays[0].signal(signal.SIGKILL)
        await stream.hang()

    async with place(stage, script=kill) as here, here.relay() as relay:
        relays.append(relay)
        async with here.client(relay) as client:
            reply = await ask(client, stage.draw.choice(FACES))
            assert reply.reason == "TRANSPORT", reply
        await relay.exited()
        rows = here.booked()
        assert len(rows) == 1, "it was sent, and nobody knows of it"
        (booked,) = rows
        assert booked.state == "open"
        assert int(booked.row["reserved_micro"]) >= WHOLE_MICRO
        assert booked.asked == ["lab"]
        here.books.check(is_quiet=False)


ROWS = (
    Row(
        "P2",
        inject="SIGKILL at any instant, and as a request is sent; restart",
        client="what the transport tells; whole answers are none that are not booked",
        accounting="rows that are open are there, and become estimated or void once; sums add up;"
        " the audit log's chain holds",
        retry="no double charge",
        parts=(
            Part("any_instant", at_any_instant, weakness="nobody_sweeps", timeout_s=90),
            Part("as_it_is_sent", as_it_is_sent, weakness="rows_come_later", timeout_s=60),
        ),
        also=(
            "tests/integration/test_killed_relay.py",
            "tests/store/test_crashes.py",
            "tests/governance/test_interrupts.py",
        ),
    ),
)
