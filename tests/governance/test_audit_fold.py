"""A flood of denials writes little: bounds hold whatever is sent, and nothing is uncounted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.governance.audit_fold import MOST_ACTORS, OTHERS, Event, Fold
from tests.fakes.properties import examples


def event(actor: str = "address:1", *, at_us: int = 0, subject: str = "fast") -> Event:
    return Event(at_us, actor, "key.denied", subject, "", "denied", {"reason": "UNKNOWN"})


def tell(fold: Fold, one: Event) -> Event | None:
    """What becomes of an event: told whole, or counted."""
    if fold.is_repeat(
        one.action, one.actor, one.organisation_id, one.outcome, one.subject, one.at_us
    ):
        return None
    return fold.take(one)


def test_first_is_told_whole_and_repeats_by_their_number() -> None:
    fold = Fold()
    told = [tell(fold, event(at_us=at_us)) for at_us in range(10, 15)]
    assert told == [event(at_us=10), None, None, None, None]
    (counted,) = fold.close()
    assert counted == event(at_us=14)._replace(detail={"repeats": 4, "since_us": 10})


def test_what_came_once_is_not_told_again() -> None:
    fold = Fold()
    tell(fold, event())
    assert list(fold.close()) == []


def test_subject_is_kept_while_it_is_the_same() -> None:
    fold = Fold()
    for subject in ("fast", "slow", "fast"):
        tell(fold, event(subject=subject))
    (counted,) = fold.close()
    assert counted.subject == ""


def test_actors_beyond_the_bound_are_counted_together() -> None:
    fold = Fold()
    told = [tell(fold, event(f"address:{n}")) for n in range(1000)]
    whole = [one for one in told if one is not None]
    assert len(whole) == MOST_ACTORS + 1
    assert whole[-1].actor == OTHERS
    (counted,) = fold.close()
    assert (counted.actor, counted.detail["repeats"]) == (OTHERS, 1000 - MOST_ACTORS - 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["key.denied", "limit.reached"]),
            st.integers(0, 3 * MOST_ACTORS),
            st.sampled_from(["", "org_a"]),
        ),
        max_size=600,
    )
)
@examples(30, full=1000)
def test_all_are_counted_and_few_are_kept(sent: list[tuple[str, int, str]]) -> None:
    fold = Fold()
    counts: Counter[tuple[str, str]] = Counter()
    for at_us, (action, actor, organisation_id) in enumerate(sent):
        one = event(f"key:{actor}", at_us=at_us)
        one = one._replace(action=action, organisation_id=organisation_id)
        if (told := tell(fold, one)) is not None:
            counts[told.action, told.organisation_id] += 1
    assert len(fold) <= 4 * (MOST_ACTORS + 1)
    for one in fold.close():
        repeats = one.detail["repeats"]
        assert isinstance(repeats, int)
        counts[one.action, one.organisation_id] += repeats
    assert counts == Counter((action, organisation_id) for action, _, organisation_id in sent)
