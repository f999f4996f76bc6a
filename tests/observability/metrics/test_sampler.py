"""What is read of a worker: counters of others never go down, models of callers have no rows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from relay.config import MetricsConfig
from relay.credentials.base import CredentialState
from relay.errors import Overloaded
from relay.observability.metrics.bounds import bounds_of
from relay.observability.metrics.families import FAMILIES, values_of
from relay.observability.metrics.loop_lag import LoopLag
from relay.observability.metrics.recorder import Recorder
from relay.observability.metrics.sampler import Sampler, Sources
from relay.observability.metrics.snapshot import Series
from relay.overload import Overload
from relay.resilience.breaker import BreakerState
from relay.resilience.overload import Bounds, RequestClass
from relay.transport.base import Origin, OriginState


class World:
    """A worker's parts as far as they are read."""

    def __init__(self) -> None:
        self.origins: list[OriginState] = []
        self.states: dict[str, Any] = {}
        self.credentials: dict[str, Any] = {}
        self.accounts: dict[str, Any] = {}
        self.hints: dict[str, Any] | None = None
        self.untold: dict[str, int] = {}
        self.overload = Overload(Bounds(max_generations=10))
        services: Any = SimpleNamespace(
            clock=lambda: 100.0,
            is_draining=False,
            live=[1, 2],
            reaper=[],
            planner=SimpleNamespace(states=self.states),
            transport=SimpleNamespace(describe=lambda: self.origins),
            overload=self.overload,
        )
        recorder = Recorder(
            bounds_of(MetricsConfig()),
            max_targets=10,
            max_teams=10,
            dead_air_s=1.5,
            is_booked=False,
        )
        recorder.configured(["fast"], [("lab", "m/1")])
        sources = Sources(
            services,
            40.0,
            sessions=lambda: 3,
            credentials=lambda: self.credentials,
            accounts=lambda: self.accounts,
            hints=lambda: self.hints,
            untold=lambda: self.untold,
        )
        self._sampler = Sampler(sources, recorder, LoopLag())

    def told(self) -> dict[str, dict[tuple[str, ...], Any]]:
        series: Series = {}
        self._sampler.fill(series)
        for name, rows in series.items():
            labels = [label for label in FAMILIES[name].labels if label != "worker"]
            assert all(len(values_of(key)) == max(1, len(labels)) for key in rows), name
        return {
            name.removeprefix("rtrelay_"): {tuple(values_of(key)): row for key, row in rows.items()}
            for name, rows in series.items()
        }


def origin(host: str, opened: int, **more: Any) -> OriginState:
    state = OriginState(Origin("https", host, 443), 2, 5, 1, opened, 3, None)
    return state._replace(**more)


def target(
    place: str, state: BreakerState, share: float, trips: int = 0, in_flight: int = 0
) -> Any:
    breaker = SimpleNamespace(state=state, share=lambda now_s: share, trips=trips)
    limiter = SimpleNamespace(in_flight=in_flight, limit=10)
    return SimpleNamespace(place=place, breaker=breaker, limiter=limiter)


async def test_the_worker() -> None:
    found = World().told()
    assert found["uptime_seconds"] == {("",): 60.0}
    assert found["generations_running"] == {("",): 2}
    assert found["sessions"] == {("",): 3}
    assert found["accounts_open"] == {("",): 1}, "nothing is booked"
    assert found["process_cpu_seconds_total"]["",] > 0
    assert found["process_resident_memory_bytes"]["",] > 10e6


async def test_who_was_refused_as_there_was_too_much_to_do() -> None:
    world = World()
    found = world.told()
    assert (found["overload_level"], found["overload_limit"]) == ({("",): 0}, {("",): 8})
    assert "overload_shed_total" not in found
    for _ in range(6):
        world.overload.enter()
    for _ in range(2):
        with pytest.raises(Overloaded):
            world.overload.check(RequestClass.BATCH)
    found = world.told()
    assert found["overload_shed_total"] == {("batch", "generations"): 2}
    assert found["overload_level"] == {("",): 1}


async def test_counters_of_others_never_go_down() -> None:
    world = World()
    opened: Callable[[], Any] = lambda: world.told()["streams_opened_total"]  # noqa: E731
    world.origins = [origin("a.test", 10)]
    assert opened() == {("https://a.test:443",): 10}
    world.origins = [origin("a.test", 12)]
    assert opened() == {("https://a.test:443",): 12}
    world.origins = []  # let go of by a reload
    assert opened() == {("https://a.test:443",): 12}
    assert "connections" not in world.told()
    world.origins = [origin("a.test", 3)]  # and taken back
    assert opened() == {("https://a.test:443",): 15}


async def test_connections() -> None:
    world = World()
    world.origins = [origin("a.test", 10, slots=200)]
    found = world.told()
    name = ("https://a.test:443",)
    assert found["connections"] == {name: 2}
    assert found["connection_slots"] == {name: 200}
    assert found["streams_open"] == {name: 5}
    assert found["streams_waiting"] == {name: 1}


async def test_targets() -> None:
    world = World()
    world.states |= {
        "lab/m/1": target("lab/m/1", BreakerState.CLOSED, 1.0, 2, 4),
        "lab/m/1#priority": target("lab/m/1", BreakerState.RAMP, 0.1, 1, 3),
        "lab/a-callers-own": target("lab/a-callers-own", BreakerState.OPEN, 0.0),
    }
    found = world.told()
    name = ("lab", "m/1")
    assert found["breaker_share"] == {name: 0.1}, "the worse of its tiers"
    assert {key[2]: value for key, value in found["breaker_state"].items()} == {
        "closed": 0,
        "open": 0,
        "half_open": 0,
        "ramp": 1,
    }
    assert found["breaker_trips_total"] == {name: 3}
    assert found["target_in_flight"] == {name: 7}
    assert found["target_limit"] == {name: 20}


async def test_credentials() -> None:
    world = World()

    def credential(wait_s: float, **state: Any) -> Any:
        told = CredentialState("google", **state)
        return SimpleNamespace(wait_s=lambda now_s: wait_s, describe=lambda now_s: told)

    world.credentials = {
        "static": credential(0.0),
        "vertex": credential(0.0, expires_in_s=1800.0, refreshes=4, failures=1),
        "azure": credential(5.0, failures=2),
    }
    found = world.told()
    assert found["credential_usable"] == {("static",): 1, ("vertex",): 1, ("azure",): 0}
    assert found["credential_expires_seconds"] == {("vertex",): 1800.0}
    assert found["credential_refreshes_total"] == {
        ("vertex", "ok"): 4,
        ("vertex", "failed"): 1,
        ("azure", "ok"): 0,
        ("azure", "failed"): 2,
    }


async def test_books_and_hints() -> None:
    world = World()
    world.accounts = {
        "books": {"open": False, "lost": 2},
        "audit": {"written": 10, "lost": 1, "waiting": 4},
    }
    names = ("sent", "lost", "received", "taken", "unknown", "bounded", "bad")
    world.hints = dict.fromkeys(names, 1)
    world.untold = {"log": 7, "trace": 0}
    found = world.told()
    assert found["accounts_open"] == {("",): 0}
    assert found["accounts_lost_total"] == {("",): 2}
    assert found["audit_entries_total"] == {("written",): 10, ("lost",): 1}
    assert found["audit_entries_waiting"] == {("",): 4}
    assert found["untold_total"] == {("log",): 7, ("trace",): 0}
    assert found["hints_total"] == {(name,): 1 for name in names}
