"""The spans of one generation, as plain values: names, times, attributes, events, links.

    generation                      SERVER, the client's span is its parent
    |- admission, route, race_wait  INTERNAL, the timeline's phases, as far as they took time
    |- attempt                      CLIENT, one each: an inference span of the gen_ai conventions
    |  '- pool_wait, request_sent, response_headers, first_content
    '- relay_out, stream, end

Names and meanings: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (moved to
open-telemetry/semantic-conventions-genai, still in development); what is ours begins with
`rtrelay.`. Counts of tokens stand at the winner's attempt alone, for those who add them up.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from relay.observability.redactor import Redactor
from relay.observability.tracing.taken import Taken, TakenAttempt, TakenError
from relay.timeline import PHASES

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]

MAX_TEXT_CHARS: Final = 256
"""Of a caller's or a provider's own words in an attribute."""
MAX_LABELS: Final = 16

_OF_ATTEMPT: Final = PHASES[3:7]
_BEFORE: Final = PHASES[:3]


class Kind(enum.IntEnum):
    """The numbers of `opentelemetry.proto.trace.v1.Span.SpanKind`."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Mark(NamedTuple):
    """An event of a span."""

    name: str
    at_ns: int
    attributes: Attributes


class Link(NamedTuple):
    """To another span of the same trace."""

    span_id: str
    attributes: Attributes


class Shape(NamedTuple):
    """One span. Times are nanoseconds since 1970, ids lower-case hex."""

    name: str
    kind: Kind
    span_id: str
    parent_id: str
    is_parent_remote: bool
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: tuple[Mark, ...] = ()
    links: tuple[Link, ...] = ()
    fault: str | None = None
    """What went wrong, which may be ""; None where nothing did."""


class Door(NamedTuple):
    """What the conventions tell of a provider."""

    name: str
    """`gen_ai.provider.name`."""
    host: str
    port: int


DoorOf = Callable[[str], Door | None]
"""By the name of the provider's row; None for one that a reload has taken away."""


def shapes_of(
    taken: Taken, door_of: DoorOf, redactor: Redactor, max_content_chars: int
) -> list[Shape]:
    """All spans of a generation, the generation's own first.

    Args:
        max_content_chars: of prompt and answer each, where they are told.
    """
    wall_us = sum(taken.phases_us.values())
    start_ns = taken.ended_ns - wall_us * 1000
    trace = taken.trace
    operation = _operation(taken)
    shapes = [
        Shape(
            f"{operation} {_short(taken.model, redactor)}",
            Kind.SERVER,
            trace.span_id,
            trace.parent_id,
            True,
            start_ns,
            taken.ended_ns,
            {
                **_of_generation(taken, operation, door_of, redactor),
                **_content(taken, redactor, max_content_chars),
            },
            events=tuple(_events(taken, start_ns, redactor)),
            fault=_fault(taken.error, redactor),
        )
    ]
    shapes += _phases(taken, start_ns)
    for index, attempt in enumerate(taken.attempts):
        shapes += _attempt(taken, index, attempt, start_ns, operation, door_of, redactor)
    return shapes


# --- the generation ---------------------------------------------------------------------------


def _operation(taken: Taken) -> str:
    if taken.is_embedding:
        return "embeddings"
    return "text_completion" if taken.frontend == "completions" else "chat"


def _of_generation(taken: Taken, operation: str, door_of: DoorOf, redactor: Redactor) -> Attributes:
    policy, error, sampling = taken.policy, taken.error, taken.sampling
    door = door_of(taken.provider)
    found: Mapping[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": door.name if door else taken.provider or "rtrelay",
        "gen_ai.request.model": _short(taken.model, redactor),
        "gen_ai.response.model": _short(taken.answered_model, redactor),
        "gen_ai.response.id": _short(taken.response_id, redactor),
        "gen_ai.response.finish_reasons": taken.finish_reasons,
        "gen_ai.response.time_to_first_chunk": _first_chunk_s(taken),
        "gen_ai.conversation.id": _short(policy.session_id, redactor),
        "gen_ai.output.type": _OUTPUT_TYPES.get(taken.output_kind),
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.max_tokens": sampling.max_output_tokens,
        "gen_ai.request.choice.count": sampling.choices if sampling.choices != 1 else None,
        "gen_ai.request.seed": sampling.seed,
        "error.type": error.reason if error and not error.is_cancel else None,
        "rtrelay.generation.id": taken.generation_id,
        "rtrelay.client.generation.id": _short(taken.client_id, redactor),
        "rtrelay.client": _short(policy.client, redactor),
        "rtrelay.frontend": taken.frontend,
        "rtrelay.turn.id": _short(policy.turn_id, redactor),
        "rtrelay.team": policy.tenant,
        "rtrelay.key.id": policy.key_id,
        "rtrelay.tags": tuple(_short(tag, redactor) for tag in policy.tags),
        "rtrelay.provider": taken.provider,
        "rtrelay.service_tier": _short(taken.service_tier, redactor),
        "rtrelay.end.reason": error.reason if error else None,
        "rtrelay.attempts": len(taken.attempts),
        "rtrelay.stalls": taken.stall_count or None,
        "rtrelay.longest_gap_us": taken.longest_gap_us or None,
        "rtrelay.cancel_us": taken.cancel_us,
        "rtrelay.cost_micro_usd": _cost(taken),
    }
    attributes = _said(found)
    for name, value in list(policy.labels.items())[:MAX_LABELS]:
        attributes[f"rtrelay.label.{_short(name, redactor)}"] = _short(value, redactor)
    hedge = taken.hedge
    if hedge is not None and hedge.reason != "disabled":
        attributes["rtrelay.hedge.reason"] = hedge.reason
        attributes["rtrelay.hedge.fired"] = hedge.fired
        attributes["rtrelay.hedge.won"] = hedge.won
    return attributes


_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def _first_chunk_s(taken: Taken) -> float | None:
    """From receipt; None where there was no content."""
    if not any(attempt.is_winner for attempt in taken.attempts):
        return None
    phases = taken.phases_us
    return sum(phases.get(name, 0) for name in (*_BEFORE, *_OF_ATTEMPT)) / 1e6


def _cost(taken: Taken) -> float | None:
    costs = [attempt.cost_micro for attempt in taken.attempts if attempt.cost_micro is not None]
    return sum(costs) if costs else None


def _phases(taken: Taken, start_ns: int) -> list[Shape]:
    """Those of the generation itself. `stalls` are moments of the stream that nobody has noted
    down, so they are within its span, which tells their sum."""
    shapes, at_ns = [], start_ns
    for number, name in enumerate(PHASES, 1):
        took_us = taken.phases_us.get(name, 0)
        attributes: Attributes = {}
        if name == "stalls":
            continue
        if name == "stream" and (stalled_us := taken.phases_us.get("stalls", 0)):
            took_us += stalled_us
            attributes = {"rtrelay.stalls": taken.stall_count, "rtrelay.stalls_us": stalled_us}
        end_ns = at_ns + took_us * 1000
        if took_us and name not in _OF_ATTEMPT:
            shapes.append(
                Shape(
                    name,
                    Kind.INTERNAL,
                    taken.trace.span_of(-1, number),
                    taken.trace.span_id,
                    False,
                    at_ns,
                    end_ns,
                    attributes,
                )
            )
        at_ns = end_ns
    return shapes


def _events(taken: Taken, start_ns: int, redactor: Redactor) -> list[Mark]:
    """What was decided of the race, and how it went."""
    marks = []
    hedge = taken.hedge
    if hedge is not None and hedge.reason != "disabled":
        planned_us = sum(taken.phases_us.get(name, 0) for name in PHASES[:2])
        decided = _said(
            {
                "rtrelay.hedge.reason": hedge.reason,
                "rtrelay.hedge.delay_us": hedge.delay_us,
                "rtrelay.hedge.second": _short(hedge.second or "", redactor),
                "rtrelay.hedge.shadow": hedge.is_shadow or None,
                "rtrelay.hedge.refused": hedge.refused,
                "rtrelay.hedge.would_fire": hedge.would_fire,
                "rtrelay.hedge.would_win": hedge.would_win,
                "rtrelay.hedge.cost_micro_usd": hedge.cost,
                "rtrelay.hedge.added_cost_micro_usd": hedge.added_cost,
            }
        )
        marks.append(Mark("hedge.decided", start_ns + planned_us * 1000, decided))
    for attempt in taken.attempts:
        target: Attributes = {
            "rtrelay.target": f"{attempt.provider}/{_short(attempt.model, redactor)}"
        }
        if attempt.role == "hedge":
            marks.append(Mark("hedge.fired", start_ns + attempt.started_us * 1000, target))
        if attempt.is_winner and len(taken.attempts) > 1:
            won_us = attempt.started_us + sum(attempt.phases_us.values())
            marks.append(Mark("race.won", start_ns + won_us * 1000, target))
    return sorted(marks, key=lambda mark: mark.at_ns)


# --- an attempt -------------------------------------------------------------------------------


def _attempt(
    taken: Taken,
    index: int,
    attempt: TakenAttempt,
    start_ns: int,
    operation: str,
    door_of: DoorOf,
    redactor: Redactor,
) -> list[Shape]:
    trace, error, door = taken.trace, attempt.error, door_of(attempt.provider)
    model = _short(attempt.model, redactor)  # callers may ask for any of a provider's
    begun_ns = start_ns + attempt.started_us * 1000
    phases_us = attempt.phases_us
    is_content = "first_content" in phases_us
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": door.name if door else attempt.provider,
        "gen_ai.request.model": model,
        "gen_ai.response.time_to_first_chunk": sum(phases_us.values()) / 1e6
        if is_content
        else None,
        "server.address": door.host if door else None,
        "server.port": door.port if door else None,
        "http.response.status_code": attempt.http_status or None,
        "network.protocol.version": attempt.http_version,
        "error.type": error.reason if error and not error.is_cancel else None,
        "rtrelay.provider": attempt.provider,
        "rtrelay.attempt.role": attempt.role,
        "rtrelay.attempt.outcome": attempt.outcome,
        "rtrelay.attempt.won": attempt.is_winner,
        "rtrelay.attempt.tokens_seen": attempt.tokens_seen or None,
        "rtrelay.cost_micro_usd": attempt.cost_micro,
    }
    if attempt.is_winner:
        found["gen_ai.response.model"] = _short(taken.answered_model, redactor)
        found["gen_ai.response.id"] = _short(taken.response_id, redactor)
        found["gen_ai.response.finish_reasons"] = taken.finish_reasons
        if (usage := taken.usage) is not None:
            found["gen_ai.usage.input_tokens"] = usage.prompt_tokens
            found["gen_ai.usage.output_tokens"] = usage.completion_tokens
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
            found["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
            found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
            found["rtrelay.usage.estimated"] = usage.is_estimated or None
    shapes = [
        Shape(
            f"{operation} {model}",
            Kind.CLIENT,
            trace.span_of(index),
            trace.span_id,
            False,
            begun_ns,
            max(begun_ns, start_ns + attempt.ended_us * 1000),
            _said(found),
            links=_links(taken, index, attempt),
            fault=_fault(error, redactor),
        )
    ]
    at_ns = begun_ns
    for number, (name, took_us) in enumerate(phases_us.items(), 1):
        end_ns = at_ns + took_us * 1000
        if took_us:
            shapes.append(
                Shape(
                    name,
                    Kind.INTERNAL,
                    trace.span_of(index, number),
                    trace.span_of(index),
                    False,
                    at_ns,
                    end_ns,
                    {},
                )
            )
        at_ns = end_ns
    return shapes


def _links(taken: Taken, index: int, attempt: TakenAttempt) -> tuple[Link, ...]:
    """The winner leads to those that it beat, and each of them to it."""
    if not (attempt.is_winner or attempt.is_loser):
        return ()
    word = "beat" if attempt.is_winner else "beaten_by"
    return tuple(
        Link(taken.trace.span_of(number), {"rtrelay.link": word})
        for number, other in enumerate(taken.attempts)
        if number != index and (other.is_loser if attempt.is_winner else other.is_winner)
    )


# --- texts ------------------------------------------------------------------------------------


def _content(taken: Taken, redactor: Redactor, max_chars: int) -> Attributes:
    """Prompt and answer, where they are told: by default they are not."""
    if taken.prompt is None:
        return {}
    asked = taken.prompt.messages(redactor.clean)
    found: Attributes = {}
    if instructions := [one for one in asked if one["role"] in ("system", "developer")]:
        parts = [part for one in instructions for part in one["parts"]]
        found["gen_ai.system_instructions"] = orjson.dumps(parts).decode()
    others = [one for one in asked if one["role"] not in ("system", "developer")]
    found["gen_ai.input.messages"] = orjson.dumps(others).decode()
    is_cut = taken.prompt.is_cut
    if taken.answer is not None:
        found["gen_ai.output.messages"] = orjson.dumps(
            taken.answer.messages(redactor.clean)
        ).decode()
        is_cut = is_cut or taken.answer.is_cut
    if is_cut:
        found["rtrelay.content.cut_at_chars"] = max_chars
    return found


def _short(text: str, redactor: Redactor) -> str:
    return redactor.clean(text, MAX_TEXT_CHARS) if text else text


def _fault(error: TakenError | None, redactor: Redactor) -> str | None:
    if error is None or error.is_cancel:
        return None
    return _short(error.message, redactor)


def _said(found: Mapping[str, Any]) -> Attributes:
    """Without what says nothing."""
    return {name: value for name, value in found.items() if value not in (None, "", ())}
