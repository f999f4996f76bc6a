"""Recorded answers, through the relay and without it: clients have the same.

For every answer of the corpus the vendor's own client reads the recorded bytes, and OpenAI's client
and the gRPC contract read what the relay makes of them. Text, tool calls (name, id, arguments),
finish reason and usage must be equal, and the provider's own word for the finish over gRPC. Where a
wire gives calls no ids, the relay makes some. What else differs is listed case by case.
"""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

import pytest

from tests.corpus.harness import Wire
from tests.corpus.wires import WIRES
from tests.fakes.wire_corpus import ABSENT, Case, all_cases
from tests.judges.relayed import over_grpc, over_shim, over_shim_whole
from tests.judges.vendors import READERS
from tests.judges.verdict import Choice, Verdict

pytestmark = pytest.mark.corpus

CONTENT_LIST = "OpenAI's client keeps the list of parts as it is; text is text to us"
BY_NUMBER = "google-genai cannot read finish reasons by number"
IN_PIECES = "google-genai does not add up calls that come in pieces"

UNREADABLE = {
    "azure-openai/nonstream-refusal--openllmetry-testing--01": "a choice without a message",
    "azure-openai/stream-text--gpt-4o-mini--01": "a choice without a delta",
    "mistral/stream-reasoning--magistral-medium-latest--01": CONTENT_LIST,
    "mistral/stream-reasoning--magistral-medium-latest--02": CONTENT_LIST,
    "mistral/stream-tool--mistral-small-latest--01": "a tool call without an index",
    "sse-framing/done-glued--composed": "[DONE] right behind the JSON of the last event",
    "anthropic/stream-server-tools--claude-haiku-4.5--01": (
        "OpenRouter sends a server tool's input in pieces that are no JSON together"
    ),
    "gemini-vertex/nonstream-after-tool-result--gemini-2.5-pro--01": BY_NUMBER,
    "gemini-vertex/nonstream-parallel-tools--gemini-2.5-pro--01": BY_NUMBER,
    "gemini-vertex/nonstream-text--gemini-2.5-pro--02": BY_NUMBER,
}
"""What the vendor's own client fails on, and why; clients of the relay still agree."""

DIFFERENCES = {
    "groq/stream-text--llama3-8b-8192--01": ({"usage"}, "usage is in `x_groq`, unread there"),
    "mistral/nonstream-text--mistral-small-latest--02": ({"text"}, CONTENT_LIST),
    "mistral/nonstream-text--mistral-small-latest--03": ({"text"}, CONTENT_LIST),
    "openai-chat/nonstream-text--gpt-4--02": (
        {"finish"},
        "`function_call`, which today's clients do not know, is `tool_calls`",
    ),
    "together/nonstream-text--mixtral-8x7b-instruct-v0.1--01": (
        {"finish"},
        "`eos`, which is no word of OpenAI's, is `stop`",
    ),
    "qwen/stream-tool--qwen-turbo--01": (
        {"calls"},
        "the id comes with every piece, and OpenAI's client joins them",
    ),
    "xai-chat/stream-tool--grok-3-mini--p01": (
        {"usage"},
        "completion tokens include reasoning, as OpenAI counts them",
    ),
    "gemini-vertex/stream-partial-args--gemini-3.1-pro-preview--p01": ({"calls"}, IN_PIECES),
    "gemini-vertex/stream-partial-args--gemini-3-flash-preview--p01": ({"calls"}, IN_PIECES),
    "gemini-vertex/stream-partial-args--gemini-3.1-pro-preview--p02": ({"calls"}, IN_PIECES),
}
"""What we say otherwise than the vendor's own client."""

FAILED = 19
"""Answers with a status of success that are failures to us (an error inside, cut off, given up), so
that there is nothing to compare; `tests/corpus` holds them to their class."""


def answers() -> list[tuple[Wire, Case]]:
    """Every answer that is none of an error, with its wire."""
    return [
        (wire, case)
        for wire in WIRES
        if wire.name in READERS
        for case in wire.cases
        if case.status < 400 and "error" not in wire.expected(case)
        if "failure" not in wire.expected(case)
    ]


def parameters() -> list[Any]:
    found = [pytest.param(wire, case, id=case.name) for wire, case in answers()]
    absent = pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")
    return found or [absent]


@pytest.mark.parametrize(("wire", "case"), parameters())
def test_clients_have_what_the_vendors_client_has(wire: Wire, case: Case) -> None:
    reading = wire.read(case, [case.body])
    assert reading.result.error is None
    over = over_shim(reading)
    assert over_shim_whole(reading) == over
    grpc = over_grpc(reading)
    assert grpc == over
    if case.name in UNREADABLE:
        with pytest.raises(Exception):  # noqa: B017 - whatever it fails with
            READERS[wire.name](case)
        return
    with warnings.catch_warnings():
        # Of vendors on models and values that they do not know.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        vendor = READERS[wire.name](case)
    without_made_ids(over, vendor)
    listed, _ = DIFFERENCES.get(case.name, (set(), ""))
    assert differing(over, vendor) == listed
    raw = {index: choice.raw_finish for index, choice in grpc.choices.items()}
    assert raw == {index: choice.raw_finish for index, choice in vendor.choices.items()}


def without_made_ids(ours: Verdict, vendor: Verdict) -> None:
    """Take the ids off calls that have none on their wire."""
    for index, choice in ours.choices.items():
        others = vendor.choices[index].calls if index in vendor.choices else []
        if others and all(not call_id for call_id, _, _ in others):
            assert all(call_id for call_id, _, _ in choice.calls)
            choice.calls = [("", name, arguments) for _, name, arguments in choice.calls]


def differing(ours: Verdict, vendor: Verdict) -> set[str]:
    """Names of what is not equal."""
    found = {"usage"} if ours.usage != vendor.usage else set()
    if ours.choices.keys() != vendor.choices.keys():
        return {*found, "choices"}
    for index, choice in ours.choices.items():
        found |= {
            one.name
            for one in fields(Choice)
            if one.compare and getattr(choice, one.name) != getattr(vendor.choices[index], one.name)
        }
    return found


@pytest.mark.skipif(not all_cases(), reason=ABSENT)
def test_no_answer_is_left_out() -> None:
    successes = {
        case.name
        for wire in WIRES
        if wire.name in READERS
        for case in wire.cases
        if case.status < 400
    }
    compared = [case.name for _, case in answers()]
    assert len(successes) - len(compared) == FAILED
    assert set(UNREADABLE) | set(DIFFERENCES) <= set(compared)
    assert not set(UNREADABLE) & set(DIFFERENCES)
