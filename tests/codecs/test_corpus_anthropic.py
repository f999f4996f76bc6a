"""Every recorded or composed exchange of the Messages API gives what the corpus expects.

Bodies are fed whole, byte by byte and cut; streams are also broken off at every event border. What
a prefix of a stream says is found here with `json` alone.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.codecs import anthropic_messages
from relay.codecs.anthropic_message import STOP_REASONS
from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.error_text import public_text
from relay.content import FinishReason, ProviderFailed
from relay.errors import Reason, StreamTruncated, UpstreamStatus
from tests.fakes.collect import Collected, collect, pieces_of, run
from tests.fakes.wire_corpus import ABSENT, Case, all_cases, borders

pytestmark = pytest.mark.corpus

CASES = [case for case in all_cases() if case.provider == "anthropic"]

RETRYABLE = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)

OPENAI_WORDS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}

READ_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


def parameters(*, streams: bool = False) -> list[Any]:
    chosen = [case for case in CASES if case.is_stream or not streams]
    if not chosen:
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")]
    return [pytest.param(case, id=case.name) for case in chosen]


def decode(case: Case, pieces: list[bytes], headers: list[tuple[str, str]]) -> Collected:
    codec = AnthropicMessagesCodec()
    result = collect(run(codec, pieces, status=case.status, headers=headers))
    assert codec.is_finished == (case.is_stream and result.error is None)
    return result


@pytest.mark.parametrize("case", parameters())
def test_case_gives_what_is_expected(case: Case) -> None:
    result = decode(case, [case.body], case.headers)
    expected = case.expected
    if expected.get("error") is not None:
        check_error(result, case)
    else:
        assert result.error is None
    if "text" not in expected:
        assert not result.choices
        return
    choice = result.choices.get(0)
    assert (choice.text if choice else "") == expected["text"]
    assert (choice.reasoning if choice else "") == (expected.get("reasoning") or "")
    calls = choice.tool_calls if choice else []
    # In a document arguments are an object, whose text we write without blanks, the corpus with.
    text_of = str if case.is_stream else json.loads
    assert [(call.call_id, call.name, text_of(call.arguments)) for call in calls] == [
        (call["id"], call["name"], text_of(call["arguments"])) for call in expected["tool_calls"]
    ]
    check_finish(result, expected)
    check_usage(result, expected)
    check_blocks(result, expected)


@pytest.mark.parametrize("case", parameters())
def test_case_is_the_same_however_it_is_cut(case: Case) -> None:
    body, headers = case.body, case.headers
    whole = decode(case, [body], headers)
    assert decode(case, pieces_of(body, 1), headers) == whole, "byte by byte"
    if len(body) <= 4096:
        offsets = range(1, len(body))
    else:
        assert decode(case, pieces_of(body, 7), headers) == whole, "seven bytes at a time"
        offsets = case.meta.get("split_inside_multibyte_at", ())
    for at in offsets:
        assert decode(case, [body[:at], body[at:]], headers) == whole, f"cut at {at}"


@pytest.mark.parametrize("case", parameters(streams=True))
def test_stream_cut_at_an_event_border_fails_without_its_end(case: Case) -> None:
    body = case.body
    for border in borders(body, limit=100):
        prefix = body[:border]
        result = collect(run(AnthropicMessagesCodec(), [prefix]))
        if "message_stop" in kinds(prefix):
            assert result.error is None
        elif "error" in kinds(prefix):
            assert isinstance(result.failure, UpstreamStatus)
        else:
            assert isinstance(result.failure, StreamTruncated), f"cut at {border}"


@pytest.mark.parametrize("case", parameters(streams=True))
def test_lane_for_text_loses_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def events() -> list[object]:
        found = run(AnthropicMessagesCodec(), [case.body])
        return [event for event in found if not isinstance(event, ProviderFailed)]

    with_lane = events()
    monkeypatch.setattr(anthropic_messages, "MAX_MISSES", 0)
    assert events() == with_lane


def kinds(body: bytes) -> set[str]:
    """Types of the events in a stream."""
    lines = [line[6:].strip() for line in body.split(b"\n") if line.startswith(b"data: ")]
    return {json.loads(line)["type"] for line in lines if line.startswith(b"{")}


def check_finish(result: Collected, expected: dict[str, Any]) -> None:
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


def check_usage(result: Collected, expected: dict[str, Any]) -> None:
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


def check_blocks(result: Collected, expected: dict[str, Any]) -> None:
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


def check_error(result: Collected, case: Case) -> None:
    wanted = case.expected["error"]
    failure = result.failure
    assert isinstance(failure, UpstreamStatus)
    assert failure.http_status == case.status
    assert failure.provider_type == wanted["type"]
    assert failure.provider_code == wanted.get("error_code", "")
    if "message" in wanted:
        assert failure.public_message == public_text(wanted["message"])
    if wanted.get("request_id"):
        assert failure.metadata["provider_request_id"] == wanted["request_id"]
    if wanted["retryable"] is not False:
        assert failure.reason in RETRYABLE
    else:
        assert failure.reason not in RETRYABLE
        assert failure.retry_after_s is None
    if "retry_after_s" in wanted:
        assert failure.retry_after_s == wanted["retry_after_s"]
