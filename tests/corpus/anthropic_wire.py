"""What the corpus expects of `anthropic_messages`."""

from __future__ import annotations

import json
from typing import Any

from relay.codecs import anthropic_messages
from relay.codecs.anthropic_message import STOP_REASONS
from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.base import Codec
from relay.content import FinishReason
from relay.errors import UpstreamStatus
from tests.corpus.harness import Ending, Reading, Wire
from tests.fakes.collect import Collected
from tests.fakes.wire_corpus import Case

OPENAI_WORDS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}

READ_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


class AnthropicWire(Wire):
    """`anthropic_messages`."""

    name = "anthropic_messages"
    lane = (anthropic_messages, "MAX_MISSES")

    def takes(self, case: Case) -> bool:
        return case.provider == "anthropic"

    def codec(self, case: Case) -> Codec:
        return AnthropicMessagesCodec()

    def error_words(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {
            "provider_type": wanted["type"],
            "provider_code": wanted.get("error_code", ""),
            "provider_request_id": wanted.get("request_id", ""),
        }

    def ending(self, case: Case, prefix: bytes) -> Ending:
        kinds = _kinds(prefix)
        if "message_stop" in kinds:
            return Ending.CLEAN
        return Ending.FAILED if "error" in kinds else Ending.CUT

    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        result = reading.result
        assert reading.is_finished == (case.is_stream and result.error is None)
        if isinstance(result.failure, UpstreamStatus):
            code = expected["error"].get("error_code", "")
            assert result.failure.provider_code == code
        if "text" not in expected:
            assert not result.choices
            return
        choice = result.choices.get(0)
        assert (choice.text if choice else "") == expected["text"]
        assert (choice.reasoning if choice else "") == (expected.get("reasoning") or "")
        calls = choice.tool_calls if choice else []
        # In a document arguments are an object, whose text we write without blanks, the corpus
        # with.
        text_of = str if case.is_stream else json.loads
        assert [(call.call_id, call.name, text_of(call.arguments)) for call in calls] == [
            (call["id"], call["name"], text_of(call["arguments"]))
            for call in expected["tool_calls"]
        ]
        _check_finish(result, expected)
        _check_usage(result, expected)
        _check_blocks(result, expected)


def _kinds(body: bytes) -> set[str]:
    """Types of the events in a stream."""
    lines = [line[6:].strip() for line in body.split(b"\n") if line.startswith(b"data: ")]
    return {json.loads(line)["type"] for line in lines if line.startswith(b"{")}


def _check_finish(result: Collected, expected: dict[str, Any]) -> None:
    raw = expected["finish_reason"]
    if raw is None:
        assert all(choice.raw_finish is None for choice in result.choices.values())
        return
    choice = result.choices[0]
    assert choice.raw_finish == raw
    assert choice.finish is not None
    assert choice.finish is STOP_REASONS[raw]
    if "finish_reason_openai" in expected:
        assert OPENAI_WORDS[choice.finish] == expected["finish_reason_openai"]
    if raw != "max_tokens":
        assert not any(call.is_partial for call in choice.tool_calls)


def _check_usage(result: Collected, expected: dict[str, Any]) -> None:
    if expected.get("usage") is None:
        return
    usage = result.usage
    assert usage is not None
    assert json.loads(usage.raw_json) == expected["usage"]
    counts = expected.get("openai_usage")
    if counts is not None:
        assert usage.prompt_tokens == counts["prompt_tokens"]
        assert usage.completion_tokens == counts["completion_tokens"]
        assert usage.total_tokens == counts["total_tokens"]
        assert usage.cached_tokens == counts["cached_tokens"]
    assert not usage.is_estimated


def _check_blocks(result: Collected, expected: dict[str, Any]) -> None:
    """Blocks that are not read come out whole, and in their order."""
    wanted = expected.get("block_types")
    if wanted is None:
        return
    opaque = result.choices[0].opaque if result.choices else []
    unread = [item for key, value in opaque if key == "anthropic_blocks" for item in value]
    assert [item["block"]["type"] for item in unread] == [
        kind for kind in wanted if kind not in READ_BLOCKS
    ]
    details = [item for key, value in opaque if key == "reasoning_details" for item in value]
    encrypted = [item for item in details if item["type"] == "reasoning.encrypted"]
    assert len(encrypted) == wanted.count("redacted_thinking")
    assert all(item["data"] for item in encrypted)
    indexes = [item["index"] for item in (*unread, *details)]
    assert len(set(indexes)) == len(indexes)
    assert all(wanted[item["index"]] == item["block"]["type"] for item in unread)
