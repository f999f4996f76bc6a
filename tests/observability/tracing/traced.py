"""Generations on the virtual clock, and the spans that are made of them."""

from __future__ import annotations

from collections.abc import Callable

from relay.config import TracingConfig
from relay.content import GenerateRequest
from relay.governance.known_secrets import KnownSecrets
from relay.observability.recording import Recording
from relay.observability.redactor import Redactor
from relay.observability.tracing.doors import door_of
from relay.observability.tracing.shapes import Door, Shape, shapes_of
from relay.observability.tracing.taken import Taken, take
from relay.outcome import Ended
from relay.trace_context import trace_of
from tests.fakes.scenario import Scenario

NOW_NS = 1_790_000_000_000_000_000
PLAIN = Redactor(str)


def listening(scenario: Scenario, content_chars: int = 0) -> list[Taken]:
    """What is taken of each end from now on."""
    taken: list[Taken] = []

    def hear(ended: Ended) -> None:
        trace = trace_of(ended.generation_id, ended.request.policy.traceparent)
        taken.append(take(ended, trace, NOW_NS, content_chars))

    scenario.services.on_ended.append(hear)
    if content_chars:
        scenario.services.record = lambda request, generation_id: Recording(content_chars)
    return taken


def doors(scenario: Scenario) -> Callable[[str], Door | None]:
    """Of the scenario's providers."""
    endpoints = scenario.services.catalog.endpoints
    return lambda name: door_of(endpoints[name]) if name in endpoints else None


async def spans_of(
    scenario: Scenario,
    wanted: GenerateRequest | None = None,
    *,
    content_chars: int = 0,
    redactor: Redactor = PLAIN,
) -> list[Shape]:
    """Of one generation that is run to its end."""
    taken = listening(scenario, content_chars)
    await scenario.generate(wanted)
    await scenario.settled()
    (one,) = taken
    return shapes_of(one, doors(scenario), redactor, content_chars)


def knowing(*secrets: str) -> Redactor:
    """One that knows these secrets."""
    return Redactor(KnownSecrets(secrets).hide)


def tracing(endpoint: str, **more: object) -> TracingConfig:
    """A configuration that exports quickly."""
    return TracingConfig.model_validate({"endpoint": endpoint, "interval_ms": 10, **more})
