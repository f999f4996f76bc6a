"""W3C Trace Context: what is taken for one, by the rules of section 3.2."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.trace_context import (
    TraceRule,
    is_in_share,
    trace_headers,
    trace_id,
    trace_of,
    valid_traceparent,
    valid_tracestate,
)
from tests.fakes.properties import examples

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"cc-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-holds",
    ],
)
def test_valid(value: str) -> None:
    assert valid_traceparent(value) == value
    assert trace_id(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 600}",
        f"cc-{TRACE}-{SPAN}-01-a\rb: c",
        f"cc-{TRACE}-{SPAN}-01-a\0",
        f"cc-{TRACE}-{SPAN}-01-\u00e9",
        f"cc-{TRACE}-{SPAN}-01-a b",
    ],
)
def test_ignored(value: str) -> None:
    assert valid_traceparent(value) == ""


@examples(200)
@given(st.text(max_size=80))
def test_any_text_is_taken_or_ignored(value: str) -> None:
    assert valid_traceparent(value) in ("", value)


PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "value",
    ["a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=1, b=2 ,,c@d=3", "tenant@sys=x y"],
)
def test_tracestate(value: str) -> None:
    assert valid_tracestate(value) == value.strip()


@pytest.mark.parametrize("value", ["A=1", "a", "a=b=c", "a=\n", "a=1,b", "a=" + "x" * 300, "é=1"])
def test_tracestate_that_is_ignored(value: str) -> None:
    assert valid_tracestate(value) == ""


def test_empty_members_cost_nothing() -> None:
    """It took three times as long for each of them."""
    began_s = time.process_time()
    assert valid_tracestate("  ," * 31 + "!") == ""
    assert valid_tracestate("  ," * 170) == ""
    assert time.process_time() - began_s < 1.0


@examples(200)
@given(st.text(max_size=80))
def test_any_tracestate_is_taken_or_ignored(value: str) -> None:
    assert valid_tracestate(value) in ("", value.strip(" \t"))


def test_a_generation_has_the_same_name_whenever_it_is_asked_for() -> None:
    own = trace_of("gen_1", "")
    assert own == trace_of("gen_1", "") != trace_of("gen_2", "")
    assert (own.parent_id, own.is_parent_sampled) == ("", False)
    assert valid_traceparent(f"00-{own.trace_id}-{own.span_id}-01")
    within = trace_of("gen_1", PARENT)
    assert within == (TRACE, own.span_id, SPAN, True)
    assert not trace_of("gen_1", f"00-{TRACE}-{SPAN}-02").is_parent_sampled
    names = {own.span_id} | {own.span_of(n, phase) for n in range(-1, 20) for phase in range(12)}
    assert len(names) == 21 * 12
    assert own.span_of(-1) == own.span_id


def test_sampling_is_parent_based() -> None:
    own, kept = trace_of("gen_1", ""), trace_of("gen_1", PARENT)
    left = trace_of("gen_1", f"00-{TRACE}-{SPAN}-00")
    assert TraceRule(1.0).is_sampled(own)
    assert not TraceRule(0.0).is_sampled(own)
    assert TraceRule(0.0).is_sampled(kept)
    assert not TraceRule(1.0).is_sampled(left)
    assert TraceRule(1.0, follows_parent=False).is_sampled(left)
    assert not TraceRule(0.0, follows_parent=False).is_sampled(kept)


def test_a_share_is_a_share() -> None:
    traces = [trace_of(f"gen_{number}", "").trace_id for number in range(2000)]
    tenth = {trace for trace in traces if is_in_share(trace, 0.1)}
    half = {trace for trace in traces if is_in_share(trace, 0.5)}
    assert 140 < len(tenth) < 260
    assert 900 < len(half) < 1100
    assert tenth < half


def test_what_a_provider_is_told() -> None:
    own = trace_of("gen_1", PARENT)
    told = dict(trace_headers(TraceRule(1.0), "gen_1", PARENT, "v=1", 1))
    assert told == {"traceparent": f"00-{TRACE}-{own.span_of(1)}-01", "tracestate": "v=1"}
    assert trace_headers(None, "gen_1", "", "v=1", 0) == []
    assert trace_headers(None, "gen_1", PARENT, "", 0) == [("traceparent", PARENT)]
    (alone,) = trace_headers(TraceRule(0.0), "gen_1", "", "", 0)
    assert alone[1].endswith("-00")
