"""Recorded answers, whatever their wire, over the Messages surface: Anthropic's own client has of
them what OpenAI's has, streamed and whole alike; and of Claude's, what it has without the relay."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpus.harness import Wire
from tests.fakes.wire_corpus import ABSENT, Case, all_cases
from tests.judges.relayed import over_messages, over_messages_whole, over_shim
from tests.judges.test_answers import UNREADABLE, parameters
from tests.judges.vendors import anthropic_client, from_message
from tests.judges.verdict import Verdict

pytestmark = pytest.mark.corpus

ASK: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": []}


OTHERWISE = {
    "azure-openai/stream-text--grok-4-1-fast-non-reasoning--01": (
        "more cached tokens than the prompt has: input, which leaves them out, is 0"
    ),
    "openai-chat/nonstream-tool--gpt-4o-mini--01": (
        "arguments are cut: the client makes of a stream what it can, in a document they are empty"
    ),
}
"""What is read otherwise, and why; left out."""

UNCITED_BEFORE_CITED = "anthropic/nonstream-server-tools--claude-sonnet-5--02"
"""Text without citations and text with them behind it are one block, since nothing tells them
apart before its citations come; left out."""

ANSWERS = [one for one in parameters() if one.id not in OTHERWISE]


@pytest.mark.parametrize(("wire", "case"), ANSWERS)
def test_anthropic_s_client_has_what_openai_s_has(wire: Wire, case: Case) -> None:
    reading = wire.read(case, [case.body])
    streamed, whole = over_messages(reading), over_messages_whole(reading)
    assert to_compare(streamed) == to_compare(whole)
    assert from_message(streamed).usage == from_message(whole).usage
    over, same = over_shim(reading), from_message(streamed)
    chat, message = over.choices[0], same.choices[0]
    assert message.text == chat.text + chat.refusal
    assert calls_of(same) == calls_of(over)
    if not chat.refusal:
        assert message.finish == chat.finish
    if over.usage is not None and same.usage is not None:
        assert same.usage[:2] == over.usage[:2]


def calls_of(verdict: Verdict) -> list[tuple[str, str, Any]]:
    """With arguments as this format has them, an object whatever the model wrote."""
    return [
        (call_id, name, value if isinstance(value, dict) else {})
        for call_id, name, value in verdict.choices[0].calls
    ]


def to_compare(message: Any) -> dict[str, Any]:
    """Without its id, which each is made where the provider gave none, and without what stands
    beside the counts, of which the client keeps the first word."""
    found: dict[str, Any] = message.to_dict()
    return {name: value for name, value in found.items() if name not in ("id", "usage")}


CLAUDE = [
    one
    for one in parameters()
    if one.values[0] is None
    or (
        one.values[0].name == "anthropic_messages"
        and one.id not in (*UNREADABLE, UNCITED_BEFORE_CITED)
    )
]


@pytest.mark.parametrize(("wire", "case"), CLAUDE)
def test_blocks_of_claude_come_out_as_they_went_in(wire: Wire, case: Case) -> None:
    recording, client = anthropic_client()
    recording.put_case(case)
    if case.is_stream:
        with client.beta.messages.stream(**ASK) as stream:
            direct: Any = stream.get_final_message()
    else:
        direct = client.beta.messages.create(**ASK)
    relayed = over_messages(wire.read(case, [case.body]))
    assert blocks_of(relayed) == blocks_of(direct)
    assert relayed.stop_reason == direct.stop_reason or relayed.stop_reason == "tool_use"
    assert relayed.stop_sequence == direct.stop_sequence


def blocks_of(message: Any) -> list[dict[str, Any]]:
    """Its blocks; neighbours of plain text are one, since nothing tells them apart."""
    found: list[dict[str, Any]] = []
    for block in message.content:
        value = {name: one for name, one in block.to_dict().items() if one is not None}
        value.pop("parsed_output", None)
        value.pop("caller", None)  # of tool_use: "direct" wherever the call is the client's
        is_text = value["type"] == "text" and not value.get("citations")
        if is_text and found and found[-1]["type"] == "text" and "citations" not in found[-1]:
            found[-1]["text"] += value["text"]
        elif not is_text or value["text"]:
            found.append(value)
    return found


@pytest.mark.skipif(not all_cases(), reason=ABSENT)
def test_what_is_left_out_is_there() -> None:
    names = {one.id for one in parameters()}
    assert {*OTHERWISE, UNCITED_BEFORE_CITED} <= names
