"""How far another clock is, from the Dates of its answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.credentials.clock_offset import NEAR_S, ClockOffset
from tests.credentials.calls import AT_S, dated
from tests.fakes.properties import examples


@examples(100)
@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_follows_every_clock_that_is_far_off(first_s: float, then_s: float) -> None:
    offset = ClockOffset()
    for off_s in (first_s, then_s):
        before_s = offset.now_s(AT_S)
        moved = offset.observe(dated(AT_S + off_s), AT_S)
        assert abs(offset.now_s(AT_S) - (AT_S + off_s)) <= NEAR_S + 1
        assert moved == (offset.now_s(AT_S) != before_s)


def test_near_is_the_same() -> None:
    offset = ClockOffset()
    assert not offset.observe(dated(AT_S + 29), AT_S)
    assert offset.offset_s == 0.0


def test_back_to_the_right_time() -> None:
    """As after this machine's own clock was set right."""
    offset = ClockOffset()
    assert offset.observe(dated(AT_S), AT_S - 3600)
    assert offset.offset_s == 3600
    assert offset.observe(dated(AT_S + 1), AT_S + 1)
    assert offset.offset_s == 0.0


def test_the_same_text_is_read_once() -> None:
    """Answers of one second hold one text; a body that came late says nothing of the clock."""
    offset = ClockOffset()
    assert offset.observe(dated(AT_S), AT_S - 3600)
    assert not offset.observe(dated(AT_S), AT_S + 3600)
    assert offset.offset_s == 3600


def test_what_cannot_be_is_not_taken() -> None:
    offset = ClockOffset()
    assert not offset.observe(dated(AT_S + 400), AT_S, at_most_s=300)
    assert offset.observe(dated(AT_S + 200), AT_S, at_most_s=300)
    assert offset.offset_s == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "Fri, 99 Nov 99999999999999999999 12:00:00 GMT",
        "\x00",
        "1 2 3 4 5",
        "é" * 999,
        "Fri, 27 Foo 2026 12:00:00 GMT",
        "Fri, 27 Nov 2026 aa:bb:cc GMT",
        "Fri, 99999999999999 Nov 2026 12:00:00 GMT",
        "Fri, 27 Nov 2026 9999999999999999:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 01 Jan 0100 00:00:00 GMT",
        "Fri, -5 Nov 2026 00:00:00 GMT",
    ],
)
def test_no_date_changes_nothing(text: str) -> None:
    offset = ClockOffset()
    assert not offset.observe([("date", text)], AT_S)
    assert offset.offset_s == 0.0
    assert not offset.observe([("content-type", "x")], AT_S)


@examples(200)
@given(st.text(max_size=80))
def test_no_text_breaks_it(text: str) -> None:
    ClockOffset().observe([("date", text)], AT_S)
