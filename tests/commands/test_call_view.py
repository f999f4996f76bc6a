"""The picture of a turn: what stands where, from stamps that are known."""

from __future__ import annotations

import pytest

from relay.calls.record import GenerationRecord, Role, TurnRecord
from relay.commands.call_view import (
    WIDTH,
    Stream,
    by_generation,
    facts,
    picture,
    stream_of,
)

MS = 1_000_000
BASE = 5_000 * MS
LABEL = 17


def at(ms: int) -> int:
    """A moment after the caller's first sound."""
    return BASE + ms * MS


def generation(role: Role, words: str, started_ms: int, **fields: object) -> GenerationRecord:
    record = GenerationRecord("t.1", role, words, "", at(started_ms))
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def stream(
    provider: str, prompt: str, start_ms: int, first_ms: int, end_ms: int, **fields: object
) -> Stream:
    first_ns = at(first_ms) if first_ms else 0
    is_reset = bool(fields.get("is_reset", False))
    tokens = 9 if first_ms else 0
    return Stream(provider, prompt, at(start_ms), first_ns, at(end_ms), is_reset, tokens)


def turn(*generations: GenerationRecord, **fields: object) -> TurnRecord:
    """The caller speaks for a second; 3 s in all."""
    record = TurnRecord(
        speech_from_ns=at(0),
        speech_to_ns=at(1000),
        final_ns=at(1300),
        first_segment_ns=at(1600),
        ended_ns=at(3000),
        spoken_ns=[(at(1600), at(9000))],
        generations=list(generations),
    )
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def lanes(record: TurnRecord, *streams: Stream, width: int = WIDTH) -> dict[str, str]:
    """Lines by their labels."""
    lines = [line.plain for line in picture(record, streams, width)]
    assert all(len(line) <= width for line in lines)
    return {line[:LABEL].strip(): line[LABEL:] for line in lines}


def cell(ms: float, width: int = WIDTH) -> int:
    """Where a moment of such a turn is drawn: 6 % are left after its end."""
    return int(ms / (3000 * 1.06) * (width - LABEL))


@pytest.mark.parametrize("width", [98, 80, 60])
def test_bars_are_where_they_happened(width: int) -> None:
    answer = generation("answer", "Is it?", 1300, committed_ns=at(1300))
    found = lanes(turn(answer), stream("north", "Is it?", 1302, 1600, 2900), width=width)
    assert list(found) == ["ms", "caller", "transcripts", "answer north", "agent"]
    assert found["caller"] == "█" * cell(1000, width)
    assert found["transcripts"].index("F") == cell(1300, width)
    row = found["answer north"]
    assert row.index("░") == cell(1302, width)
    assert row.index("▒") == cell(1600, width)
    assert row.index("●") == cell(2900, width) == len(row) - 1
    assert found["agent"].index("█") == cell(1600, width)
    assert found["agent"].endswith("→"), "speech goes on beyond the picture"
    zero = found["ms"].replace("-", " ").split().index("0")
    assert found["ms"].split()[zero] == "0"
    assert found["ms"].index(" 0") + 1 == cell(1000, width)


def test_guesses_show_how_they_ended() -> None:
    first = generation(
        "guess",
        "Is?",
        400,
        cancelled_ns=at(800),
        cancel_reason="superseded",
        first_piece_ns=0,
    )
    second = generation("guess", "Is it?", 800, committed_ns=at(1300), first_piece_ns=at(1200))
    streams = (
        stream("north", "Is?", 401, 600, 802, is_reset=True),
        stream("north", "Is it?", 801, 1100, 2000),
    )
    record = turn(first, second, interims_ns=[(at(400), "Is?"), (at(800), "Is it?")])
    found = lanes(record, *streams)
    assert found["transcripts"].split() == ["1", "2", "F"]
    assert found["guess 1 north"].endswith("×")
    assert found["guess 2 north"].index("◆") == cell(1300)
    assert facts(record, streams) == [
        "first sentence 600 ms after the caller's last sound, begun 500 ms before the turn was"
        " certain",
        "guess 1 superseded: north noticed the reset 2.0 ms later, after 9 tokens; nothing of it"
        " was released",
    ]


def test_races_say_who_was_asked_when() -> None:
    answer = generation("answer", "Is it?", 1300, committed_ns=at(1300), first_piece_ns=at(1900))
    slow = stream("north", "Is it?", 1301, 0, 1903, is_reset=True)
    south = stream("south", "Is it?", 1701, 1900, 2500)
    hedge = facts(turn(answer), [slow, south])[1]
    assert hedge == (
        "hedge: south was asked 400 ms after north and wrote first; north noticed the reset 3.0 ms"
        " after that, before its first token"
    )
    given_up = stream("north", "Is it?", 1301, 0, 1650, is_reset=True)
    failover = facts(turn(answer), [given_up, south])[1]
    assert failover.startswith("failover: south was asked 400 ms after north")
    # The reset and the next request go out together: which is noticed first is chance.
    noticed_late = stream("north", "Is it?", 1301, 0, 1715, is_reset=True)
    late = facts(turn(answer), [noticed_late, south])[1]
    assert late.startswith("failover: south was asked 400 ms after north")


def test_a_barge_in_ends_the_answer_and_begins_the_caller() -> None:
    answer = generation(
        "answer",
        "Is it?",
        1300,
        committed_ns=at(1300),
        cancelled_ns=at(2500),
        cancel_reason="barge_in",
        first_piece_ns=at(1600),
    )
    record = turn(answer, barge_in_ns=at(2500), ended_ns=at(3000), spoken_ns=[(at(1600), at(2500))])
    streams = [stream("north", "Is it?", 1301, 1500, 2501, is_reset=True)]
    found = lanes(record, *streams)
    assert found["caller"].rindex(" ") == cell(2500) - 1
    assert len(found["agent"]) == cell(2500)
    assert facts(record, streams)[-1] == (
        "barge-in: north noticed the reset 1.0 ms later, after 9 tokens"
    )


def test_legs_with_the_same_words_are_told_apart_by_time() -> None:
    call = generation("answer", "Book it.", 1300, committed_ns=at(1300))
    after = generation("after_tool", "Book it.", 1800, committed_ns=at(1800))
    record = turn(call, after, tools_ns=[(at(1500), at(1800))])
    one, two = stream("north", "Book it.", 1301, 1400, 1500), stream("north", "Book", 1802, 1900, 2)
    other = stream("north", "Something else", 1801, 1900, 2000)
    assert [own for _, own in by_generation(record, [two, other, one])] == [[one], [two]]
    found = lanes(record, one, two)
    assert {"call north", "answer north", "tool"} <= set(found)
    assert set(found["tool"].strip()) == {"▓"}


def test_a_stream_is_read_from_the_emulator() -> None:
    row = {
        "prompt_start": "Is it?",
        "start_ns": 1,
        "first_token_ns": 2,
        "end_ns": 3,
        "outcome": "abandoned",
        "tokens": 4,
    }
    assert stream_of(row, "north") == Stream("north", "Is it?", 1, 2, 3, is_reset=True, tokens=4)
