"""When generations go round the relay and when they come back: the policy alone, by its clock."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from rtrelay._takeover import Takeover


def made(**more: object) -> Takeover:
    """With a draw that is half of the bound."""
    return Takeover(0.15, 3.0, draw=lambda low, high: (low + high) / 2, **more)  # type: ignore[arg-type]


def test_it_begins_with_the_relay() -> None:
    takeover = made()
    assert takeover.via(0.0) == "relay"
    assert not takeover.answered(1.0), "an answer is no news to who is there"
    assert takeover.return_at_s is None


def test_it_may_begin_away() -> None:
    takeover = made(is_away=True)
    assert takeover.via(0.0) == "direct"
    assert not takeover.failed(), "no news"


def test_a_failure_is_news_once() -> None:
    takeover = made()
    assert takeover.failed()
    assert not takeover.failed()
    assert takeover.via(1e9) == "direct", "time alone brings nobody back"


def test_the_return_waits_for_its_moment() -> None:
    takeover = made()
    takeover.failed()
    assert takeover.answered(100.0)
    assert takeover.return_at_s == 101.5
    assert not takeover.answered(101.0), "a second answer draws no second moment"
    assert takeover.via(101.499) == "direct"
    assert takeover.via(101.5) == "relay"
    assert takeover.return_at_s is None


def test_a_relay_that_goes_again_is_not_returned_to() -> None:
    takeover = made()
    takeover.failed()
    takeover.answered(100.0)
    assert takeover.failed(), "news: the return is off"
    assert takeover.via(200.0) == "direct"
    takeover.answered(300.0)
    assert takeover.via(301.5) == "relay"


def test_a_relay_that_comes_and_goes_is_returned_to_later_each_time() -> None:
    takeover = made()
    now_s, waited_s = 0.0, []
    for _ in range(7):
        takeover.failed()
        takeover.answered(now_s)
        takeover.failed()  # before the return: no more than one relapse
        takeover.answered(now_s)
        at_s = takeover.return_at_s
        assert at_s is not None
        waited_s.append(at_s - now_s)
        assert takeover.via(at_s) == "relay"
        now_s = at_s + 1.0
    assert waited_s == [1.5, 4.5, 10.5, 22.5, 46.5, 61.5, 61.5]
    takeover.failed()
    takeover.answered(now_s + 30.0)
    assert takeover.return_at_s == now_s + 31.5, "it has been there for long"


def test_a_refusal_is_heard_at_once() -> None:
    takeover = made()
    takeover.failed()
    takeover.settled()
    assert takeover.via(0.0) == "relay"


@pytest.mark.parametrize("seed", range(5))
def test_a_fleet_comes_back_one_by_one(seed: int) -> None:
    """1,000 agents whose relay dies and returns at the same moments: no tenth of a second of the
    three takes more than twice its share."""
    draw = random.Random(seed)
    fleet = [Takeover(0.15, 3.0, draw=draw.uniform) for _ in range(1000)]
    for agent in fleet:
        agent.failed()
        agent.answered(10.0)
    returns = [agent.return_at_s or 0.0 for agent in fleet]
    assert min(returns) >= 10.0
    assert max(returns) <= 13.0
    busiest = max(Counter(int((at_s - 10.0) * 10) for at_s in returns).values())
    assert busiest <= 2 * 1000 / 30
