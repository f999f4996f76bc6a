"""What the user gets of a tier: without log probabilities that he did not ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from relay.answer import Answer, TextSource
from relay.content import Events, OpaqueDelta, TextDelta, Usage
from relay.errors import StreamReset, UpstreamError
from relay.policy.cascade_answer import TierAnswer
from relay.timeline import AttemptMarks
from tests.fakes.scripted_legs import TIMEOUTS, logprobs

USAGE = Usage(1, 2, 3)


class Inner:
    """An answer that says what it is told to, and notes what is done with it."""

    provider, model, name, timeouts, output_bytes = "p", "m", "p/m", TIMEOUTS, 7
    is_over = False

    def __init__(self, prelude: Events, *batches: Events) -> None:
        self.prelude = prelude
        self.marks = AttemptMarks(1.0)
        self._batches = list(batches)
        self.told: list[object] = []

    async def read(self) -> Events:
        return self._batches.pop(0) if self._batches else ()

    def text_source(self) -> TextSource | None:
        return cast("TextSource", "source")

    def spent(self, usage: Usage) -> None:
        self.told.append(usage)

    def abort(self) -> None:
        self.told.append("abort")

    def fail(self, error: UpstreamError) -> None:
        self.told.append(error)


def over(inner: Inner, *, hides: bool = True, ends: list[str] | None = None) -> TierAnswer:
    found = [] if ends is None else ends
    return TierAnswer(
        cast("Answer", inner), hides_logprobs=hides, on_over=lambda: found.append("over")
    )


async def test_they_are_taken_out_and_nothing_else() -> None:
    other = OpaqueDelta("annotations", b"[]")
    inner = Inner(
        [TextDelta("a"), logprobs("a", -1.0)],
        [logprobs("b", -1.0)],  # nothing is left of it, and it is not the end
        [TextDelta("b"), other, logprobs("b", -1.0), USAGE],
    )
    ends: list[str] = []
    answer = over(inner, ends=ends)
    assert list(answer.prelude) == [TextDelta("a")]
    assert answer.prelude is answer.prelude
    assert list(await answer.read()) == [TextDelta("b"), other, USAGE]
    assert ends == []
    assert list(await answer.read()) == []
    assert list(await answer.read()) == []
    assert ends == ["over"]
    assert answer.text_source() is None


async def test_where_they_were_asked_for_all_goes_through() -> None:
    prelude: Sequence[TextDelta | OpaqueDelta] = [TextDelta("a"), logprobs("a", -1.0)]
    answer = over(Inner(prelude), hides=False)
    assert answer.prelude is prelude
    assert answer.text_source() is not None


def test_the_rest_is_the_inner_ones() -> None:
    ends: list[str] = []
    inner = Inner(())
    answer = over(inner, ends=ends)
    assert (answer.provider, answer.model, answer.name) == ("p", "m", "p/m")
    assert (answer.timeouts, answer.is_over, answer.output_bytes) == (TIMEOUTS, False, 7)
    assert answer.marks is inner.marks
    error = StreamReset("broke")
    answer.spent(USAGE)
    answer.fail(error)
    answer.abort()
    assert inner.told == [USAGE, error, "abort"]
    assert ends == ["over"]
