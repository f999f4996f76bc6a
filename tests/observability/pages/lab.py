"""A relay with a dashboard in front of the emulator, without keys and with administrators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson

from relay.administration.administrators import create_administrator
from relay.administration.desk import Desk
from relay.administration.roles import ROLES
from relay.store.engine import engine_for
from tests.fakes.admin_world import OPERATOR
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.keys import PEPPER
from tests.fakes.relay_under_test import Document, RelayUnderTest, chat_body, relay_under_test

PAGE = {"x-rtrelay-page": "1"}
QUICK, SLOW, DEAD = "emu:ttft=20,itl=4,tokens=12", "emu:ttft=700,itl=4,tokens=12", "emu-down"


def document(emulator: EmulatorProcess, seed: int, **models: Any) -> Document:
    """`voice` hedges from a slow provider to a quick one, `chat` asks the quick one; the models'
    names are the test's own by their seed."""
    row = {
        "wire": "openai_chat",
        "base_url": f"{emulator.base_url_tls}/v1",
        "ca_file": emulator.ca_file,
        "auth": "none",
        "warm_connections": 1,
    }
    quick = {"provider": "south", "model": f"{QUICK},seed={seed}"}
    return {
        "providers": {"north": row, "south": row},
        "models": {
            "voice": {
                "hedge": {"mode": "active", "delay": 100},
                "candidates": [{"provider": "north", "model": f"{SLOW},seed={seed}"}, quick],
            },
            "chat": {"candidates": [quick]},
            **models,
        },
    }


@asynccontextmanager
async def open_relay(
    document: Document,
) -> AsyncIterator[tuple[RelayUnderTest, httpx2.AsyncClient]]:
    """Without administrators, and a client of its admin listener."""
    async with relay_under_test(document) as relay, relay.admin() as admin:
        yield relay, admin


class Governed:
    """A relay with keys and administrators; `tokens` by role."""

    def __init__(self, keyed: KeyedRelay, desk: Desk, admin: httpx2.AsyncClient) -> None:
        self.keyed = keyed
        self.relay = keyed.relay
        self.desk = desk
        self.admin = admin
        self.tokens = {
            role: create_administrator(desk, OPERATOR, f"{role} of all", role).secret
            for role in ROLES
        }

    async def get(self, path: str, token: str = "") -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.admin.get(path, headers=headers)


@asynccontextmanager
async def governed_relay(folder: Path, document: Document) -> AsyncIterator[Governed]:
    async with keyed_relay(folder, document) as keyed, keyed.relay.admin() as admin:
        engine = engine_for(f"sqlite:///{folder / 'relay.db'}")
        try:
            desk = Desk(engine, audit=None, pepper=PEPPER, now_us=lambda: time.time_ns() // 1000)
            yield Governed(keyed, desk, admin)
        finally:
            engine.dispose()


async def read_events(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """Server-sent events as they come."""
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, orjson.loads(line[6:])


async def traffic(relay: RelayUnderTest, model: str, count: int, key: str = "") -> None:
    """So many requests at once, to their ends."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    await asyncio.gather(*(relay.chat(chat_body(model), **headers) for _ in range(count)))
