"""What the page is told while its worker stutters, and when it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from relay.observability.live.play import BEGIN, STOP
from relay.observability.pages.play_route import PlayRoutes
from tests.fakes.virtual_time import on_virtual_time

NEWS = {"pieces": [[1, "text", "a"]], "attempts": [], "hedge": None, "committed": True, "end": None}
LATE = TimeoutError("no answer within 1 s")


class Desks:
    """Two workers; what the first is asked it hears, and its answers do not come back in time."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str, Any]] = []

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = bool
    ) -> Mapping[int, Any]:
        found: dict[int, Any] = {}
        for number in (0, 1):
            if of(number):
                self.heard.append((number, what, *given))
                found[number] = LATE if number == 0 else {"id": given[0]["id"]}
        return found

    def places(self) -> dict[int, dict[str, Any]]:
        return {0: {"status": "ready"}, 1: {"status": "ready"}}


@on_virtual_time
async def test_a_worker_that_may_have_begun_is_stopped() -> None:
    desks = Desks()
    assert await PlayRoutes(desks, None, None)._begin("gen_1", {"model": "chat"}) == 1
    asked = [(number, what) for number, what, _ in desks.heard]
    assert asked == [(0, BEGIN), (1, BEGIN), (0, STOP)]
    assert {given["id"] for _, what, given in desks.heard if what == BEGIN} == {"gen_1"}
    assert desks.heard[-1][-1] == "gen_1"


class Scripted:
    """Answers looks one after another, then with an end."""

    def __init__(self, *looks: object) -> None:
        self.looks = list(looks)

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = bool
    ) -> Mapping[int, Any]:
        look = self.looks.pop(0) if self.looks else {**NEWS, "end": {"status": "OK"}}
        return {} if look is None else {0: look}

    def places(self) -> dict[int, dict[str, Any]]:
        return {0: {"status": "ready"}}


@pytest.mark.parametrize(
    ("looks", "last"),
    [
        ([LATE, NEWS, LATE, NEWS, LATE, NEWS], b"event: end"),
        ([LATE, LATE, NEWS, LATE, LATE], b"event: end"),
        ([NEWS, LATE, LATE, LATE], b"event: lost"),
        ([NEWS, None], b"event: lost"),
    ],
)
@on_virtual_time
async def test_only_failures_in_a_row_are_a_loss(looks: list[object], last: bytes) -> None:
    routes = PlayRoutes(Scripted(*looks), None, None)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await routes._tell(send, 0, "gen_1", "chat")
    assert sent[-1]["body"].startswith(last)
    assert not sent[-1].get("more_body")
