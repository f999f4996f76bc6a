"""How a provider's refusals are asked for and looked at: statuses of every wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2

from relay.emulator.wires.base import Failure, error_head
from relay.target_state import TargetState
from tests.fakes.admin_tokens import owner_of
from tests.fakes.converse_client import details_of, start, status_of
from tests.fakes.h2_server import Script, answer
from tests.fakes.relay_under_test import chat_body
from tests.matrix.world import World, document
from tests.surfaces.wires import ProviderWire

GRPC = ("generate", "converse")
HINT_FACES = ("sse", "json", "generate")
"""Where `hint_s` knows to look; a session says it as Generate does."""
RATE_LIMIT_WORDS = ("ratelimit", "retry-after")


def refuses(
    wire: ProviderWire, failure: Failure, *headers: tuple[str, str], status: int | None = None
) -> Script:
    """The wire's own answer for a failure, without what its head says of limits.

    Args:
        status: in place of the wire's own.
    """
    head = [
        (name, value)
        for name, value in error_head(wire.emulated, failure)
        if not any(word in name for word in RATE_LIMIT_WORDS)
    ]
    body = wire.emulated.error_body(failure)
    return answer(status or wire.emulated.error_status(failure), body, [*head, *headers])


async def hint_s(here: World, face: str, model: str) -> tuple[str, float | None]:
    """Ask, and be refused: the code, and when to come back."""
    if face == "generate":
        result = await here.relay.generate(start("g", model))
        status = status_of(result.error)
        here.everything.append(repr(status))
        told = details_of(status).get("RetryInfo")
        delay = None if told is None else told.retry_delay
        return str(status.code), None if delay is None else delay.seconds + delay.nanos / 1e9
    response = await here.relay.chat(chat_body(model, stream=face == "sse"))
    here.everything.append(response.text)
    told_ms = response.headers.get("retry-after-ms")
    if told_ms is not None:
        assert int(response.headers["retry-after"]) * 1000 >= int(told_ms)
    return str(response.status_code), None if told_ms is None else int(told_ms) / 1000


def lab_state(here: World, provider: str = "lab") -> TargetState:
    """What the relay has learnt of it."""
    state = here.relay.worker.services.planner.states.known(f"{provider}/m")
    assert state is not None
    return state


def now_s(here: World) -> float:
    """By the relay's clock."""
    return here.relay.worker.services.clock()


def keys_shown(streams: Sequence[object]) -> list[str]:
    """The keys of requests, in order, whichever header they came in."""
    found = []
    for stream in streams:
        headers = dict(stream.headers)  # type: ignore[attr-defined]
        given = headers.get("authorization") or headers.get("x-api-key") or ""
        found.append(given.removeprefix("Bearer "))
    return found


@asynccontextmanager
async def as_operator(here: World) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the admin listener that may see everything."""
    settings = document(here.stage, here.lab, here.spare)
    token = await asyncio.to_thread(owner_of, settings)
    async with here.relay.admin() as admin:
        admin.headers["authorization"] = f"Bearer {token}"
        yield admin
