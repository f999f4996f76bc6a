"""What the agent of a scripted call does, on a virtual clock and a line that is a fake."""

from __future__ import annotations

import asyncio

import pytest

from relay.calls import scripts
from relay.calls.agent import play
from relay.calls.record import TurnRecord
from relay.calls.script import Call, Interim, Tool, Turn
from relay.calls.turn import Setting
from tests.calls.fake_line import FakeLine
from tests.fakes.virtual_time import now_s, on_virtual_time

ANSWER = ("Certainly it is. ", "And more of it follows here.")


class Stage:
    """Everything by its own name."""

    def model(self, turn: Turn) -> str:
        return "ill" if turn.is_brown_out else "well"

    def words(self, turn: Turn, transcript: str, tag: str) -> str:
        return transcript

    def expected(self, turn: Turn, words: str) -> str:
        return turn.answer


def clock_ns() -> int:
    return round(now_s() * 1e9)


async def played(line: FakeLine, *turns: Turn, pace: float = 1.0) -> list[TurnRecord]:
    return await play(Call("test", turns), Setting(line, Stage(), pace, clock_ns))


def after_ms(record: TurnRecord, at_ns: int) -> float:
    """Since the caller's first sound."""
    return (at_ns - record.speech_from_ns) / 1e6


@on_virtual_time
async def test_a_turn_is_asked_when_it_is_final() -> None:
    line = FakeLine(*ANSWER)
    first, second = await played(line, Turn("Is it?", 1000, ""), Turn("Sure?", 800, "", 200))
    assert after_ms(first, first.speech_to_ns) == 1000
    assert after_ms(first, first.final_ns) == 1300
    assert after_ms(first, first.first_segment_ns) == 1800
    assert after_ms(second, second.first_segment_ns) == 1500
    assert first.heard == "".join(ANSWER)
    assert [message["content"] for message in line.answers[1].request.messages] == [
        "Is it?",
        "".join(ANSWER),
        "Sure?",
    ]
    # The text was heard to its end by its own clock, and nobody waited for that.
    from_ns, to_ns = first.spoken_ns[0][0], first.spoken_ns[-1][1]
    assert after_ms(first, from_ns) == pytest.approx(1800)
    assert to_ns > first.ended_ns


@on_virtual_time
async def test_a_good_guess_is_committed_and_heard_at_once() -> None:
    line = FakeLine(*ANSWER)
    guessed = Turn("Is it so?", 1000, "", 600, (Interim(700, "Is it?"), Interim(1050, "Is it so?")))
    (record,) = await played(line, guessed)
    first, second = record.generations
    assert (first.role, first.cancel_reason) == ("guess", "superseded")
    assert after_ms(record, first.cancelled_ns) == 1050
    assert line.answers[1].supersedes is line.answers[0]
    assert all(answer.request.is_speculative for answer in line.answers)
    assert after_ms(record, second.first_piece_ns) == 1550
    assert after_ms(record, second.committed_ns) == 1600
    assert record.first_segment_ns == second.committed_ns, "not before it is certain"
    assert line.answers[1].committed_s
    assert record.answer is second
    assert not line.answers[1].cancelled_s


@on_virtual_time
async def test_a_wrong_guess_is_discarded_and_never_heard() -> None:
    line = FakeLine(*ANSWER)
    (record,) = await played(line, Turn("Is it?", 1000, "", 300, (Interim(600, "Isn't it?"),)))
    guess, answer = record.generations
    assert guess.cancel_reason == "discarded"
    assert guess.text == ANSWER[0]
    assert after_ms(record, answer.started_ns) == 1300
    assert after_ms(record, record.first_segment_ns) == 1800
    assert record.heard == "".join(ANSWER)


@on_virtual_time
async def test_a_barge_in_cancels_at_the_letter_that_is_heard() -> None:
    line = FakeLine(*ANSWER)
    record, _ = await played(
        line, Turn("Is it?", 1000, "", barge_in_after_chars=6), Turn("No.", 500, "")
    )
    assert after_ms(record, record.barge_in_ns) == pytest.approx(1800 + 6 / 15 * 1000, abs=0.01)
    assert record.heard == ANSWER[0][:6]
    assert record.generations[0].cancel_reason == "barge_in"
    assert line.answers[0].reason == "barge_in"
    assert record.generations[0].late_pieces == 0
    assert line.answers[1].request.messages[1]["content"] == ANSWER[0][:6]


@on_virtual_time
async def test_a_barge_in_after_the_answer_came_whole_cancels_nothing() -> None:
    line = FakeLine(*ANSWER)
    (record,) = await played(line, Turn("Is it?", 1000, "", barge_in_after_chars=30))
    (generation,) = record.generations
    assert (generation.cancel_reason, generation.cancelled_ns) == ("barge_in", 0)
    assert not line.answers[0].cancelled_s
    assert len(record.heard) == 30


@on_virtual_time
async def test_a_barge_in_may_come_before_anything_was_heard() -> None:
    line = FakeLine(*ANSWER)
    (record,) = await played(line, Turn("Is it?", 1000, "", barge_in_after_ms=100))
    assert after_ms(record, record.barge_in_ns) == 1400
    assert (record.first_segment_ns, record.heard) == (0, "")
    assert record.generations[0].text == ""


@on_virtual_time
async def test_noise_stops_the_voice_for_two_seconds_and_starts_nothing() -> None:
    line = FakeLine(*ANSWER)
    (record,) = await played(line, Turn("Is it?", 1000, "", noise_after_chars=3))
    assert len(line.answers) == 1
    assert not line.answers[0].cancelled_s
    ((from_ns, to_ns),) = record.noise_ns
    assert after_ms(record, from_ns) == pytest.approx(2000, abs=0.01)
    assert to_ns - from_ns == pytest.approx(2e9)
    before, after = record.spoken_ns
    assert before[1] == pytest.approx(from_ns, abs=1e6)
    assert after[0] == pytest.approx(to_ns, abs=1e6)
    assert record.heard == "".join(ANSWER)


@on_virtual_time
async def test_a_tool_is_run_and_the_model_asked_again() -> None:
    line = FakeLine(*ANSWER)
    tool = Tool("look", 250, '{"free": 1}')
    guess = (Interim(900, "Is it?"),)
    (record,) = await played(line, Turn("Is it?", 1000, "", 300, guess, tool=tool))
    first, second = line.answers
    assert first.request.tools
    assert not second.request.tools
    assert [message["role"] for message in second.request.messages] == ["user", "assistant", "tool"]
    assert second.request.messages[-1]["content"] == tool.result
    assert [one.role for one in record.generations] == ["guess", "after_tool"]
    # Called at 1400, after the commit at 1300; the tool takes 250.
    assert after_ms(record, record.generations[1].started_ns) == pytest.approx(1650)
    assert after_ms(record, record.first_segment_ns) == pytest.approx(2150)


@on_virtual_time
async def test_a_pace_is_of_people_and_not_of_providers() -> None:
    line = FakeLine(*ANSWER)
    (record,) = await played(line, Turn("Is it?", 1000, ""), pace=2.0)
    assert after_ms(record, record.first_segment_ns) == 650 + 500


@on_virtual_time
async def test_a_call_that_is_cancelled_leaves_nothing_running() -> None:
    line = FakeLine(*ANSWER)
    call = asyncio.create_task(played(line, Turn("Is it?", 1000, "", 300, (Interim(500, "Is"),))))
    await asyncio.sleep(0.75)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert line.answers[0].reason == "session_end"


@pytest.mark.parametrize("call", scripts.CALLS, ids=lambda call: call.name)
def test_scripts_can_be_played(call: Call) -> None:
    for turn in call.turns:
        for chars in (turn.noise_after_chars, turn.barge_in_after_chars):
            assert chars is None or chars < len(turn.answer)
        assert all(each.at_ms < turn.speech_ms + turn.final_ms for each in turn.interims)
        assert len(turn.says) / turn.speech_ms < 0.035, "nobody speaks that fast"
        assert turn.answer[-1] in ".!?"


def test_scripts_have_all_that_happens_in_calls() -> None:
    turns = [turn for call in scripts.CALLS for turn in call.turns]
    assert any(turn.tool and turn.interims for turn in turns)
    assert any(turn.noise_after_chars for turn in turns)
    assert any(turn.barge_in_after_ms for turn in turns)
    assert any(turn.barge_in_after_chars for turn in turns)
    assert {turn.is_guessed for turn in turns if turn.interims} == {True, False}
    assert any(len(turn.interims) > 1 for turn in turns)
    assert 0 < sum(turn.is_brown_out for turn in turns) < len(turns) / 4
