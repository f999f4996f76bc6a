"""W3C Trace Context: what is taken for one, by the rules of section 3.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.trace_context import trace_id, valid_traceparent
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
    ],
)
def test_ignored(value: str) -> None:
    assert valid_traceparent(value) == ""


@examples(200)
@given(st.text(max_size=80))
def test_any_text_is_taken_or_ignored(value: str) -> None:
    assert valid_traceparent(value) in ("", value)
