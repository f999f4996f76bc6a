"""How often an address may be wrong, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.failure_throttle import BURST, PER_S, FailureThrottle, address_of
from tests.fakes.properties import examples


def test_a_few_are_free_then_each_has_to_wait() -> None:
    throttle = FailureThrottle()
    assert [throttle.failed("a", 100.0) for _ in range(BURST)] == [0.0] * BURST
    wait_s = throttle.failed("a", 100.0)
    assert wait_s == 1 / PER_S
    assert throttle.failed("b", 100.0) == 0, "others have nothing to do with it"
    assert throttle.failed("a", 100.0 + wait_s) == 0
    assert throttle.failed("a", 100.0 + wait_s) > 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    throttle = FailureThrottle(burst=1)
    assert throttle.failed("a", 100.0) == 0
    assert throttle.failed("a", 50.0) > 0


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    throttle = FailureThrottle(burst=1, max_names=3)
    for name in ("a", "b", "c", "a", "d"):
        throttle.failed(name, 0.0)
    assert len(throttle) == 3
    assert throttle.failed("a", 0.0) > 0, "it failed after b"
    assert throttle.failed("b", 0.0) == 0, "which was forgotten"


@examples(50)
@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_more_are_free_than_burst_and_rate_say(gaps_s: list[float]) -> None:
    throttle, now_s, free = FailureThrottle(burst=3, per_s=0.5), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        free += throttle.failed("a", now_s) == 0
    assert free <= 3 + 0.5 * now_s + 1e-6


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("unix:/run/relay.sock", "unix:/run/relay.sock"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(peer: str, address: str) -> None:
    assert address_of(peer) == address
