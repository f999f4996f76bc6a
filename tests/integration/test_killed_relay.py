"""A relay that is killed at any instant, over one database file: no outcome that a client was given
is lost, nothing is charged twice, and what was left open is settled by its successor."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, select

from relay.store import schema
from relay.store.engine import engine_for, make_ready, reading
from relay.store.rebuild import drifts
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import answer_chunks, chat_body, chunk, provider

IS_FULL = os.environ.get("RELAY_FULL") == "1"
KILLS = int(os.environ.get("RELAY_KILLS", 200 if IS_FULL else 3))
pytestmark = [pytest.mark.sockets, pytest.mark.timeout(1800 if IS_FULL else 120)]

CALLERS = 8
OUTPUT_TOKENS, OUTPUT_MICRO = 7, 10
COST_MICRO = OUTPUT_TOKENS * OUTPUT_MICRO


async def answer_slowly(stream: ServerStream) -> None:
    """Some milliseconds from the first word to the end, so that kills come between."""
    counted = {"prompt_tokens": 5, "completion_tokens": OUTPUT_TOKENS}
    usage = chunk(usage={**counted, "total_tokens": 5 + OUTPUT_TOKENS})
    await stream.send_headers(200, [("content-type", "text/event-stream")])
    for data in [*answer_chunks("Hel", "lo", "!")[:-1], usage, b"data: [DONE]\n\n"]:
        await asyncio.sleep(random.uniform(0, 0.01))
        await stream.send(data)
    await stream.end()


async def call(url: str, key: str, delivered: set[str]) -> None:
    """Ask until the relay is gone; note every answer that came to its end."""
    headers = {"authorization": f"Bearer {key}"}
    body = chat_body(max_tokens=20, stream_options={"include_usage": True})
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        while True:
            try:
                told = await http.post(url, json=body, headers=headers)
            except httpx2.TransportError:
                return
            if told.status_code == 200 and told.text.endswith("data: [DONE]\n\n"):
                assert f'"completion_tokens":{OUTPUT_TOKENS}' in told.text
                delivered.add(told.headers["x-relay-request-id"])


def states(engine: Engine) -> dict[str, tuple[str, int | None]]:
    table = schema.generations
    with reading(engine) as connection:
        rows = connection.execute(select(table.c.id, table.c.state, table.c.settled_micro))
        return {row.id: (row.state, row.settled_micro) for row in rows}


async def test_killed_at_any_instant(
    upstream: H2Server, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_PEPPER", PEPPER)
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    make_ready(url)
    engine = engine_for(url)
    rows = Rows(engine)
    team_id = rows.team(rows.organisation())
    budget_id = rows.budget("team", team_id, 10**12)
    _, key = rows.key(team_id)
    upstream.default = answer_slowly
    prices = {"m1": {"input": 0.0, "output": float(OUTPUT_MICRO)}}
    document: dict[str, Any] = {
        "store": {"url": url},
        "auth": {"pepper": "${THE_PEPPER}"},
        "audit": {"anchor": str(tmp_path / "audit.anchor")},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, prices=prices)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
    }
    delivered: set[str] = set()
    ready_s: list[float] = []
    for life in range(KILLS):
        home = tmp_path / f"life-{life}"
        home.mkdir()
        began_s = time.monotonic()
        async with RelayProcess(home, document) as relay:
            ready_s.append(time.monotonic() - began_s)
            place = f"http://127.0.0.1:{relay.ports['http']}/v1/chat/completions"
            callers = [asyncio.create_task(call(place, key, delivered)) for _ in range(CALLERS)]
            await asyncio.sleep(random.uniform(0.05, 0.5))  # the instant is what is tried
            relay.signal(signal.SIGKILL)
            assert await relay.exited() == -signal.SIGKILL
            await asyncio.gather(*callers)
    home = tmp_path / "last"
    home.mkdir()
    async with RelayProcess(home, document):
        async with asyncio.timeout(20):
            while "open" in {state for state, _ in states(engine).values()}:
                await asyncio.sleep(0.05)
    found = states(engine)
    swept = [state for id_, (state, _) in found.items() if id_ not in delivered]
    print(
        f"\n{KILLS} kills: {len(found)} generations, {len(delivered)} delivered,"
        f" {swept.count('estimated')} estimated, {swept.count('void')} void;"
        f" ready after p50 {sorted(ready_s)[len(ready_s) // 2]:.2f} s, max {max(ready_s):.2f} s"
    )
    assert delivered
    lost = {id_: found.get(id_) for id_ in delivered if found.get(id_) != ("settled", COST_MICRO)}
    assert not lost, "each delivered end is in the books, once, with what it cost"
    with reading(engine) as connection:
        assert drifts(connection) == []
        table = schema.budget_periods
        query = select(table.c.settled_micro, table.c.reserved_micro)
        settled_micro, reserved_micro = connection.execute(
            query.where(table.c.budget_id == budget_id)
        ).one()
    assert reserved_micro == 0
    assert settled_micro == sum(cost or 0 for _, cost in found.values())
    engine.dispose()
