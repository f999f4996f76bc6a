"""Conditions of rules, made into closures once, when the configuration is read.

Each is one key of `when`. The cheap ones are looked at first, whatever their order in the file:
they have no effects, so the order cannot be seen in what comes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from relay.config.rule_values import Range
from relay.config.rules import LatencyConfig, TimeConfig, WhenConfig
from relay.policy.facts import AUDIO, FILES, IMAGES, Facts
from relay.policy.patterns import matcher
from relay.policy.week import span, wall

Test = Callable[[Facts], bool]
QUANTILES: Final = {"p50": 0.5, "p95": 0.95}


class Condition(NamedTuple):
    """One key of `when`."""

    field: str
    wanted: str
    """As the file has it, for people."""
    holds: Test
    found: Callable[[Facts], str]
    """What the request has there, for people; never text of a prompt."""


def conditions(when: WhenConfig) -> tuple[Condition, ...]:
    """All that are given, the cheapest first."""
    given = when.given
    return tuple(
        Condition(field, _shown(given[field]), make(given[field]), found)
        for field, (make, found) in _FIELDS.items()
        if field in given
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_shown(one)}" for name, one in value.items())
    if isinstance(value, Range):
        return _span(value.min, value.max)
    if isinstance(value, TimeConfig):
        parts = (_shown(value.days or ()), value.hours or "", value.zone)
        return " ".join(part for part in parts if part)
    if isinstance(value, LatencyConfig):
        bound = (
            f"above {value.above_ms}" if value.above_ms is not None else f"below {value.below_ms}"
        )
        return f"{value.quantile} of {value.of} {bound} ms"
    return str(value)


def _span(least: int | None, most: int | None) -> str:
    if least is None:
        return f"at most {most}"
    return f"at least {least}" if most is None else f"{least} to {most}"


# --- each of them ---------------------------------------------------------------------------


def _model(texts: tuple[str, ...]) -> Test:
    fits = matcher(texts)
    return lambda facts: fits(facts.request.model)


def _one_of(read: Callable[[Facts], str]) -> Callable[[tuple[str, ...]], Test]:
    """Of values that are compared as they are."""

    def make(texts: tuple[str, ...]) -> Test:
        wanted = frozenset(texts)
        return lambda facts: read(facts) in wanted

    return make


def _like_one_of(read: Callable[[Facts], str]) -> Callable[[tuple[str, ...]], Test]:
    """Of values that `*` may stand for, none of which is empty."""

    def make(texts: tuple[str, ...]) -> Test:
        fits = matcher(texts)

        def holds(facts: Facts) -> bool:
            value = read(facts)
            return value != "" and fits(value)

        return holds

    return make


def _is(read: Callable[[Facts], bool]) -> Callable[[bool], Test]:
    def make(wanted: bool) -> Test:
        if wanted:
            return read
        return lambda facts: not read(facts)

    return make


def _has(kind: int) -> Callable[[bool], Test]:
    return _is(lambda facts: facts.media & kind != 0)


def _tags(texts: tuple[str, ...]) -> Test:
    wanted = frozenset(texts)
    return lambda facts: not wanted.isdisjoint(facts.request.policy.tags)


def _tools(wanted: bool | tuple[str, ...]) -> Test:
    if isinstance(wanted, bool):
        return _is(lambda facts: bool(facts.request.tools))(wanted)
    fits = matcher(wanted)
    return lambda facts: facts.has_tool(fits)


def _session(wanted: bool | tuple[str, ...]) -> Test:
    if isinstance(wanted, bool):
        return _is(lambda facts: facts.request.policy.session_id != "")(wanted)
    return _like_one_of(lambda facts: facts.request.policy.session_id)(wanted)


def _json(wanted: bool | str) -> Test:
    if isinstance(wanted, bool):
        return _is(lambda facts: facts.json_wanted != "")(wanted)
    return lambda facts: facts.json_wanted == wanted


def _within(read: Callable[[Facts], int]) -> Callable[[Range], Test]:
    def make(bounds: Range) -> Test:
        least, most = bounds.min, bounds.max
        if most is None:
            return lambda facts: read(facts) >= (least or 0)
        return lambda facts: (least or 0) <= read(facts) <= most

    return make


def _labels(wanted: Mapping[str, tuple[str, ...]]) -> Test:
    tests = [(name, matcher(texts)) for name, texts in wanted.items()]

    def holds(facts: Facts) -> bool:
        for name, fits in tests:
            value = facts.label(name)
            if value is None or not fits(value):
                return False
        return True

    return holds


def _language(codes: tuple[str, ...]) -> Test:
    """Each language that it may be in is one of these."""
    wanted = frozenset(codes)

    def holds(facts: Facts) -> bool:
        found = facts.languages
        return bool(found) and found <= wanted

    return holds


def _time(config: TimeConfig) -> Test:
    is_within = span(config)
    return lambda facts: is_within(facts.surroundings.now_s)


def _latency(config: LatencyConfig) -> Test:
    """What is not known is neither above nor below anything."""
    name, quantile = config.of, QUANTILES[config.quantile]
    above_ms, below_ms = config.above_ms, config.below_ms

    def holds(facts: Facts) -> bool:
        value_ms = facts.surroundings.latency_ms(name, quantile)
        if value_ms is None:
            return False
        return value_ms > above_ms if above_ms is not None else value_ms < (below_ms or 0)

    return holds


def _yes(read: Callable[[Facts], bool]) -> Callable[[Facts], str]:
    return lambda facts: str(read(facts)).lower()


def _media_found(facts: Facts) -> str:
    kinds = ((IMAGES, "images"), (AUDIO, "audio"), (FILES, "files"))
    return ", ".join(name for kind, name in kinds if facts.media & kind) or "text alone"


def _labels_found(facts: Facts) -> str:
    names = set(facts.request.policy.labels)
    metadata = facts.request.extra.get("metadata")
    names |= set(metadata) if isinstance(metadata, Mapping) else set()
    found = ((name, facts.label(name)) for name in sorted(names))
    return "; ".join(f"{name}: {value}" for name, value in found if value is not None) or "none"


_FIELDS: Final[Mapping[str, tuple[Callable[[Any], Test], Callable[[Facts], str]]]] = {
    "model": (_model, lambda facts: facts.request.model),
    "surface": (
        _one_of(lambda facts: facts.surroundings.surface),
        lambda facts: facts.surroundings.surface,
    ),
    "embeddings": (
        _is(lambda facts: facts.request.embedding is not None),
        _yes(lambda facts: facts.request.embedding is not None),
    ),
    "tenant": (
        _one_of(lambda facts: facts.request.policy.tenant),
        lambda facts: facts.request.policy.tenant or "none",
    ),
    "key": (
        _one_of(lambda facts: facts.request.policy.key_id),
        lambda facts: facts.request.policy.key_id or "none",
    ),
    "tags": (_tags, lambda facts: ", ".join(facts.request.policy.tags) or "none"),
    "tools": (
        _tools,
        lambda facts: ", ".join(tool.name for tool in facts.request.tools) or "none",
    ),
    "json": (_json, lambda facts: facts.json_wanted or "text"),
    "reasoning": (
        _is(lambda facts: facts.asks_for_reasoning),
        _yes(lambda facts: facts.asks_for_reasoning),
    ),
    "effort": (
        _one_of(lambda facts: facts.request.reasoning.effort),
        lambda facts: facts.request.reasoning.effort or "not said",
    ),
    "user": (
        _like_one_of(lambda facts: facts.request.user),
        lambda facts: facts.request.user or "none",
    ),
    "session": (_session, lambda facts: facts.request.policy.session_id or "none"),
    "messages": (
        _within(lambda facts: len(facts.request.messages)),
        lambda facts: str(len(facts.request.messages)),
    ),
    "prompt_tokens": (
        _within(lambda facts: facts.surroundings.prompt_tokens),
        lambda facts: str(facts.surroundings.prompt_tokens),
    ),
    "labels": (_labels, _labels_found),
    "images": (_has(IMAGES), _media_found),
    "audio": (_has(AUDIO), _media_found),
    "files": (_has(FILES), _media_found),
    "time": (_time, lambda facts: ""),
    "latency": (_latency, lambda facts: ""),
    "language": (
        _language,
        lambda facts: " or ".join(sorted(facts.languages)) or "cannot be told",
    ),
}
"""By key of `when`, in the order of their cost."""


def found_of(when: WhenConfig, condition: Condition, facts: Facts) -> str:
    """What the request has at a condition, where that depends on the condition too."""
    if condition.field == "time" and when.time is not None:
        return wall(when.time, facts.surroundings.now_s)
    if condition.field == "latency" and when.latency is not None:
        value_ms = facts.surroundings.latency_ms(when.latency.of, QUANTILES[when.latency.quantile])
        return "not known" if value_ms is None else f"{value_ms:.0f} ms"
    return condition.found(facts)


def all_hold(found: tuple[Condition, ...]) -> Test:
    """Whether all of these do; one closure less a condition than to ask each by a loop."""
    tests = tuple(condition.holds for condition in found)
    if not tests:
        return lambda facts: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda facts: first(facts) and second(facts)

    def hold(facts: Facts) -> bool:
        for test in tests:  # noqa: SIM110  (a generator costs as much as three conditions)
            if not test(facts):
                return False
        return True

    return hold
