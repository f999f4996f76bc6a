"""Recorded answers of every wire as responses: OpenAI's client has of them what it has of the same
answers as chat completions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpus.harness import Wire
from tests.corpus.wires import WIRES
from tests.fakes.wire_corpus import ABSENT, Case
from tests.judges.relayed import over_responses, over_responses_whole, over_shim
from tests.judges.verdict import Verdict

pytestmark = pytest.mark.corpus


def parameters() -> list[Any]:
    """Every recorded answer that is none of an error."""
    found = [
        pytest.param(wire, case, id=case.name)
        for wire in WIRES
        for case in wire.cases
        if case.status < 400 and not {"error", "failure"} & wire.expected(case).keys()
    ]
    absent = pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")
    return found or [absent]


LEGACY = "openai-chat/nonstream-text--gpt-4--02"
"""Ends with `function_call`, which this API has no word for."""


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of citations of other wires
@pytest.mark.parametrize(("wire", "case"), parameters())
def test_response_says_what_the_completion_says(wire: Wire, case: Case) -> None:
    reading = wire.read(case, [case.body])
    assert reading.result.error is None
    chat, (streamed, _) = over_shim(reading), over_responses(reading)
    assert over_responses_whole(reading) == streamed
    first, ours = chat.choices[0], streamed.choices[0]
    assert (ours.text, ours.refusal) == (first.text, first.refusal)
    assert with_arguments(streamed) == with_arguments(chat)
    if chat.usage is not None:
        assert streamed.usage == chat.usage
    if not ours.calls and case.name != LEGACY:
        assert ours.finish == first.finish


def with_arguments(verdict: Verdict) -> list[tuple[str, str, Any]]:
    """The calls; an empty object stands for no arguments."""
    return [(call_id, name, given or {}) for call_id, name, given in verdict.choices[0].calls]
