"""What must hold of every panel, whatever its members say, when, and however they fail."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.config.panels import MajorityConfig, PanelMemberConfig
from relay.content import Budgets, Policy
from relay.errors import StreamReset
from relay.policy.panel import Panel
from relay.policy.panel_errors import NoAgreement, TooFewAnswers
from relay.policy.panel_majority import Majority
from tests.fakes.legs import NEVER_S, Fails, FakeLegs, Says, given_leg, text_of
from tests.fakes.properties import examples
from tests.fakes.scenario import request
from tests.fakes.virtual_time import run
from tests.policy.panels import always, panel, prefers

NAMES = "stuvwxyz"

times_s = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 2.0])
"""Few, so that they often fall together."""
scripts = st.one_of(
    st.builds(
        Says,
        st.sampled_from(["1", "2", "2.0", "3", "Yes.", "yes", ""]),
        whole_s=times_s,
        cost=st.sampled_from([None, 1.0, 2.0]),
    ),
    st.builds(Fails, st.builds(StreamReset, st.just("cut")), times_s),
)


@dataclass
class Result:
    """What came of one run."""

    given: str = ""
    text: str = ""
    outcome: str = ""
    reason: str = ""
    failure: str = ""
    after_s: float = 0.0
    stopped: int = 0
    verdicts: list[Any] = field(default_factory=list)


def play(one: Panel, members: Sequence[Any], *, judge: Any = None, budget_s: float = 0) -> Result:
    """One run on virtual time, checked for what holds of every run."""

    async def main() -> Result:
        legs = FakeLegs({**dict(zip(NAMES, members, strict=False)), "judge": judge or always("A")})
        budgets = Budgets(first_token_s=budget_s or None)
        result = Result()
        try:
            answer = await legs.run(one, request(model="three", policy=Policy(budgets=budgets)))
        except (TooFewAnswers, NoAgreement) as error:
            result.failure = type(error).__name__
            legs.check(given=0)
        else:
            legs.check(given=1)
            leg = given_leg(answer)
            result.given = leg.label
            assert isinstance(leg.script, Says)
            result.text = await text_of(answer)
            assert result.text == leg.script.text
            assert [row["label"] for row in legs.decision.legs if row.get("is_chosen")] == [
                leg.label
            ]
        decision = legs.decision
        result.outcome, result.reason = decision.outcome, decision.reason
        result.after_s = round(legs.clock() - legs.received_s, 6)
        result.stopped = sum(leg.cancelled_s is not None for leg in legs.started)
        result.verdicts = [row.get("verdict") for row in decision.legs if "judge" in row["label"]]
        assert decision.composition == "panel"
        assert decision.outcome
        assert decision.reason
        assert all("outcome" in row for row in decision.legs)
        for leg in legs.started:
            if leg.cancelled_s is not None:
                assert leg.cancelled_s <= legs.clock()
        return result

    return run(main())


def names(count: int, weights: Sequence[float] = ()) -> list[dict[str, Any]]:
    return [
        {"model": name, "weight": weight}
        for name, weight in itertools.zip_longest(NAMES[:count], weights[:count], fillvalue=1)
    ]


members = st.lists(scripts, min_size=2, max_size=7)


@examples(150, full=1000)
@given(
    members,
    st.lists(st.sampled_from([0.5, 1, 2]), min_size=7, max_size=7),
    st.sampled_from(["exact", "normalised", {"number": {"tolerance_abs": 0.5}}]),
    st.sampled_from(["first", "soonest", "cheapest", "fail"]),
    st.sampled_from(["plurality", "fail"]),
    st.floats(0.51, 1),
    st.data(),
)
def test_early_stop_changes_no_result(
    said: list[Any],
    weights: list[float],
    equality: Any,
    on_tie: str,
    no_quorum: str,
    share: float,
    data: st.DataObject,
) -> None:
    count = len(said)
    total = sum(weights[:count])
    quorum = round(share * total, 3)
    more = {
        "min_answers": data.draw(st.integers(1, count)),
        "on_too_few": data.draw(st.sampled_from(["fail", "any"])),
    }
    decide = {
        "majority": {
            "equality": equality,
            "on_tie": on_tie,
            "no_quorum": no_quorum,
            "quorum": quorum,
        }
    }
    early = play(panel(decide, names(count, weights), **more), said)
    late = play(panel(decide, names(count, weights), early_stop=False, **more), said)
    assert early.after_s <= late.after_s
    if early.failure or late.failure:
        assert bool(early.failure) == bool(late.failure)
        return
    assert (early.given, early.text) == (late.given, late.text)
    assert early.outcome == late.outcome


@examples(100, full=1500)
@given(
    members,
    st.data(),
    st.sampled_from(
        [
            {"majority": {"no_quorum": "judge", "judge": {"model": "judge"}}},
            {"majority": {"on_tie": "judge", "judge": {"model": "judge"}}},
            {"judge": {"model": "judge"}},
            {"best_of": {"length": "shortest"}},
            {"best_of": {"pattern": "[12]", "min_score": 1}},
            {"best_of": {"judge": {"model": "judge"}}},
        ]
    ),
)
def test_there_is_one_answer_or_one_error(
    said: list[Any], data: st.DataObject, decide: dict[str, Any]
) -> None:
    count = len(said)
    first_n = data.draw(st.none() | st.integers(1, count))
    most = count if first_n is None else first_n
    more = {
        "first_n": first_n,
        "wait_ms": data.draw(st.none() | st.sampled_from([50, 150, 1500])),
        "min_answers": data.draw(st.integers(1, most)),
        "on_too_few": data.draw(st.sampled_from(["fail", "any"])),
    }
    judge = data.draw(
        st.sampled_from(
            [always("A"), always("TIE"), always("7"), always("Hm"), always("B", whole_s=NEVER_S)]
        )
    )
    if data.draw(st.booleans()):
        said = [*said[:-1], Says("1", whole_s=NEVER_S)]
    result = play(panel(decide, names(count), **more), said, judge=judge, budget_s=20)
    assert result.after_s <= 20
    answers = sum(isinstance(one, Says) and bool(one.text) for one in said)
    if not answers:
        assert result.failure == "TooFewAnswers"


@examples(60, full=1000)
@given(
    st.lists(st.sampled_from(["one", "two", "three"]), min_size=2, max_size=4),
    st.sampled_from(["one", "two", "three"]),
    st.sampled_from(["listwise", "pairwise"]),
    st.permutations(range(4)),
)
def test_a_verdict_does_not_depend_on_the_order_of_members(
    texts: list[str], wanted: str, compare: str, order: list[int]
) -> None:
    """A judge that has a mind of its own, and knows no tie, finds the same answer."""

    def judge(asked_request: Any) -> Says:
        text = asked_request.messages[-1].parts[0].text
        return prefers(wanted)(asked_request) if f"\n{wanted}\n" in text else Says("TIE")

    decide = {"judge": {"model": "judge", "compare": compare}}
    moved = [texts[index] for index in order if index < len(texts)]
    found = [
        play(panel(decide, names(len(one))), [Says(text) for text in one], judge=judge)
        for one in (texts, moved)
    ]
    if wanted in texts:
        assert [one.text for one in found] == [wanted, wanted]
    assert found[0].reason == found[1].reason


@examples(60, full=1000)
@given(members, st.sampled_from("ABC"))
def test_a_judge_that_goes_by_position_is_never_followed(said: list[Any], letter: str) -> None:
    decide = {"judge": {"model": "judge", "on_tie": "soonest"}}
    result = play(panel(decide, names(len(said))), said, judge=always(letter))
    assert result.reason != "judge" or len(set(result.verdicts)) == 1


def test_a_quorum_is_over_half_unless_told() -> None:
    for count in range(2, 10):
        way = Majority(MajorityConfig(), [PanelMemberConfig(model="x")] * count)
        assert way.quorum > sum(way.votes) / 2
        assert way.quorum - 1 <= sum(way.votes) / 2
