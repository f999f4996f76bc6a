"""A count of votes while they come in."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from relay.config.panels import EqualityConfig
from relay.policy.equality import ALONE, Equality, Said
from relay.policy.votes import Votes
from tests.fakes.properties import examples

EQUALITY = Equality(EqualityConfig.model_validate({"number": {"tolerance_abs": 1}}))


def votes(*weights: int, quorum: int | None = None) -> Votes:
    quorum = sum(weights) // 2 + 1 if quorum is None else quorum
    return Votes(weights, quorum, EQUALITY.distance)


def key(value: str) -> Said:
    return Said(value)


def number(value: float) -> Said:
    return Said(number=Decimal(str(value)))


def test_a_quorum_is_reached() -> None:
    count = votes(1, 1, 1)
    count.add(2, key("x"))
    assert (count.can_agree, count.agreed) == (True, None)
    count.add(0, key("x"))
    agreed = count.agreed
    assert agreed is not None
    assert agreed.members == [2, 0]


def test_a_quorum_that_cannot_be_reached_any_more() -> None:
    count = votes(1, 1, 1)
    count.add(0, key("x"))
    count.add(1, key("y"))
    may_agree = [count.can_agree]
    count.drop(2)
    may_agree.append(count.can_agree)
    assert may_agree == [True, False]
    assert [group.number for group in count.leading] == [0, 1]
    assert not count.has_settled_lead


def test_who_failed_is_no_vote_and_lowers_no_quorum() -> None:
    count = votes(1, 1, 1, 1)
    count.drop(0)
    count.drop(1)
    count.add(2, key("x"))
    assert not count.can_agree


def test_those_that_agree_with_none_are_alone() -> None:
    count = votes(1, 1, 1)
    for member in range(3):
        count.add(member, ALONE)
    assert len(count.groups) == 3


def test_a_number_joins_the_nearest_group() -> None:
    count = votes(1, 1, 1, 1)
    assert count.add(0, number(10)).number == 0
    assert count.add(1, number(11.5)).number == 1
    assert count.add(2, number(10.9)).number == 1
    assert count.add(3, number(10.1)).number == 0


def test_weights_count() -> None:
    count = votes(3, 1, 1)
    count.add(0, key("x"))
    assert count.agreed is not None


answers = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from("xyz-") | st.none()), min_size=1, max_size=7
)
"""Of each member its weight, and what it says: `-` agrees with none, None fails."""


def play(count: Votes, order: list[int], said: list[str | None]) -> None:
    for member in order:
        value = said[member]
        if value is None:
            count.drop(member)
        else:
            count.add(member, ALONE if value == "-" else key(value))


@examples(300, full=4000)
@given(answers, st.integers(1, 12), st.randoms())
def test_what_is_settled_stays(
    rows: list[tuple[int, str | None]], quorum: int, random: object
) -> None:
    weights = [weight for weight, _ in rows]
    said = [value for _, value in rows]
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for cut in range(len(order) + 1):
        early, late = votes(*weights, quorum=quorum), votes(*weights, quorum=quorum)
        play(early, order[:cut], said)
        play(late, order, said)
        if early.agreed is not None:
            assert late.agreed is not None
            assert late.agreed.number == early.agreed.number
            assert late.agreed.members[0] == early.agreed.members[0]
        if not early.can_agree:
            assert late.agreed is None
        if early.has_settled_lead:
            assert [group.number for group in late.leading] == [early.leading[0].number]
        total = sum(group.votes for group in late.groups)
        assert total == sum(w for w, value in rows if value is not None)
        assert early.awaited == sum(weights[member] for member in order[cut:])
