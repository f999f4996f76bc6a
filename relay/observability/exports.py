"""What one worker tells of each generation beside its log: traces and payloads, where asked for.

Where neither is configured, nothing is imported for it and no generation does anything for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relay.config import Config, ConfigError
from relay.content import GenerateRequest
from relay.dispatch import Services
from relay.observability.payloads.log import PayloadLog
from relay.observability.recording import Recording
from relay.observability.redactor import Redactor
from relay.outcome import Recorder
from relay.trace_context import trace_of

if TYPE_CHECKING:
    from relay.observability.tracing.tracer import Tracer


class Exports:
    """Made before the worker serves, closed after its last generation."""

    def __init__(self, config: Config, hide: Callable[[str], str], instance: str) -> None:
        """
        Args:
            hide: takes the secrets out that the process knows.
            instance: what this process is called.

        Raises:
            ConfigError: a library for it is not installed, or a folder cannot be used.
        """
        section = config.observability
        redactor = Redactor(hide, section.redact)
        self._services: Services | None = None
        self._tracer: Tracer | None = None
        self._payloads: PayloadLog | None = None
        self._content_chars = 0
        if section.tracing is not None:
            try:
                # Here: who has no traces is spared OpenTelemetry's imports.
                from relay.observability.tracing.tracer import Tracer
            except ModuleNotFoundError as error:
                raise ConfigError(
                    f"observability.tracing: {error.name} is not installed;"
                    " pip install opentelemetry-proto"
                ) from error
            self._tracer = Tracer(section.tracing, self._endpoint_of, redactor, instance)
            if section.tracing.content:
                self._content_chars = section.tracing.max_content_chars
        if section.payloads is not None:
            self._payloads = PayloadLog(section.payloads, redactor, instance)

    def start(self, services: Services) -> None:
        """Hear of the ends of generations from now on."""
        self._services = services
        if self._tracer is not None:
            services.trace_rule = self._tracer.rule
            services.on_ended.append(self._tracer)
            self._tracer.start()
        if self._payloads is not None:
            services.on_ended.append(self._payloads)
            self._payloads.start()
        if self._payloads is not None or self._content_chars:
            services.record = self._record

    def _record(self, request: GenerateRequest, generation_id: str) -> Recorder | None:
        """Decided at the start, by the trace: whose answer nobody keeps is poured as ever."""
        trace = trace_of(generation_id, request.policy.traceparent)
        chars = 0
        if self._content_chars and self._tracer is not None and self._tracer.rule.is_sampled(trace):
            chars = self._content_chars
        if self._payloads is not None:
            chars = max(chars, self._payloads.chars_of(request, trace.trace_id))
        return Recording(chars) if chars else None

    def _endpoint_of(self, provider: str) -> Any:
        services = self._services
        return None if services is None else services.catalog.endpoints.get(provider)

    async def aclose(self) -> None:
        """Write and send what waits; bounded in time. Idempotent."""
        closing = [part.aclose() for part in (self._tracer, self._payloads) if part is not None]
        await asyncio.gather(*closing)

    def dropped(self) -> dict[str, int]:
        """How much of what is made was never written or taken; nothing of what is off."""
        found: dict[str, int] = {}
        if self._tracer is not None:
            found["trace"] = self._tracer.dropped
        if self._payloads is not None:
            found["payload"] = self._payloads.dropped + self._payloads.failed
        return found

    def describe(self) -> dict[str, Any]:
        """For the state of the worker: what waits, what was dropped."""
        return {
            "traces": None if self._tracer is None else self._tracer.describe(),
            "payloads": None if self._payloads is None else self._payloads.describe(),
        }
