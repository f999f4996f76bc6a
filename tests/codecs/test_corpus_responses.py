"""Every recorded exchange of the Responses API gives what the corpus expects.

Bodies are fed whole, byte by byte and cut; streams are also broken off at every event border.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import orjson
import pytest

from relay.codecs import openai_responses
from relay.codecs.error_text import public_text
from relay.codecs.openai_responses import ResponsesCodec
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.config import known_providers
from relay.content import FinishReason, GenerateRequest, Message, Role, TextPart, ToolCall
from relay.errors import Reason, StreamTruncated, UpstreamStatus
from tests.fakes.collect import Collected, collect, pieces_of, run
from tests.fakes.wire_corpus import ABSENT, Case, all_cases, borders

pytestmark = pytest.mark.corpus

PROVIDERS = {"openai-responses": "openai", "xai-responses": "xai", "deepseek-responses": "deepseek"}

RETRYABLE = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)

REASONS = {
    "deepseek-responses/error--deepseek-v4-flash--01": Reason.UPSTREAM_REJECTED,
    "openai-responses/error--gpt-4.1-nano--01": Reason.UPSTREAM_MISCONFIGURED,
    "openai-responses/error--gpt-4-does-not-exist-12345--01": Reason.UPSTREAM_MISCONFIGURED,
    "openai-responses/error--gpt-4.1--01": Reason.UPSTREAM_MISCONFIGURED,
    "openai-responses/error--gpt-nonexistent-model-for-error-ed--01": (
        Reason.UPSTREAM_MODEL_NOT_FOUND
    ),
    "openai-responses/error--invalid-model--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "openai-responses/error--gpt-5.2-proo--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "openai-responses/error--gpt-4o-mini-nonexistent-rig-test--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "openai-responses/error--this-model-does-not-exist--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "openai-responses/error--gpt-5-mini--01": Reason.UPSTREAM_REJECTED,
    "openai-responses/error--gpt-5-mini--03": Reason.UPSTREAM_REJECTED,
    "openai-responses/error--gpt-5--01": Reason.UPSTREAM_REJECTED,
    "openai-responses/error--gpt-5-nano--01": Reason.UPSTREAM_REJECTED,
    "xai-responses/error--grok-nonexistent-model-for-identit--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "openai-responses/stream-error--gpt-5-nano-2025-08-07--p01": Reason.UPSTREAM_QUOTA_EXHAUSTED,
    # Not rate limited, for all that its code says: the one request is larger than the limit.
    "openai-responses/stream-error--gpt-4o-2024-08-06--p01": Reason.UPSTREAM_REJECTED,
}
"""The class of every error of the corpus."""

PLAIN_REASONING = {
    # The corpus reads summaries only; the reasoning of these is plain text in the item's content,
    # which their streamed twins bring as reasoning_text and the corpus reads there.
    "deepseek-responses/nonstream-reasoning--deepseek-v4-flash--01",
    "deepseek-responses/nonstream-server-tools--deepseek-v4-flash--01",
    "deepseek-responses/nonstream-tool--deepseek-v4-flash--01",
}
"""Where we differ from the corpus on purpose."""


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for case in all_cases() if case.provider in PROVIDERS)


def parameters(*, streams_only: bool = False, answers_only: bool = False) -> list[Any]:
    found = [
        case
        for case in cases()
        if (case.is_stream or not streams_only) and (not answers_only or case.error is None)
    ]
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")]
    return [pytest.param(case, id=case.name) for case in found]


def quirks_of(case: Case) -> ResponsesQuirks:
    row = known_providers()[PROVIDERS[case.provider]]["other_wires"]["openai_responses"]
    return ResponsesQuirks.from_mapping(row["quirks"], case.provider)


def decode(case: Case, pieces: list[bytes]) -> Collected:
    codec = ResponsesCodec(quirks_of(case))
    result = collect(run(codec, pieces, status=case.status, headers=_headers(case.name)))
    assert codec.mended_events == 0
    assert codec.is_finished == (result.error is None and case.is_stream)
    return result


@cache
def _headers(name: str) -> tuple[tuple[str, str], ...]:
    return tuple(next(case for case in cases() if case.name == name).headers)


@cache
def _documents(name: str) -> tuple[dict[str, Any], ...]:
    """Every document of a body, found without our own parsers."""
    case = next(case for case in cases() if case.name == name)
    if not case.is_stream:
        return (orjson.loads(case.body),)
    found = re.findall(rb"^data: ?(.*)$", case.body, re.M)
    return tuple(orjson.loads(data) for data in found)


def final_output(case: Case) -> list[dict[str, Any]]:
    """The items of the response, as its last document repeats them."""
    last = _documents(case.name)[-1]
    response = last.get("response", last)
    output: list[dict[str, Any]] = response["output"]
    return output


# --- what is said -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", parameters(answers_only=True))
def test_answer_is_what_is_expected(case: Case) -> None:
    result = decode(case, [case.body])
    expected = case.expected
    assert result.error is None
    choice = result.choices[0]
    assert choice.text == expected["text"]
    assert choice.refusal == (expected.get("refusal") or "")
    if case.name in PLAIN_REASONING:
        assert expected["reasoning"] is None
        parts = [item["content"] for item in final_output(case) if item["type"] == "reasoning"]
        assert choice.reasoning == "\n\n".join(part["text"] for one in parts for part in one)
    else:
        assert choice.reasoning == (expected["reasoning"] or "")
    assert [(call.call_id, call.name, call.arguments) for call in choice.tool_calls] == [
        (call["id"], call["name"], call["arguments"]) for call in expected["tool_calls"]
    ]
    assert all(call.is_done and not call.is_partial for call in choice.tool_calls)
    _check_finish(choice.finish, choice.raw_finish, expected)
    _check_usage(result, expected)
    last = _documents(case.name)[-1]
    response = last.get("response", last)
    assert result.info is not None
    assert (result.info.response_id, result.info.model) == (response["id"], response["model"])
    assert result.info.created_s == int(response["created_at"])


def _check_finish(finish: Any, raw: str | None, expected: dict[str, Any]) -> None:
    if expected["status"] == "incomplete":
        reason = expected["incomplete_details"]["reason"]
        assert raw == reason
        assert finish is {"max_output_tokens": FinishReason.LENGTH}[reason]
    else:
        assert raw == expected["status"] == "completed"
        has_calls = bool(expected["tool_calls"])
        assert finish is (FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP)


def _check_usage(result: Collected, expected: dict[str, Any]) -> None:
    raw, usage = expected["usage"], result.usage
    assert usage is not None
    assert orjson.loads(usage.raw_json) == raw
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (
        raw["input_tokens"],
        raw["output_tokens"],
        raw["total_tokens"],
    )
    assert usage.cached_tokens == raw["input_tokens_details"]["cached_tokens"]
    assert usage.cache_write_tokens == raw["input_tokens_details"].get("cache_write_tokens")
    assert usage.reasoning_tokens == raw["output_tokens_details"]["reasoning_tokens"]
    assert not usage.is_estimated


@pytest.mark.parametrize("case", parameters(answers_only=True))
def test_state_goes_back_as_it_came(case: Case) -> None:
    """The turn sent back holds the items of the response in their order, but what we read of them
    (messages, calls) is written anew, and reasoning without a secret or a text is nothing."""
    result = decode(case, [case.body])
    choice = result.choices[0]
    extra: dict[str, list[Any]] = {}
    for key, value in choice.opaque:
        if isinstance(value, list):
            extra.setdefault(key, []).extend(value)
    parts = (TextPart(choice.text),) if choice.text else ()
    calls = tuple(ToolCall(call.call_id, call.name, call.arguments) for call in choice.tool_calls)
    turn = Message(Role.ASSISTANT, parts, tool_calls=calls, extra=extra)
    encoded = ResponsesCodec(quirks_of(case)).encode_request(GenerateRequest("m", (turn,)), "m")
    sent = orjson.loads(encoded.body)["input"]

    output = final_output(case)
    wanted = [item for item in output if item["type"] not in ("message", "reasoning")]
    got = [item for item in sent if "role" not in item and item["type"] != "reasoning"]
    assert [_shown(item) for item in got] == [_shown(item) for item in wanted]
    kept = [item for item in output if item["type"] == "reasoning" and _can_go_back(item)]
    while output and output[-1]["type"] == "reasoning":
        kept = [item for item in kept if item is not output[-1]]
        output = output[:-1]
    assert [_shown(item) for item in sent if item.get("type") == "reasoning"] == [
        _shown(item) for item in kept
    ]
    assert not sent or sent[-1].get("type") != "reasoning"
    if sum(item["type"] == "message" for item in output) > 1:
        return  # they have become one, in the place of the last
    for item in kept:
        # Each still stands before what it led to.
        follower = output[output.index(item) + 1]
        place = [_shown(one) for one in sent].index(_shown(item))
        assert sent[place + 1].get("type", "message") == follower["type"]


def _can_go_back(item: dict[str, Any]) -> bool:
    return bool(item.get("encrypted_content") or item.get("content"))


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what is not sent back."""
    if item.get("type") == "function_call":
        return {key: item[key] for key in ("call_id", "name", "arguments")}
    if item.get("type") == "reasoning":
        return {
            key: item[key]
            for key in ("id", "summary", "content", "encrypted_content")
            if item.get(key) or key == "summary"
        }
    return item


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REASONS)
def test_error(name: str) -> None:
    if not cases():
        pytest.skip(ABSENT)
    case = next(case for case in cases() if case.name == name)
    wanted = case.error
    assert wanted is not None
    failure = decode(case, [case.body]).failure
    assert isinstance(failure, UpstreamStatus)
    assert failure.reason is REASONS[name]
    assert failure.http_status == case.status
    if "type" in wanted:
        assert failure.provider_type == wanted["type"]
    assert failure.provider_code == (wanted["code"] or "")
    assert failure.provider_param == (wanted.get("param") or "")
    assert failure.public_message == public_text(wanted["message"])
    if wanted.get("retryable") is not None:
        assert (failure.reason in RETRYABLE) == wanted["retryable"]
    request_id = dict(case.headers).get("x-request-id") or dict(case.headers).get("x-ds-trace-id")
    assert failure.metadata.get("provider_request_id") == request_id
    assert not re.search(r"sk-[A-Za-z0-9]|org-[A-Za-z0-9]{8}", failure.public_message)


def test_no_error_is_left_out() -> None:
    if not cases():
        pytest.skip(ABSENT)
    assert set(REASONS) == {case.name for case in cases() if case.error is not None}


# --- cuts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", parameters())
def test_case_is_the_same_however_it_is_cut(case: Case) -> None:
    body = case.body
    whole = decode(case, [body])
    assert decode(case, pieces_of(body, 1)) == whole, "byte by byte"
    if len(body) <= 4096:
        offsets = range(1, len(body))
    else:
        assert decode(case, pieces_of(body, 7)) == whole, "seven bytes at a time"
        offsets = case.meta.get("split_inside_multibyte_at", ())
    for at in offsets:
        assert decode(case, [body[:at], body[at:]]) == whole, f"cut at {at}"


@pytest.mark.parametrize("case", parameters(streams_only=True))
def test_stream_cut_at_an_event_border_is_no_clean_end(case: Case) -> None:
    body = case.body
    for border in borders(body):
        result = collect(run(ResponsesCodec(quirks_of(case)), [body[:border]]))
        assert result.failure is not None, f"cut at {border}"
        failed_before = b"event: error" in body[:border]
        assert isinstance(result.failure, StreamTruncated) != failed_before


@pytest.mark.parametrize("case", parameters(streams_only=True))
def test_lane_for_text_loses_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lane = decode(case, [case.body])
    monkeypatch.setattr(openai_responses, "MAX_MISSES", 0)
    assert decode(case, [case.body]) == with_lane
