"""Traces of one worker: hears of ends, decides which are kept, and has them exported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from relay import __version__
from relay.config import TracingConfig
from relay.observability.redactor import Redactor
from relay.observability.tracing.collector import Collector, Sender
from relay.observability.tracing.doors import door_of
from relay.observability.tracing.exporter import Exporter
from relay.observability.tracing.shapes import Door, shapes_of
from relay.observability.tracing.taken import take
from relay.outcome import Ended
from relay.routing.endpoint import Endpoint
from relay.trace_context import trace_of


class Tracer:
    """A `Listener`; every call is some tens of microseconds' work at most, and never blocks.

    Args:
        endpoint_of: the provider's row of that name, as it is now; asked in a thread.
        instance: what this process is called (`service.instance.id`).
        make_sender: for tests; the collector of the configuration if None.
        now_ns: since 1970.
    """

    def __init__(
        self,
        config: TracingConfig,
        endpoint_of: Callable[[str], Endpoint | None],
        redactor: Redactor,
        instance: str,
        *,
        make_sender: Callable[[], Sender] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.rule = config.rule
        self._now_ns = now_ns
        self._max_chars = config.max_content_chars if config.content else 0
        self._keeps_failures = config.keep_errors
        slow_ms = config.keep_slower_than_ms
        self._slow_us = None if slow_ms is None else slow_ms * 1000
        self._flush_s = config.flush_ms / 1000
        self._exporter = Exporter(
            partial(
                shapes_of,
                door_of=partial(_door_of, endpoint_of),
                redactor=redactor,
                max_content_chars=self._max_chars,
            ),
            make_sender or partial(_collector, config),
            _resource(config, instance),
            state_of=partial(_without_secrets, redactor),
            max_waiting=config.max_waiting,
            interval_s=config.interval_ms / 1000,
        )
        self.unsampled = 0

    def start(self) -> None:
        """Begin to export."""
        self._exporter.start()

    def __call__(self, ended: Ended) -> None:
        """Keep it if it is of the sample, failed or was slow: the end is known, so that this costs
        no more than the sample."""
        trace = trace_of(ended.generation_id, ended.request.policy.traceparent)
        if not (
            self.rule.is_sampled(trace)
            or (self._keeps_failures and ended.is_failure)
            or (self._slow_us is not None and ended.first_content_us > self._slow_us)
        ):
            self.unsampled += 1
            return
        self._exporter.put(take(ended, trace, self._now_ns(), self._max_chars))

    async def aclose(self) -> None:
        """Send what waits, within `flush_ms`. Idempotent."""
        await self._exporter.aclose(self._flush_s)

    @property
    def dropped(self) -> int:
        """Generations whose spans found no room, or no collector that took them."""
        return self._exporter.dropped_generations

    def describe(self) -> dict[str, Any]:
        """For the state of the worker."""
        return {"unsampled": self.unsampled, **self._exporter.describe()}


def _without_secrets(redactor: Redactor, tracestate: str) -> str:
    """A caller may put anything there. Masked it would be no valid one: then there is none."""
    return tracestate if redactor.clean(tracestate) == tracestate else ""


def _door_of(endpoint_of: Callable[[str], Endpoint | None], provider: str) -> Door | None:
    endpoint = endpoint_of(provider)
    return None if endpoint is None else door_of(endpoint)


def _collector(config: TracingConfig) -> Sender:
    return Collector(
        config.endpoint,
        {name: value.get_secret_value() for name, value in config.headers.items()},
        timeout_s=config.timeout_ms / 1000,
        ca_file=config.ca_file,
        private=config.allow_private,
        is_compressed=config.compression == "gzip",
    )


def _resource(config: TracingConfig, instance: str) -> Mapping[str, str]:
    return {
        "telemetry.sdk.name": "rtrelay",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        **config.resource,
        "service.name": config.service_name,
        "service.version": __version__,
        "service.instance.id": instance,
    }
