"""When a majority is settled, against every way in which it could go on.

A few members have answered or failed. If the panel says that nothing can change its choice any
more, each continuation (whoever comes next, with an answer that is known, a new one, or a failure)
must end in the same choice; and where a quorum stands it must say so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from relay.config.panels import MajorityConfig, PanelMemberConfig
from relay.policy.panel_decide import Case
from relay.policy.panel_errors import NoAgreement
from relay.policy.panel_majority import Majority, MajorityDecider
from relay.policy.panel_poll import Answered
from tests.fakes.properties import examples
from tests.fakes.scenario import request
from tests.policy.test_equality import whole

Event = tuple[int, str | None]
"""A member, and what it says; None: it fails."""


def play(way: Majority, events: Sequence[Event]) -> MajorityDecider:
    case: Any = Case("three", request(), None)  # type: ignore[arg-type]
    decider = way.decider(case)
    nth = 0
    for member, text in events:
        if text is None:
            decider.drop(member)
            continue
        leg: Any = SimpleNamespace(entry={}, label=str(member))
        at_once(decider.add(Answered(member, leg, whole(text), nth)))
        nth += 1
    return decider


def at_once(work: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def choice(decider: MajorityDecider) -> tuple[int, str] | str:
    try:
        found = at_once(decider.choose(0.0))
    except NoAgreement:
        return "no agreement"
    return found.answered.member, found.outcome


def ends(way: Majority, events: list[Event], left: list[int]) -> Iterator[list[Event]]:
    """Every way in which it may go on to its end."""
    said = sorted({text for _, text in events if text is not None})
    for order in itertools.permutations(left):
        for texts in itertools.product([*said, "new", "other", None], repeat=len(order)):
            yield [*events, *zip(order, texts, strict=True)]


@examples(60, full=1000)
@given(
    st.lists(st.sampled_from(["x", "y", None]), min_size=1, max_size=5),
    st.lists(st.sampled_from([0.5, 1, 2]), min_size=5, max_size=5),
    st.integers(2, 5),
    st.sampled_from(["first", "soonest", "fail"]),
    st.sampled_from(["plurality", "fail"]),
    st.floats(0.2, 1),
    st.permutations(range(5)),
)
def test_what_is_settled_cannot_change(
    said: list[str | None],
    weights: list[float],
    count: int,
    on_tie: Any,
    no_quorum: Any,
    share: float,
    order: list[int],
) -> None:
    members = [PanelMemberConfig(model="m", weight=weight) for weight in weights[:count]]
    quorum = max(0.001, round(share * sum(weights[:count]), 3))
    way = Majority(
        MajorityConfig(quorum=quorum, on_tie=on_tie, no_quorum=no_quorum, equality="exact"), members
    )
    order = [member for member in order if member < count]
    events: list[Event] = list(zip(order, said, strict=False))
    left = order[len(events) :]
    assume(len(left) <= 3)
    assume(any(text is not None for _, text in events))
    decider = play(way, events)
    is_settled = decider.is_settled
    now = choice(decider)
    results = {choice(play(way, end)) for end in ends(way, events, left)}
    if is_settled:
        assert results == {now}
    if isinstance(now, tuple) and now[1] == "agreed":
        assert is_settled
    if not left and no_quorum == "fail" and now == "no agreement":
        assert is_settled
