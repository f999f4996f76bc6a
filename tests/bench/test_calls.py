"""What the conversation bench makes of calls and of the provider's records of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.calls import figures
from bench.calls.arms import ARMS, STRATA, TTFT_MS, EchoStage, arm_of, draws_ms, orders, tag_of
from bench.stats import Histogram
from relay.calls.script import Turn
from relay.emulator.prose import to_tokens

MS = 1_000_000
ANSWER = "#a.1.1 One two three. Four five six."


def generation(tag: str = "a.1.1", **fields: Any) -> dict[str, Any]:
    """An answer that came whole."""
    return {
        "tag": tag,
        "role": "answer",
        "expected": ANSWER,
        "text": ANSWER,
        "started_ns": 10 * MS,
        "committed_ns": 10 * MS,
        "cancelled_ns": 0,
        "cancel_reason": "",
        "late_pieces": 0,
        "end": {"outcome": "completed", "winner": "lab/x-first", "error": ""},
        **fields,
    }


def turn(*generations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A turn whose caller stopped at 0 ms and heard the first sentence from 400 ms."""
    return {
        "call": "test",
        "kind": "usual",
        "speech_to_ns": 0,
        "first_segment_ns": 400 * MS,
        "barge_in_ns": 0,
        "noise_ns": [],
        "heard": ANSWER,
        "generations": list(generations),
        **fields,
    }


def stream(tokens: int, outcome: str = "clean", end_ms: int = 900, model: str = "x-first") -> Any:
    times = {"start_ns": 11 * MS, "first_token_ns": 300 * MS, "end_ns": end_ms * MS}
    return {"tokens": tokens, "outcome": outcome, "model": model, **times}


def of(one: dict[str, Any], late_ms: float = 1500, **streams: Any) -> figures.ArmFigures:
    by_tag = {tag.replace("_", "."): found for tag, found in streams.items()}
    return figures.of_arm([one], by_tag, late_ms)


def test_a_turn_that_was_heard_out_wastes_nothing() -> None:
    found = of(turn(generation()), a_1_1=[stream(12)])
    assert (found.turns, found.generations, found.hedges, found.failed) == (1, 1, 0, [])
    assert (found.produced, found.wasted.total(), found.wrong) == (12, 0, [])
    assert found.first_segment["usual"].max_us == 400_000
    assert found.dead_air["usual"] == 0
    assert of(turn(generation()), 399).dead_air["usual"] == 1


@pytest.mark.parametrize("reason", ["discarded", "superseded"])
def test_a_guess_that_was_given_up_is_wasted_whole(reason: str) -> None:
    guess = generation(
        "a.1.0", committed_ns=0, cancelled_ns=300 * MS, cancel_reason=reason, text=ANSWER[:7]
    )
    found = of(
        turn(guess, generation()),
        a_1_0=[stream(5, "abandoned", 302)],
        a_1_1=[stream(12)],
    )
    assert found.wasted == {reason: 5}
    assert found.abandoned[reason].max_us == 2000
    assert (found.not_stopped, found.wrong) == ([], [])


def test_of_an_answer_that_was_barged_in_on_the_unheard_part_is_wasted() -> None:
    barged = generation(cancelled_ns=700 * MS, cancel_reason="barge_in", text=ANSWER[:23])
    heard = "#a.1.1 One two"  # `#a`, `.1`, ... : the emulator's tokens
    found = of(
        turn(barged, barge_in_ns=700 * MS, heard=heard), a_1_1=[stream(11, "abandoned", 701)]
    )
    assert found.wasted["barge_in"] == 11 - len(to_tokens(heard))
    assert found.abandoned["barge_in"].max_us == 1000
    assert found.wrong == []


def test_a_stream_that_goes_on_after_its_cancel_is_seen() -> None:
    barged = generation(cancelled_ns=700 * MS, cancel_reason="barge_in")
    one = turn(barged, barge_in_ns=700 * MS, heard="")
    assert of(one, a_1_1=[stream(12, "clean", 900)]).not_stopped
    assert of(one, a_1_1=[stream(12, "clean", 790)]).not_stopped == [], "it had just ended"
    assert of(one, a_1_1=[stream(12, "open", 0)]).wrong


def test_losers_of_a_race_are_wasted_by_their_race() -> None:
    race = [stream(3, "abandoned", 500), stream(12, model="x-second")]
    won = generation(end={"outcome": "completed", "winner": "other/x-second", "error": ""})
    found = of(turn(won), a_1_1=race)
    assert (found.hedges, found.wasted) == (1, {"hedge": 3})
    # Nobody had won when it was given up: that, and no race, is why both are wasted.
    given_up = generation(
        committed_ns=0,
        cancelled_ns=499 * MS,
        cancel_reason="discarded",
        text="",
        end={"outcome": "cancelled", "winner": "", "error": ""},
    )
    race = [stream(0, "abandoned", 500), stream(0, "abandoned", 500, "x-second")]
    found = of(turn(given_up, generation("a.1.2")), a_1_1=race)
    assert found.wasted.total() == 0
    assert found.abandoned["discarded"].count == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"text": "#a.1.1 One two #b.1.1"}, "not its own"),
        ({"text": ANSWER + ANSWER}, "not its own"),
        ({"text": ANSWER[:9]}, "completed with 9 of"),
        ({"late_pieces": 1, "cancel_reason": "barge_in", "cancelled_ns": MS}, "after its cancel"),
    ],
)
def test_a_wrong_text_is_told(fields: dict[str, Any], why: str) -> None:
    (wrong,) = of(turn(generation(**fields)), a_1_1=[stream(12)]).wrong
    assert why in wrong


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"heard": "Something else"}, "heard to say"),
        ({"noise_ns": [(5 * MS, 9 * MS)]}, "noise in test"),
        ({"first_segment_ns": 0}, "had no answer"),
    ],
)
def test_a_wrong_turn_is_told(fields: dict[str, Any], why: str) -> None:
    (wrong,) = of(turn(generation(), **fields), a_1_1=[stream(12)]).wrong
    assert why in wrong


@pytest.mark.parametrize("part", TTFT_MS)
def test_draws_have_their_tail_in_every_block(part: str) -> None:
    found = draws_ms(TTFT_MS[part], 7)
    blocks = [sorted(found[at : at + STRATA]) for at in range(0, len(found), STRATA)]
    assert all(block == blocks[0] for block in blocks)
    assert found[:STRATA] != blocks[0], "shuffled"
    assert found == draws_ms(TTFT_MS[part], 7)


def test_arms_have_models_of_their_own_with_the_same_times(tmp_path: Path) -> None:
    found = orders(tmp_path, 2.0)
    assert {arm_of(str(order["model"])) for order in found} == set(ARMS)
    assert len({str(order["behaviour"]) for order in found}) == len(TTFT_MS)
    assert arm_of("emu-fast") == ""
    lines = (tmp_path / "ttft-first.csv").read_text().splitlines()
    assert float(lines[1]) == pytest.approx(draws_ms(TTFT_MS["first"], 0)[0] / 2, abs=0.01)
    assert figures.milliseconds(Histogram()).keys() == {"p50_ms", "p95_ms", "p99_ms"}


@pytest.mark.parametrize("is_ill", [False, True])
def test_a_prompt_says_who_asked_and_whether_the_provider_is_ill(
    tmp_path: Path, *, is_ill: bool
) -> None:
    one = Turn("Hello?", 500, "I am sorry. Yes.", is_brown_out=is_ill)
    words = EchoStage("sse").words(one, "Hello?", "sse-support-0-1.2.3")
    assert words.endswith(one.answer)
    assert tag_of(words) == "sse-support-0-1.2.3"
    (part,) = {order["prompt"] for order in orders(tmp_path, 1.0) if "prompt" in order}
    assert (str(part) in words) == is_ill
