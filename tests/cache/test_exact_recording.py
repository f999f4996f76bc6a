"""What is taken down of an answer, and which answers are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.answer import TextSource
from relay.cache.recording import RecordingAnswer
from relay.cache.stored import Stored
from relay.cache.tape import PIECE_CHARS, Tape, joined
from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Embeddings,
    Events,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    Sampling,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.errors import StreamReset
from tests.cache.world import INFO, STOP, USAGE, WALL_S, WHOLE, FakeAnswer, asked, price_of, wall_s
from tests.fakes.events import batches
from tests.fakes.properties import examples
from tests.fakes.virtual_time import START_S, now_s, on_virtual_time, run


class Kept:
    """What a recording told, in order."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.given_up = 0

    def over(
        self,
        answer: FakeAnswer,
        *,
        max_bytes: int = 1 << 20,
        has_gaps: bool = False,
        **sampling: Any,
    ) -> RecordingAnswer:
        return RecordingAnswer(
            answer,
            asked(sampling=Sampling(**sampling)),
            max_bytes=max_bytes,
            has_gaps=has_gaps,
            clock=now_s,
            wall_clock=wall_s,
            price_of=price_of,
            keep=self.stored.append,
            give_up=self._give_up,
            let_go=self._give_up,
        )

    def _give_up(self) -> None:
        self.given_up += 1


async def read(answer: RecordingAnswer) -> list[StreamEvent]:
    events = list(answer.prelude)
    while more := await answer.read():
        events += more
    return events


def kept_of(found: Sequence[Events], **more: Any) -> list[Stored]:
    kept = Kept()

    async def story() -> None:
        events = await read(kept.over(FakeAnswer(found), **more))
        assert events == [event for batch in found for event in batch]
        assert len(kept.stored) + kept.given_up == 1, "told once, one of the two"

    run(story())
    return kept.stored


CALL = (
    ToolCallStart(0, "c", "f"),
    ToolArgumentsDelta(0, '{"a"'),
    ToolArgumentsDelta(0, ":1}"),
    ToolCallDone(0, "c", "f", '{"a":1}'),
)
CALLED = ChoiceFinished(FinishReason.TOOL_CALLS, "tool_calls")
CUT = ChoiceFinished(FinishReason.LENGTH, "length")


def finished(reason: FinishReason, choice: int = 0) -> ChoiceFinished:
    return ChoiceFinished(reason, reason.name.lower(), choice)


@pytest.mark.parametrize(
    "found",
    [
        WHOLE,
        [(INFO, TextDelta("Hi"), STOP, USAGE)],
        [(TextDelta("Hi"),), (USAGE,), (STOP,)],
        [(TextDelta("Hi"), STOP), (TextDelta(" there"), USAGE)],
        [(INFO, *CALL, CALLED, USAGE)],
        [(ReasoningDelta("hm"), TextDelta("Hi")), (OpaqueDelta("logprobs", b"{}"), STOP, USAGE)],
        [(Embeddings(b"[]"), USAGE, STOP)],
        [(TextDelta("Hi"), Usage(1, 0, 1, is_estimated=True)), (STOP, USAGE)],
    ],
)
def test_whole_answers_are_kept(found: Sequence[Events]) -> None:
    (stored,) = kept_of(found)
    assert (stored.provider, stored.model, stored.cost_micro) == ("acme", "large", 70)
    assert stored.made_s == WALL_S + START_S
    assert len(stored.batches) == 1
    expected = joined([event for batch in found for event in batch])
    assert stored.batches[0].events == expected


@pytest.mark.parametrize(
    "found",
    [
        [(INFO, TextDelta("Hi"), STOP)],
        [(TextDelta("Hi"), STOP, Usage(1, 1, 2, is_estimated=True))],
        [(TextDelta("Hi"), USAGE)],
        [(INFO, STOP, USAGE)],
        [(ReasoningDelta("hm"), STOP, USAGE)],
        [(TextDelta("Hi"), CUT, USAGE)],
        [(TextDelta("Hi"), finished(FinishReason.CONTENT_FILTER), USAGE)],
        [(TextDelta("Hi"), finished(FinishReason.OTHER), USAGE)],
        [(TextDelta("Hi"), STOP, TextDelta("x", 1), USAGE)],
        [(TextDelta("Hi"), STOP, TextDelta("x", 1), finished(FinishReason.LENGTH, 1), USAGE)],
        [(RefusalDelta("I cannot"), STOP, USAGE)],
        [(AudioDelta("a", "AAAA"), STOP, USAGE)],
        [(*CALL[:3], ToolCallDone(0, "c", "f", '{"a":', is_partial=True), CUT, USAGE)],
    ],
)
def test_others_are_not(found: Sequence[Events]) -> None:
    assert kept_of(found) == []


def test_all_choices_that_were_asked_for_must_be_there() -> None:
    one = [(TextDelta("Hi"), STOP, USAGE)]
    both = [(TextDelta("Hi"), STOP, TextDelta("Ho", 1), finished(FinishReason.STOP, 1), USAGE)]
    assert kept_of(one, choices=2) == []
    assert len(kept_of(both, choices=2)) == 1


def test_cut_where_the_request_wanted_it_cut() -> None:
    found = [(TextDelta("Hi"), CUT, USAGE)]  # of 5 tokens
    assert len(kept_of(found, max_output_tokens=5)) == 1
    assert kept_of(found, max_output_tokens=6) == [], "the provider had a shorter limit"


def test_size_is_bounded() -> None:
    found = [(TextDelta("x" * 500),), (STOP, USAGE)]
    assert kept_of(found, max_bytes=600) == []
    assert len(kept_of(found, max_bytes=2000)) == 1


@on_virtual_time
async def test_too_large_is_told_at_once() -> None:
    kept = Kept()
    answer = kept.over(
        FakeAnswer([(TextDelta("x"),), (TextDelta("x" * 500),), (STOP,)]), max_bytes=300
    )
    assert kept.given_up == 0
    await answer.read()
    assert kept.given_up == 1
    assert answer.text_source() is None
    await answer.read()
    assert await answer.read() == ()
    assert (kept.given_up, kept.stored) == (1, [])


@pytest.mark.parametrize("end", ["abort", "fail", "error"])
@pytest.mark.parametrize("batches_read", range(5))
def test_nothing_is_kept_of_what_broke(end: str, batches_read: int) -> None:
    """Whatever had come by then, and at whatever point."""
    kept = Kept()
    error = StreamReset("gone")
    inner = FakeAnswer(WHOLE, error=error)

    async def story() -> None:
        answer = kept.over(inner)
        for _ in range(min(batches_read, len(WHOLE) - 1)):
            await answer.read()
        if end == "abort":
            answer.abort()
            answer.abort()
        elif end == "fail":
            answer.fail(error)
        else:
            for _ in range(len(WHOLE) - 1 - batches_read):
                await answer.read()
            with pytest.raises(StreamReset):
                await answer.read()
        answer.abort()

    run(story())
    assert (kept.given_up, kept.stored) == (1, [])


@on_virtual_time
async def test_left_after_its_end_it_stays_kept() -> None:
    kept, inner = Kept(), FakeAnswer()
    answer = kept.over(inner)
    await read(answer)
    answer.spent(USAGE)
    answer.abort()
    assert (len(kept.stored), kept.given_up) == (1, 0)
    assert inner.ended == ["spent", "abort"]


@on_virtual_time
async def test_it_says_of_itself_what_the_answer_says() -> None:
    inner = FakeAnswer()
    answer = Kept().over(inner)
    assert (answer.provider, answer.model, answer.name) == ("acme", "large", "acme/large")
    assert answer.timeouts is inner.timeouts
    assert answer.marks is inner.marks
    assert answer.prelude is inner.prelude
    assert answer.is_over is False
    assert answer.output_bytes is None


@on_virtual_time
async def test_pauses_are_kept_where_they_are_wanted() -> None:
    kept = Kept()
    await read(kept.over(FakeAnswer(gap_s=0.25), has_gaps=True))
    assert [batch.gap_us for batch in kept.stored[0].batches] == [0, 250_000, 250_000, 250_000]
    assert [batch.events for batch in kept.stored[0].batches] == [list(found) for found in WHOLE]


# --- text without a coroutine per token -----------------------------------------------------


def poured(pieces: list[str]) -> tuple[TextSource, Callable[[], list[str]]]:
    left = [*pieces]

    async def read_next() -> memoryview:
        return memoryview(left.pop(0).encode())

    def text_of(chunk: memoryview) -> TextDelta | None:
        text = bytes(chunk).decode()
        return None if text == "|" else TextDelta(text)

    return TextSource(read_next, text_of, lambda chunk: left.insert(0, "|")), lambda: left


@pytest.mark.parametrize("has_gaps", [False, True])
def test_text_that_is_poured_is_taken_down(has_gaps: bool) -> None:
    kept = Kept()

    async def story() -> None:
        source, _ = poured(["b", "c", "|"])
        inner = FakeAnswer([(INFO, TextDelta("a")), (TextDelta("d"), STOP, USAGE)])
        inner._text_source = source
        answer = kept.over(inner, has_gaps=has_gaps)
        found = answer.text_source()
        assert found is not None
        assert (found.read_next, found.put_back) == (source.read_next, source.put_back)
        texts = []
        while (delta := found.text_of(await found.read_next())) is not None:
            texts.append(delta.text)
        assert texts == ["b", "c"]
        await answer.read()
        await answer.read()

    run(story())
    (stored,) = kept.stored
    events = [event for batch in stored.batches for event in batch.events]
    assert "".join(event.text for event in events if type(event) is TextDelta) == "abcd"
    assert len(stored.batches) == (4 if has_gaps else 1)


@on_virtual_time
async def test_text_that_is_poured_is_bounded_too() -> None:
    kept = Kept()
    source, _ = poured(["x" * 200, "y" * 200, "z" * 200])
    answer = kept.over(FakeAnswer(text_source=source), max_bytes=600)
    found = answer.text_source()
    assert found is not None
    for expected in ("x", "y", "z"):
        delta = found.text_of(await found.read_next())
        assert delta is not None
        assert delta.text == expected * 200
    assert kept.given_up == 1
    assert answer.text_source() is source, "nothing more is taken down"


# --- joining --------------------------------------------------------------------------------


def _meaning(events: Sequence[StreamEvent]) -> list[tuple[Any, ...]]:
    """Events with their texts letter by letter."""
    told: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            told += [(type(event), event.choice, letter) for letter in event.text]
        elif isinstance(event, ToolArgumentsDelta):
            told += [(type(event), event.choice, event.index, letter) for letter in event.fragment]
        else:
            told.append((event,))
    return told


@examples(60, full=800)
@given(batches(with_opaque=True))
def test_joining_changes_no_letter_and_no_order(found: list[Events]) -> None:
    events = [event for batch in found for event in batch]
    assert _meaning(joined(events)) == _meaning(events)


def test_pieces_of_one_text_become_one() -> None:
    events: list[StreamEvent] = [
        INFO,
        TextDelta("a"),
        TextDelta("b"),
        TextDelta("c", 1),
        TextDelta("d", 1),
        ReasoningDelta("e"),
        ReasoningDelta("f"),
        *CALL,
        STOP,
    ]
    assert joined(events) == [
        INFO,
        TextDelta("ab"),
        TextDelta("cd", 1),
        ReasoningDelta("ef"),
        CALL[0],
        ToolArgumentsDelta(0, '{"a":1}'),
        CALL[3],
        STOP,
    ]


def test_no_piece_becomes_endless() -> None:
    found = joined([TextDelta("x" * 100) for _ in range(100)])
    assert max(len(event.text) for event in found if isinstance(event, TextDelta)) < (
        PIECE_CHARS + 100
    )


_OF_NO_CHOICE = (ResponseInfo, Usage, ChoiceFinished)


@examples(60, full=800)
@given(batches(), st.integers(0, 3))
def test_only_whole_successes_are_kept(found: list[Events], missing: int) -> None:
    """By other words than the tape's own; and none that lacks its last events."""
    events = [event for batch in found for event in batch][: None if not missing else -missing]
    begun = {getattr(e, "choice", 0) for e in events if not isinstance(e, _OF_NO_CHOICE)}
    ends = {e.choice: e.reason for e in events if isinstance(e, ChoiceFinished)}
    is_good = (
        any(isinstance(e, Usage) for e in events)
        and any(isinstance(e, TextDelta | ToolCallStart) for e in events)
        and not any(isinstance(e, RefusalDelta) for e in events)
        and not any(isinstance(e, ToolCallDone) and e.is_partial for e in events)
        and begun <= set(ends)
        and all(r in (FinishReason.STOP, FinishReason.TOOL_CALLS) for r in ends.values())
    )
    tape = Tape(asked(), 1 << 20, None)
    assert (tape.take(events) and tape.usage_if_whole() is not None) == is_good
