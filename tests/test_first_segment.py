"""What counts as something that a voice can say whole."""

from __future__ import annotations

import pytest

from relay.content import (
    ChoiceFinished,
    FinishReason,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.first_segment import FirstSegment

CALL = ToolCallStart(index=0, call_id="c", name="f")
PIECE = ToolArgumentsDelta(index=0, fragment="{")
CALLED = ToolCallDone(index=0, call_id="c", name="f", arguments="{}")


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([TextDelta("One "), TextDelta("two. "), TextDelta("Three")], 1),
        ([TextDelta("One "), ChoiceFinished(FinishReason.STOP, "stop", 0)], 1),
        ([CALL, PIECE, CALLED], 2),
        ([TextDelta("Let me look."), CALL, PIECE, CALLED], 1),
        ([TextDelta("\n\n"), CALL, PIECE, CALLED], 3),
        ([TextDelta("Other. ", choice=1), TextDelta("One. ")], 1),
    ],
)
def test_when_it_is_in(events: list[StreamEvent], last: int) -> None:
    first = FirstSegment()
    is_in = [first.is_in([event]) for event in events[: last + 1]]
    assert is_in == [False] * last + [True]
