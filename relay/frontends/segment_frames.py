"""Text as speakable segments: one `Segment` frame a sentence, for clients that ask for them."""

from __future__ import annotations

from rtrelay.v1 import relay_pb2 as relay_pb

from relay.segments import Segmenter


class SegmentFrames:
    """Frames of one generation's text, by choice. Offsets count code points.

    A segment is sent as soon as it is known to be whole, so the last one may go out before it is
    known to be the last; then an empty one says so.
    """

    __slots__ = ("_choices", "_generation_id")

    def __init__(self, generation_id: str) -> None:
        self._generation_id = generation_id
        self._choices: dict[int, _Choice] = {}

    def feed(self, choice: int, text: str) -> list[bytes]:
        """The frames of the segments that this text completes; mostly none."""
        state = self._choices.get(choice)
        if state is None:
            state = self._choices[choice] = _Choice()
        segments = state.segmenter.feed(text)
        return [self._frame(choice, state, segment, is_last=False) for segment in segments]

    def break_off(self, choice: int) -> list[bytes]:
        """A tool call comes now: the frame of what is left of the text before it, if it can be
        spoken. "Let me look." is to be heard while the arguments are still being written."""
        state = self._choices.get(choice)
        text = state.segmenter.break_off() if state is not None else ""
        return [self._frame(choice, state, text, is_last=False)] if state and text else []

    def withdraw(self, choice: int) -> None:
        """What is left of the text is not to be spoken: the last frame will be empty."""
        if (state := self._choices.get(choice)) is not None:
            state.segmenter.flush()

    def finish(self, choice: int) -> list[bytes]:
        """The choice is over: the frame of what is left, which is its last."""
        state = self._choices.pop(choice, None)
        if state is None:  # it had no text
            return []
        return [self._frame(choice, state, state.segmenter.flush(), is_last=True)]

    def rest(self) -> list[bytes]:
        """The generation broke off: what is left of every choice, which nothing follows."""
        return [frame for choice in list(self._choices) for frame in self.finish(choice)]

    def _frame(self, choice: int, state: _Choice, text: str, *, is_last: bool) -> bytes:
        frame = relay_pb.ConverseResponse(
            segment=relay_pb.Segment(
                generation_id=self._generation_id,
                text=text,
                char_offset=state.offset,
                choice=choice,
                index=state.index,
                is_last=is_last,
            )
        )
        state.offset += len(text)
        state.index += 1
        return frame.SerializeToString()


class _Choice:
    __slots__ = ("index", "offset", "segmenter")

    def __init__(self) -> None:
        self.segmenter = Segmenter()
        self.offset = 0
        self.index = 0
