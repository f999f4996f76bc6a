"""Whether there is something that a voice can say whole: a sentence, a tool call, the end."""

from __future__ import annotations

from typing import Final

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    TextDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.segments import Segmenter

_AS_GOOD_AS_SAID: Final = frozenset({ToolCallDone, ChoiceFinished, AudioDelta})
"""Events after which nobody waits for a sentence."""


class FirstSegment:
    """Looks for it in a stream of events; of the first choice, which is the one that is spoken."""

    __slots__ = ("_segmenter",)

    def __init__(self) -> None:
        self._segmenter = Segmenter()

    def is_in(self, events: Events) -> bool:
        """Whether it is complete with these events. Not asked again after that."""
        for event in events:
            if type(event) is TextDelta and event.choice == 0:
                if self._segmenter.feed(event.text):
                    return True
            elif type(event) in _AS_GOOD_AS_SAID:
                return True
            elif type(event) is ToolCallStart and event.choice == 0 and self._segmenter.break_off():
                return True  # what is said before a call is whole with it
        return False
