"""What rows of this folder ask of replies and of the books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import relay.server
import relay.transport.pool
from relay.config import Config
from relay.target_state import TargetState
from relay.transport.engine import TransportSettings
from tests.fakes.askers import Reply
from tests.fakes.relay_under_test import Document, eventually
from tests.matrix.row import Stage
from tests.matrix.world import Booked, World

HTTP_FACES = ("sse", "json")
UNAVAILABLE, DEADLINE = "14", "4"
"""gRPC codes."""

Story = list[tuple[str, str, str]]
"""Of attempts in order: provider, role, state in the books."""

SPARED: Story = [("lab", "primary", "free"), ("spare", "failover", "actual")]
"""The first cost nothing, and another one answered."""


def story(booked: Booked) -> Story:
    return [(str(one["provider"]), str(one["role"]), str(one["state"])) for one in booked.attempts]


def answered_by_spare(reply: Reply) -> None:
    assert reply.is_clean, reply
    assert (reply.text, reply.provider) == ("spare words", "spare")


def refused(reply: Reply, face: str, reason: str, status: int, code: str = UNAVAILABLE) -> None:
    """It failed before anything was released."""
    assert reply.reason == reason, reply
    assert reply.text == ""
    assert reply.code == (str(status) if face in HTTP_FACES else code), reply


def broke_off(
    reply: Reply, face: str, text: str, reason: str, status: int, code: str = UNAVAILABLE
) -> None:
    """It failed after this text, which `json` alone holds back."""
    assert reply.reason == reason, reply
    assert reply.text == ("" if face == "json" else text)
    if face != "sse":  # whose head was out
        assert reply.code == (str(status) if face == "json" else code), reply


async def comes_true(condition: Callable[[], object], timeout_s: float = 3.0) -> bool:
    """Whether it does, in time: for what is asserted, where `eventually` is for what is awaited."""
    try:
        await eventually(condition, timeout_s)
    except TimeoutError:
        return False
    return True


def state_of(here: World, provider: str = "lab") -> TargetState:
    """What the relay has learnt of a provider's model."""
    services = here.relay.worker.services
    target = services.catalog.resolve(f"{provider}/m").candidates[0]
    return services.planner.states.of(target, services.clock())


def reasons(booked: Booked) -> list[str]:
    return [str(one["reason"] or "") for one in booked.attempts]


def scale_down(stage: Stage, **settings: Any) -> None:
    """The pool's own limits, of relays started from now on; what is silent for 100 ms is stale."""
    given = relay.server.transport_settings

    def scaled(config: Config) -> TransportSettings:
        return replace(given(config), **settings)

    stage.patch.setattr(relay.server, "transport_settings", scaled)
    stage.patch.setattr(relay.transport.pool, "_STALE_AFTER_S", 0.1)


def row(stage: Stage, url: str, **more: Any) -> Document:
    """Of a provider beside `lab` and `spare`: with our key, and prices."""
    base: Mapping[str, Any] = {
        "wire": "openai_chat",
        "base_url": f"{url}/v1",
        "auth": "bearer",
        "api_key": "${MATRIX_KEY}",
        "ca_file": stage.ca_file,
        "warm_connections": 0,
        "probe_path": "/v1/models",
        "prices": {"m": {"input": 1.0, "output": 10.0}},
    }
    return {**base, **more}


def model(provider: str, *fallbacks: str, **more: Any) -> Document:
    """An alias of `provider`, and of others behind it."""

    def targets(*names: str) -> list[Document]:
        return [{"provider": name, "model": "m"} for name in names]

    return {"candidates": targets(provider), "fallbacks": targets(*fallbacks), **more}
