"""What each wire is sent of a Messages body: what every wire can say, and what is Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from relay.codecs.registry import BUILDERS
from relay.config import known_providers
from relay.content import (
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.errors import UnsupportedFeature
from relay.frontends.messages_body import to_request
from relay.frontends.surfaces.messages_whole import MessageCollector
from tests.docs.wires import COLUMNS
from tests.fakes.ends import end_of

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
PLAIN: dict[str, Any] = {"model": "m", "max_tokens": 2000, "messages": [HELLO]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALLER = {"type": "direct"}
LAZY = {"name": "weather", "input_schema": SCHEMA, "defer_loading": True}

others = pytest.mark.parametrize(
    "wire", [wire for wire, _, _ in COLUMNS if wire != "anthropic_messages"]
)


def sent(wire: str, **fields: Any) -> dict[str, Any]:
    """The body of a wire, by the row and model of its column."""
    provider, model = next((row, model) for name, row, model in COLUMNS if name == wire)
    row = known_providers().get(provider, {})
    quirks: Mapping[str, Any] = row.get("quirks", {}) if row.get("wire") == wire else {}
    codec = BUILDERS[wire](quirks, provider)()
    request = to_request({**PLAIN, **fields})
    found: dict[str, Any] = orjson.loads(codec.encode_request(request, model).body)
    return found


@others
def test_fields_of_anthropic_stay_away_from_other_wires(wire: str) -> None:
    fields = {
        "container": "c",
        "context_management": {"edits": []},
        "cache_control": {"type": "ephemeral"},
        "mcp_servers": [],
        "thinking": {"type": "adaptive"},
        "brand_new": 1,
    }
    assert not fields.keys() & sent(wire, **fields).keys()
    assert fields.keys() <= {*sent("anthropic_messages", **fields), "mcp_servers"}


@others
def test_a_tool_with_fields_of_anthropic_is_sent_without_them(wire: str) -> None:
    text = orjson.dumps(sent(wire, tools=[LAZY])).decode()
    assert "weather" in text
    assert "defer_loading" not in text
    assert "input_schema" not in text


@others
def test_a_tool_that_runs_at_anthropic_is_refused(wire: str) -> None:
    with pytest.raises(UnsupportedFeature, match="web_search_20250305"):
        sent(wire, tools=[{"type": "web_search_20250305", "name": "web_search"}])


@others
def test_a_block_that_only_anthropic_has_is_refused(wire: str) -> None:
    block = {"type": "search_result", "source": "s", "title": "t", "content": []}
    with pytest.raises(UnsupportedFeature, match="anthropic_messages content part"):
        sent(wire, messages=[{"role": "user", "content": [block]}])


@others
def test_thinking_is_left_out(wire: str) -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    said = {"type": "text", "text": "Yes."}
    turns = [HELLO, {"role": "assistant", "content": [said, thought, hidden, said]}, HELLO]
    text = orjson.dumps(sent(wire, messages=turns)).decode()
    assert "Yes." in text
    assert "xyz" not in text
    # Claude's signatures hold at Bedrock as well.
    assert ('"s"' in text) == (wire == "bedrock_converse")


def test_claude_gets_thinking_between_as_it_came() -> None:
    blocks = [
        {"type": "thinking", "thinking": "A", "signature": "s1"},
        {"type": "text", "text": "One.", "citations": [{"type": "char_location"}]},
        {"type": "thinking", "thinking": "B", "signature": "s2"},
        {"type": "thinking", "thinking": "of another"},
        {"type": "text", "text": " "},
        {
            "type": "tool_use",
            "id": "call:1",
            "name": "f",
            "input": {},
            "caller": CALLER,
        },
    ]
    result = {"type": "tool_result", "tool_use_id": "call:1", "content": "x"}
    turns = [HELLO, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    body = sent("anthropic_messages", messages=turns)
    turn = body["messages"][1]["content"]
    assert turn[:3] == blocks[:3]
    assert [block["type"] for block in turn[3:]] == ["tool_use"]
    assert turn[3]["id"] == body["messages"][2]["content"][0]["tool_use_id"] != "call:1"
    assert turn[3]["caller"] == CALLER


def test_thinking_is_what_the_client_says_to_claude() -> None:
    assert "thinking" not in sent("anthropic_messages", output_config={"effort": "low"})
    odd = {"type": "between_tools"}
    assert sent("anthropic_messages", thinking=odd)["thinking"] == odd


# --- state that goes back ---------------------------------------------------------------------


def turn_of(*events: StreamEvent) -> dict[str, Any]:
    """The assistant's turn that a client has of an answer, and sends back."""
    whole = [ResponseInfo("r", "m", 0), *events]
    collector = MessageCollector("m", with_thinking=True)
    collector.add(whole)
    message = orjson.loads(collector.to_json(end_of(whole)))
    return {"role": "assistant", "content": message["content"]}


def call_with(extra: bytes = b"") -> list[StreamEvent]:
    return [
        ToolCallStart(0, "call_1", "weather"),
        ToolArgumentsDelta(0, "{}"),
        ToolCallDone(0, "call_1", "weather", "{}", extra_json=extra),
        ChoiceFinished(FinishReason.TOOL_CALLS, "stop"),
    ]


RESULT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}],
}


def test_signatures_of_gemini_go_back() -> None:
    turn = turn_of(*call_with(b'{"extra_content":{"google":{"thought_signature":"sig"}}}'))
    body = sent("gemini", messages=[HELLO, turn, RESULT])
    (part,) = body["contents"][1]["parts"]
    assert part["thoughtSignature"] == "sig"
    text = orjson.dumps(sent("anthropic_messages", messages=[HELLO, turn, RESULT])).decode()
    assert "rtrelay" not in text, "Anthropic would refuse it"


def test_encrypted_reasoning_of_openai_goes_back() -> None:
    entry = {
        "type": "reasoning.encrypted",
        "data": "secret",
        "id": "rs_1",
        "format": "openai-responses-v1",
        "index": 0,
    }
    turn = turn_of(OpaqueDelta("reasoning_details", orjson.dumps([entry])), *call_with())
    items = sent("openai_responses", messages=[HELLO, turn, RESULT])["input"]
    assert [item.get("encrypted_content") for item in items if item.get("type") == "reasoning"] == [
        "secret"
    ]


def test_blocks_of_anthropic_s_server_tools_go_back_in_their_places() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    entries = [{"index": 0, "block": use}, {"index": 1, "block": found}]
    turn = turn_of(
        OpaqueDelta("anthropic_blocks", orjson.dumps(entries)),
        TextDelta("Yes."),
        ChoiceFinished(FinishReason.STOP, "end_turn"),
    )
    body = sent("anthropic_messages", messages=[HELLO, turn, HELLO])
    assert body["messages"][1]["content"] == [use, found, {"type": "text", "text": "Yes."}]
