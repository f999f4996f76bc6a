"""How many connections of one address there may be, and what is one address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.config import HttpListener
from relay.frontends.address_bound import MOST_OF_ADDRESS, TOLD_EVERY_S, AddressBound
from tests.fakes.properties import examples


def bound(**settings: object) -> AddressBound:
    return AddressBound.of(HttpListener.model_validate(settings), lambda: 0.0)


def taken(of: AddressBound, host: str, tries: int = 2 * MOST_OF_ADDRESS) -> int:
    """How many of so many tries are let in."""
    return sum(of.take(host) is not None for _ in range(tries))


def test_an_address_of_another_machine_may_have_256() -> None:
    of = bound()
    assert taken(of, "203.0.113.7") == MOST_OF_ADDRESS == 256
    assert taken(of, "203.0.113.8") == MOST_OF_ADDRESS, "others have their own"
    of.give("203.0.113.7")
    assert taken(of, "203.0.113.7") == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.6", "::1", "::ffff:127.0.0.1", "", "/run/x"]
)
def test_this_machine_is_not_counted(host: str) -> None:
    assert taken(bound(), host) == 2 * MOST_OF_ADDRESS


def test_behind_a_proxy_nobody_is() -> None:
    assert taken(bound(proxy_terminates_tls=True), "203.0.113.7") == 2 * MOST_OF_ADDRESS


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.7"])
def test_a_number_that_is_given_holds_for_all(host: str) -> None:
    assert taken(bound(max_connections_per_address=3), host) == 3
    assert taken(bound(max_connections_per_address=0), host) == 2 * MOST_OF_ADDRESS


def test_of_ipv6_64_bits_are_one() -> None:
    of = bound()
    assert sum(of.take(f"2001:db8:0:1::{i:x}%eth0") is not None for i in range(400)) == 256
    assert of.take("2001:db8:0:2::1") is not None
    assert of.take("::ffff:203.0.113.7") == "203.0.113.7"


def test_it_is_told_and_not_each_time() -> None:
    now_s = 0.0
    of = AddressBound(1, counts_loopback=True, clock=lambda: now_s)
    of.take("203.0.113.7")
    with capture_logs() as lines:
        for _ in range(5):
            of.take("203.0.113.7")
        now_s = TOLD_EVERY_S
        of.take("203.0.113.7")
    assert [line["address"] for line in lines] == ["203.0.113.7"] * 2


@examples(100)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_it_knows_how_many_are_open(steps: list[tuple[bool, int]]) -> None:
    of = AddressBound(3, counts_loopback=True, clock=lambda: 0.0)
    held: dict[str, list[str]] = {}
    for opens, last in steps:
        host = f"203.0.113.{last}"
        mine = held.setdefault(host, [])
        if opens:
            name = of.take(host)
            assert (name is None) == (len(mine) == 3)
            mine += [] if name is None else [name]
        elif mine:
            of.give(mine.pop())
