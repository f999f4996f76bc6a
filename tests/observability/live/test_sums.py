"""Slices that are put in and taken out again leave what the rest alone would make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from relay.decision import Decision, GuardVerdict
from relay.observability.live import slices
from relay.observability.live.board import Board
from relay.observability.live.slices import SLICE_S, SLICES
from relay.observability.live.sums import Slice, Sums
from tests.fakes.properties import examples
from tests.observability.live.ends import attempt, ended, lost, won

END = st.sampled_from(
    [
        won(100_000, cost=3.0),
        won(900_000, "south/b"),
        ended(lost(), attempt("south/b", is_winner=True)),
        ended(lost(ended_us=5_000)),
        replace(won(100_000, cost=2.0), decision=Decision(experiment="e", arm="a")),
        replace(won(700_000), decision=Decision(experiment="e", arm="b", rule="r")),
        replace(
            won(1_000),
            decision=Decision(
                cache="hit",
                saved_micro=7,
                guards=[GuardVerdict("g", "pii.email", "input", "redact")] * 2,
            ),
        ),
    ]
)
TOLD = st.lists(st.tuples(st.sampled_from(["voice", "chat"]), END), min_size=1, max_size=6)


def slice_of(index: int, told: list[tuple[str, Any]]) -> dict[str, Any]:
    made = slices.Slice(index)
    for alias, end in told:
        made.take(alias, end)
    through = orjson.dumps(made.to_dict(), option=orjson.OPT_NON_STR_KEYS)
    found: dict[str, Any] = orjson.loads(through)
    return found


def read(sums: Sums) -> Any:
    return (
        {name: sums.target(name) for name in sorted(sums.targets)},
        {name: sums.alias(name) for name in sorted(sums.aliases)},
        sums.total(),
        sums.policy_rows(),
    )


@given(st.lists(TOLD, min_size=1, max_size=5), st.integers(0, 4))
@examples(40)
def test_taking_out_is_never_having_put_in(several: list[Any], out: int) -> None:
    made = [Slice.of(slice_of(index, told)) for index, told in enumerate(several)]
    out %= len(made)
    both, rest = Sums(), Sums()
    for index, one in enumerate(made):
        both.add(one)
        if index != out:
            rest.add(one)
    both.add(made[out], -1)
    assert read(both) == read(rest)
    again = Sums()
    again.add(made[out])
    assert read(rest.plus(again)) == read(again.plus(rest))


@given(st.lists(st.tuples(st.integers(0, 3), TOLD), min_size=1, max_size=30))
@examples(25)
def test_a_board_that_slid_shows_what_a_new_one_would(steps: list[tuple[int, Any]]) -> None:
    """Time goes on in jumps; late answers replace slices that are summed already."""
    slid, kept, now = Board(), dict[int, Any](), 1000
    for ahead, told in steps:
        now += ahead * 20
        slid.picture([], now * SLICE_S)
        index = now - (len(told) * 4)  # of long ago, perhaps, and there already
        kept[index] = slice_of(index, told)
        slid.take("0", kept[index])
    fresh = Board()
    for index, one in kept.items():
        if index > now - SLICES:
            fresh.take("0", one)
    assert slid.picture([], now * SLICE_S) == fresh.picture([], now * SLICE_S)


def test_what_policies_did_is_told_by_name_and_outcome() -> None:
    redacted = GuardVerdict("g", "pii.email", "input", "redact")
    told = [
        ("voice", replace(won(100_000, cost=3.0), decision=Decision(experiment="e", arm="a"))),
        ("voice", replace(won(300_000, cost=5.0), decision=Decision(experiment="e", arm="a"))),
        ("chat", replace(won(1_000), decision=Decision(cache="hit", saved_micro=7))),
        ("chat", replace(won(1_000), decision=Decision(guards=[redacted, redacted]))),
    ]
    sums = Sums()
    sums.add(Slice.of(slice_of(0, told)))
    rows = {(row["kind"], row["name"], row["outcome"]): row for row in sums.policy_rows()}
    assert {name: row["n"] for name, row in rows.items()} == {
        ("experiment", "e", "a"): 2,
        ("cache", "chat", "hit"): 1,
        ("guardrail", "g", "redact (input)"): 1,
    }
    assert rows["experiment", "e", "a"]["cost"] == 8
    assert rows["experiment", "e", "a"]["ttft"]["n"] == 2
    assert rows["cache", "chat", "hit"]["saved"] == 7
