"""Metrics of one worker: it counts, and answers whoever asks.

metrics = WorkerMetrics(config)                     # before the accounts, which it watches
metrics.start(sources)
metrics.configured(catalog)                         # and after each reload
link.answer("metrics", metrics.answer)              # or, alone: serve `metrics.page`
metrics.aclose()
"""

from __future__ import annotations

import secrets
from typing import Any

from relay.config import Config
from relay.errors import RelayError
from relay.governance.ledger import Refused
from relay.observability.metrics import families as of
from relay.observability.metrics.bounds import bounds_by_name, bounds_of
from relay.observability.metrics.join import alone
from relay.observability.metrics.loop_lag import LoopLag
from relay.observability.metrics.page import page
from relay.observability.metrics.recorder import Recorder
from relay.observability.metrics.sampler import Sampler, Sources
from relay.observability.metrics.snapshot import Series, Snapshot
from relay.routing.catalog import Catalog


class WorkerMetrics:
    """See the module; a `relay.accounts.Watch`. All of it in the loop's thread."""

    def __init__(self, config: Config) -> None:
        metrics = config.observability.metrics
        self._recorder = Recorder(
            bounds_of(metrics),
            max_targets=metrics.max_targets,
            max_teams=metrics.max_teams,
            dead_air_s=metrics.dead_air_ms / 1000,
            is_booked=config.store is not None and config.store.ledger,
        )
        self._needs_keys = config.auth is not None
        self._bounds = bounds_by_name(metrics)
        self._lag = LoopLag()
        self._sampler: Sampler | None = None
        self._id = secrets.token_hex(8)
        self.path = metrics.path

    def start(self, sources: Sources) -> None:
        """Begin to count what ends in these services."""
        self._sampler = Sampler(sources, self._recorder, self._lag)
        services = sources.services
        services.on_ended.append(self._recorder.ended)
        services.on_turned_away.append(self._recorder.turned_away)
        services.on_handed_through.append(self._recorder.handed_through)
        self.configured(services.catalog)
        self._lag.start()

    def configured(self, catalog: Catalog) -> None:
        """These names have rows of their own from now on."""
        routes = catalog.routes.values()
        targets = [
            (target.endpoint.provider, target.model)
            for route in routes
            for target in (*route.candidates, *route.fallbacks)
        ]
        targets += [
            (name, model) for name, row in catalog.endpoints.items() for model in row.models
        ]
        self._recorder.configured([*catalog.routes, *catalog.composed], targets)

    def aclose(self) -> None:
        """Measure no more. Idempotent."""
        self._lag.aclose()

    # --- of the accounts --------------------------------------------------------------------

    def refused(self, error: RelayError, what: Refused) -> None:
        """See `relay.accounts.Watch`."""
        self._recorder.refused(error, what.surface, "attempt" if what.attempt else "admission")

    def denied(self, *, is_by_certificate: bool) -> None:
        """See `relay.accounts.Watch`."""
        self._recorder.key_denied(is_by_certificate=is_by_certificate)

    def settled(self, team: str, cost_micro: int) -> None:
        """See `relay.accounts.Watch`. Names of bearers, which callers make, are nobody's label."""
        self._recorder.settled(team if self._needs_keys else "", cost_micro)

    # --- asked ------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """As of now; its rows are to be copied or written before the next one is made."""
        series: Series = {}
        self._recorder.fill(series)
        if self._sampler is not None:
            self._sampler.fill(series)
        return Snapshot(self._id, series)

    def answer(self) -> dict[str, Any]:
        """To the supervisor."""
        return self.snapshot().to_dict()

    async def page(self) -> bytes:
        """Of a worker that is alone."""
        series = alone(self.snapshot())
        series[of.WORKERS.name] = series[of.ANSWERING.name] = {"": 1}
        series[of.RESTARTS.name] = {"": 0}
        return await page(series, self._bounds)
