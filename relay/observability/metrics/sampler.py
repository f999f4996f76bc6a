"""What is read of a worker when somebody asks: states, pools, credentials, books, the process.

Counters that others keep may begin anew (a target that was forgotten, an address that a reload took
away); what they had come to is held here, so that none of ours goes down.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from relay import __version__
from relay.credentials.base import Credential
from relay.dispatch import Services
from relay.observability.metrics import families as of
from relay.observability.metrics.families import Family, key_of
from relay.observability.metrics.loop_lag import LoopLag
from relay.observability.metrics.names import Names
from relay.observability.metrics.recorder import Recorder
from relay.observability.metrics.snapshot import Series
from relay.resilience.breaker import BreakerState
from relay.transport.base import OriginState

MAX_ORIGINS: Final = 1000
_PAGE_BYTES: Final = resource.getpagesize()
_STATM: Final = Path("/proc/self/statm")
_HINTS: Final = ("sent", "lost", "received", "taken", "unknown", "bounded", "bad")
_STATES: Final = tuple(BreakerState)


class Sources(NamedTuple):
    """What a worker has to be read; each as it is now."""

    services: Services
    started_s: float
    """On `services.clock`."""
    sessions: Callable[[], int]
    credentials: Callable[[], Mapping[str, Credential]]
    """By provider."""
    accounts: Callable[[], Mapping[str, Any]]
    """As `relay.accounts.Accounts.describe`."""
    hints: Callable[[], Mapping[str, Any] | None]
    """As `relay.hints.desk.HintDesk.describe`."""
    untold: Callable[[], Mapping[str, int]]
    """Lines of the log, traces and payloads that were dropped so far, each where there are any."""


class Sampler:
    """Of one worker; in the loop's thread."""

    def __init__(self, sources: Sources, recorder: Recorder, lag: LoopLag) -> None:
        self._sources = sources
        self._recorder = recorder
        self._lag = lag
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}
        """Of a counter that others keep: what it was, and what it has come to."""
        self._origins = Names(MAX_ORIGINS)
        self._keys: dict[str, str] = {}
        """Of targets with rows of their own, by place; and of each state of a breaker, by key."""
        self._states: dict[str, list[tuple[BreakerState, str]]] = {}

    def fill(self, series: Series) -> None:
        """Write all of it into a snapshot's series."""
        now_s = self._sources.services.clock()
        self._worker(series, now_s)
        self._targets(series, now_s)
        rows: dict[str, list[OriginState]] = {}
        for row in self._sources.services.transport.describe():
            rows.setdefault(self._origins.of(row.origin.url), []).append(row)
        for origin, states in rows.items():
            self._origin(series, origin, states)
        self._credentials(series, now_s)
        self._books(series)
        for (name, key), (_, total) in self._seen.items():
            series.setdefault(name, {})[key] = total

    def _count(self, family: Family, key: str, value: float) -> None:
        """A counter that another keeps is at so much now."""
        name = (family.name, key)
        before, total = self._seen.get(name, (0.0, 0.0))
        self._seen[name] = (value, total + (value - before if value >= before else value))

    def _worker(self, series: Series, now_s: float) -> None:
        services, lag = self._sources.services, self._lag
        usage = resource.getrusage(resource.RUSAGE_SELF)
        series[of.BUILD.name] = {__version__: 1}
        series[of.ANSWERS.name] = {"": 1}
        series[of.UPTIME.name] = {"": now_s - self._sources.started_s}
        series[of.DRAINING.name] = {"": int(services.is_draining)}
        series[of.RUNNING.name] = {"": len(services.live)}
        series[of.SESSIONS.name] = {"": self._sources.sessions()}
        series[of.BACKGROUND.name] = {"": len(services.reaper)}
        series[of.TASKS.name] = {"": len(asyncio.all_tasks())}
        series[of.LOOP_LAG.name] = {"": lag.histogram.row()}
        series[of.LOOP_LAG_WORST.name] = {"": lag.worst_s}
        overload = services.overload
        series[of.OVERLOAD_LEVEL.name] = {"": overload.level}
        series[of.OVERLOAD_LIMIT.name] = {"": overload.limit}
        for (kind, cause), count in overload.shed.items():
            self._count(of.OVERLOAD_SHED, key_of(kind.name.lower(), cause.value), count)
        series[of.CPU.name] = {"": usage.ru_utime + usage.ru_stime}
        series[of.MEMORY.name] = {"": _resident_bytes(usage.ru_maxrss)}

    def _targets(self, series: Series, now_s: float) -> None:
        """Of those with rows of their own: callers may name any model of a provider. The tiers of
        one model are one row, the worst of them."""
        states = series.setdefault(of.BREAKER.name, {})
        shares = series.setdefault(of.BREAKER_SHARE.name, {})
        flights = series.setdefault(of.IN_FLIGHT.name, {})
        limits = series.setdefault(of.LIMIT.name, {})
        trips: dict[str, int] = {}
        found: dict[str, tuple[float, BreakerState, int, int]] = {}
        for state in dict(self._sources.services.planner.states.items()).values():
            key = self._key_of(state.place)
            if key is None:
                continue
            breaker, limiter = state.breaker, state.limiter
            row = (breaker.share(now_s), breaker.state, limiter.in_flight, limiter.limit)
            trips[key] = trips.get(key, 0) + breaker.trips
            if (other := found.get(key)) is not None:
                share, worst = min((row[:2], other[:2]), key=lambda pair: pair[0])
                row = (share, worst, row[2] + other[2], row[3] + other[3])
            found[key] = row
        for key, (share, worst, in_flight, limit) in found.items():
            shares[key], flights[key], limits[key] = share, in_flight, limit
            for each, name in self._states[key]:
                states[name] = int(each is worst)
        for key, count in trips.items():
            self._count(of.BREAKER_TRIPS, key, count)

    def _key_of(self, place: str) -> str | None:
        """Of a target that has a row of its own."""
        key = self._keys.get(place)
        if key is None:
            provider, _, model = place.partition("/")
            if not self._recorder.knows(provider, model):
                return None
            key = self._keys[place] = key_of(provider, model)
            self._states[key] = [(each, f"{key}{of.SEPARATOR}{each.value}") for each in _STATES]
        return key

    def _origin(self, series: Series, origin: str, states: list[OriginState]) -> None:
        key = key_of(origin)
        for family, value in (
            (of.CONNECTIONS, sum(state.connections for state in states)),
            (of.SLOTS, sum(state.slots for state in states)),
            (of.STREAMS_OPEN, sum(state.open_streams for state in states)),
            (of.STREAMS_WAITING, sum(state.waiting for state in states)),
        ):
            series.setdefault(family.name, {})[key] = value
        self._count(of.STREAMS_OPENED, key, sum(state.streams_opened for state in states))
        self._count(of.STREAMS_ABORTED, key, sum(state.streams_aborted for state in states))
        self._count(of.CALMED, key, sum(state.calmed for state in states))

    def _credentials(self, series: Series, now_s: float) -> None:
        for provider, credential in self._sources.credentials().items():
            state = credential.describe(now_s)
            key = key_of(provider)
            usable = series.setdefault(of.CREDENTIAL_USABLE.name, {})
            usable[key] = int(credential.wait_s(now_s) <= 0)
            if state.expires_in_s is not None:
                series.setdefault(of.CREDENTIAL_EXPIRES.name, {})[key] = state.expires_in_s
            if state.expires_in_s is not None or state.refreshes or state.failures:
                self._count(of.CREDENTIAL_REFRESHES, key_of(provider, "ok"), state.refreshes)
                self._count(of.CREDENTIAL_REFRESHES, key_of(provider, "failed"), state.failures)

    def _books(self, series: Series) -> None:
        told = self._sources.accounts()
        books, audit, hints = told.get("books"), told.get("audit"), self._sources.hints()
        series[of.BOOKS_OPEN.name] = {"": 1 if books is None else int(books["open"])}
        self._count(of.BOOKS_LOST, "", 0 if books is None else books["lost"])
        if audit is not None:
            self._count(of.AUDIT, "written", audit["written"])
            self._count(of.AUDIT, "lost", audit["lost"])
            series[of.AUDIT_WAITING.name] = {"": audit["waiting"]}
        for record, dropped in self._sources.untold().items():
            self._count(of.UNTOLD, record, dropped)
        if hints is not None:
            for name in _HINTS:
                self._count(of.HINTS, name, hints[name])


def _resident_bytes(most: int) -> int:
    """Now; where the system does not say that, the most it has been."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return most * (1 if sys.platform == "darwin" else 1024)
