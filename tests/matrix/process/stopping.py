"""A relay that is told to stop: while it answers, again, at the end of its grace, too soon."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from relay.dispatch import Live
from tests.fakes.relay_under_test import chat_body
from tests.matrix.process.place import (
    STREAMING,
    Gated,
    SilentServer,
    ask,
    asking,
    ended,
    place,
    soon,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.weakened import program
from tests.matrix.world import CHAT, FACES, WHOLE_MICRO, world


async def lets_answers_finish(stage: Stage) -> None:
    lab = Gated()
    faces = stage.draw.choices(FACES, k=3)
    async with (
        place(stage, script=lab.script) as here,
        here.relay() as relay,
        here.client(relay) as client,
    ):
        running = asking(client, faces)
        await soon(lambda: lab.begun == len(faces))
        relay.signal(signal.SIGTERM)
        await relay.logged("draining")
        refused = [await ask(client, face) for face in ("json", "sse", "generate")]
        lab.gate.set()
        for reply in await ended(running, 10):
            assert reply.is_clean, reply
            assert reply.text == "One two"
        for reply in refused:
            assert (reply.reason, reply.code) in {("DRAINING", "503"), ("DRAINING", "14")}
        assert await relay.exited() == 0
        assert len(here.lab.requests(CHAT)) == len(faces), "what was refused is not sent"
        booked = here.booked()
        assert [one.state for one in booked] == ["settled"] * len(faces)
        assert {one.cost_micro for one in booked} == {WHOLE_MICRO}
        here.books.check()


async def second_ends_it_now(stage: Stage) -> None:
    lab = Gated()
    faces = stage.draw.sample(STREAMING, k=2)
    grace = {"server": {"drain_grace_ms": 60_000}}
    async with (
        place(stage, grace, script=lab.script) as here,
        here.relay() as relay,
        here.client(relay) as client,
    ):
        running = asking(client, faces)
        await soon(lambda: lab.begun == len(faces))
        relay.signal(signal.SIGTERM)
        await relay.logged("draining")
        assert not any(task.done() for task in running)
        relay.signal(signal.SIGTERM)
        for reply in await ended(running, 5):
            assert reply.reason == "DRAINING", reply
        assert await relay.exited() == 0
        booked = here.booked()
        assert [one.state for one in booked] == ["estimated"] * len(faces)
        here.books.check()


async def grace_has_an_end(stage: Stage) -> None:
    lab = Gated()
    grace_ms = stage.draw.randint(50, 300)
    async with world(stage, {"server": {"drain_grace_ms": grace_ms}}) as here:
        here.lab.routes[CHAT] = lab.script
        serving = asyncio.create_task(here.relay.worker.serve_until_stopped())
        running = asking(here.relay, stage.draw.choices(STREAMING, k=3))
        await soon(lambda: lab.begun == len(running))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        here.relay.worker.stop()
        replies = await ended(running, 5)
        assert loop.time() - began_s >= grace_ms / 1000
        await asyncio.wait_for(serving, 10)
        for reply in replies:
            assert reply.reason == "DRAINING", reply
        for booked in await here.booked(3):
            assert booked.state == "estimated"
            assert booked.asked == ["lab"], "never sent again"


def streams_are_cut(patch: pytest.MonkeyPatch) -> None:
    """That what runs at the end of the grace is told why it ends."""
    patch.setattr(Live, "cancel_all", lambda *_: None)


async def before_it_serves(stage: Stage) -> None:
    async with place(stage) as here, SilentServer() as silent_server:
        silent = {
            "base_url": f"https://127.0.0.1:{silent_server.port}/v1",
            "wire": "openai_chat",
            "auth": "none",
        }
        providers = here.document["providers"]
        here.document["providers"] = {**providers, "silent": {**silent, "warm_connections": 1}}
        here.relay()  # writes the file
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program(stage.weakness),
            *("serve", "-c", str(here.path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            await asyncio.wait_for(silent_server.called.wait(), 40)
            await asyncio.sleep(stage.draw.uniform(0, 0.2))  # the instant is what is drawn
            process.send_signal(stage.draw.choice([signal.SIGTERM, signal.SIGINT]))
            said, _ = await asyncio.wait_for(process.communicate(), 10)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode == 0, said
        assert b"stopped_while_starting" in said
        assert b"Traceback" not in said
        here.document["providers"] = providers
        async with here.relay() as relay, here.client(relay) as client:
            assert (await client.chat(chat_body("alone"))).status_code == 200
        here.books.check()


ROWS = (
    Row(
        "P1",
        inject="SIGTERM while streams run; twice; while the relay starts",
        client="new requests get `DRAINING`; what runs finishes; at the end of the grace, or at a"
        " second signal, an error with that reason",
        accounting="settled, or estimated; no row for what was refused",
        retry="never by the relay: no answer ends as if it were whole",
        parts=(
            Part("mid_streams", lets_answers_finish, weakness="nobody_is_waited_for", timeout_s=60),
            Part("twice", second_ends_it_now, weakness="one_stop_is_like_two", timeout_s=60),
            Part("end_of_grace", grace_has_an_end, streams_are_cut),
            Part(
                "during_the_start",
                before_it_serves,
                weakness="signals_are_the_systems",
                timeout_s=60,
            ),
        ),
        also=(
            "tests/integration/test_shutdown.py",
            "tests/integration/test_processes.py::test_stop_while_the_first_connections_are_made",
            "tests/clients/test_real_drain.py",
        ),
    ),
)
