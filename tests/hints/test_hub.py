"""A supervisor passes hints between its workers, and to other machines: real socket pairs, and a
real Redis between two supervisors."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from relay.hints import hub as hubs
from relay.hints.hub import HintHub
from relay.hints.pipe_bus import PipeBus
from relay.supervisor import Supervisor
from relay.workers.link import SupervisorLink
from relay.workers.post import Post
from relay.workers.watch import Watch
from tests.fakes.relay_under_test import eventually

pytestmark = pytest.mark.sockets

HEARD_WITHIN_S = 0.1


class Machine:
    """A supervisor and its workers' ends, all in this process."""

    def __init__(self, redis_url: str | None) -> None:
        self.supervisor = Supervisor(None, 3)
        self.hub = HintHub(self.supervisor, redis_url)
        self.buses: list[PipeBus] = []
        self.heard: list[list[dict[str, Any]]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self.hub.start()
            stack.push_async_callback(self.hub.aclose)
            for number in range(3):
                post = await Post.open(number, Watch(0.0, 10.0), time.monotonic)
                stack.push_async_callback(post.aclose)
                pipe, _ = post.descriptors
                link = await SupervisorLink.connect(socket.socket(fileno=os.dup(pipe)))
                stack.push_async_callback(link.aclose)
                post.given(0)
                post.on_hint = lambda hint, number=number: self.supervisor._hinted(number, hint)
                self.supervisor._posts[number] = post
                self.heard.append([])
                self.buses.append(PipeBus(link, self.heard[-1].append))
            yield


async def test_between_workers_of_one_machine() -> None:
    machine = Machine(None)
    async with machine.running():
        took_s: list[float] = []
        for number in range(20):
            said_s = time.monotonic()
            assert machine.buses[1].publish({"number": number})
            await eventually(
                lambda: len(machine.heard[0]) == len(machine.heard[2]) == number + 1  # noqa: B023
            )
            took_s.append(time.monotonic() - said_s)
        assert sorted(took_s)[10] < HEARD_WITHIN_S
        assert machine.heard[1] == []
        assert machine.heard[0] == [{"number": number} for number in range(20)]
        assert machine.hub.describe() is None
    assert not machine.buses[0].publish({})
    assert machine.buses[0].describe() == {"by": "supervisor", "lost": 1}


async def test_between_machines(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter("ab")
    monkeypatch.setattr(hubs, "instance_id", lambda: next(names))
    here, there = Machine(redis_url), Machine(redis_url)
    async with here.running(), there.running():
        for machine in (here, there):
            await eventually(lambda: machine.hub.describe()["up"])  # type: ignore[index]  # noqa: B023
        said_s = time.monotonic()
        here.buses[0].publish({"target": "a/m"})
        await eventually(lambda: all(there.heard))
        assert time.monotonic() - said_s < 10 * HEARD_WITHIN_S
        assert there.heard == [[{"target": "a/m"}]] * 3
        assert here.heard == [[], [{"target": "a/m"}], [{"target": "a/m"}]]
