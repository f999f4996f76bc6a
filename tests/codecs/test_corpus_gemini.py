"""Every recorded or composed exchange of the Gemini wire gives what the corpus expects.

The corpus is read in place (`RELAY_WIRE_CORPUS`, default beside the repository) and nothing of
it is copied here. Bodies are fed whole, byte by byte and cut; streams are also broken off at
every event border. What a prefix or a call in pieces says is found here with `json` and `re`
alone.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import orjson
import pytest

from relay.codecs import gemini_hot_chunk
from relay.codecs.error_text import public_text
from relay.codecs.gemini import GeminiCodec
from relay.content import FinishReason, GenerateRequest, ProviderFailed, Sampling, StreamEvent
from relay.errors import Reason, StreamTruncated, UpstreamStatus
from tests.fakes.collect import Collected, CollectedCall, collect, pieces_of, run
from tests.fakes.wire_corpus import ABSENT, Case, all_cases, borders

pytestmark = pytest.mark.corpus

CASES = [case for case in all_cases() if case.provider in ("gemini", "gemini-vertex")]

FINISHES = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}

UNTOLD = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "MODEL_ARMOR": "content_filter",
}
"""Where the corpus gives none: finish reasons by number, calls in pieces, blocked prompts."""

RETRYABLE = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)

FAILED_BY_FINISH = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})
"""A mere finish reason there, a failure to us (one retry is reasonable, as the page says). The
call of the one case that has one is not handed on: nobody declared such a function."""

FINISH_NAMES = {1: "STOP", 2: "MAX_TOKENS"}
"""Numbers where a client asked for them; we give names."""


def parameters(*, only_streams: bool = False) -> list[Any]:
    if not CASES:
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")]
    return [
        pytest.param(case, id=case.name)
        for case in CASES
        if not only_streams or case.kind.startswith("stream")
    ]


@cache
def shape_of(name: str) -> tuple[int, list[tuple[str, str]]]:
    """How many candidates the answer has, and its headers."""
    case = next(case for case in CASES if case.name == name)
    indices = re.findall(rb'"index":\s*(\d+)', case.body) if "n-choices" in case.kind else []
    headers = [(key.lower(), value) for key, value in case.meta["response"]["headers"]]
    return max((int(index) + 1 for index in indices), default=1), headers


def events_of(case: Case, pieces: list[bytes]) -> list[StreamEvent]:
    asked, headers = shape_of(case.name)
    codec = GeminiCodec()
    if asked > 1:
        codec.encode_request(GenerateRequest("m", (), sampling=Sampling(choices=asked)), "m")
    events = run(codec, pieces, status=case.status, headers=headers)
    assert codec.mended_events == 0
    return events


def decode(case: Case, pieces: list[bytes]) -> Collected:
    return collect(events_of(case, pieces))


# --- what comes out -------------------------------------------------------------------------


@pytest.mark.parametrize("case", parameters())
def test_case_gives_what_is_expected(case: Case) -> None:
    result = decode(case, [case.body])
    expected = case.expected
    if case.status < 400:
        check_answer(result, case)
        check_usage(result, expected)
    check_failure(result, case)


def check_answer(result: Collected, case: Case) -> None:
    expected = case.expected
    choices = [result.choices[at] for at in sorted(result.choices)]
    assert "".join(choice.text for choice in choices) == expected.get("text", "")
    if "reasoning" in expected:
        assert "".join(choice.reasoning for choice in choices) == (expected["reasoning"] or "")
    raw = expected["finish_reason"]
    raw = FINISH_NAMES.get(raw, raw)
    wanted_calls = expected.get("tool_calls") if raw not in FAILED_BY_FINISH else []
    if wanted_calls is not None:
        check_calls(choices[0].tool_calls, wanted_calls)
    if "model" in expected:
        assert result.info is not None
        assert result.info.model == expected["model"]
    if (feedback := expected.get("prompt_feedback")) is not None:
        raw = feedback["blockReason"]
    for choice in choices:
        assert choice.raw_finish == raw
        if raw is not None and raw not in FAILED_BY_FINISH:
            mapped = expected.get("finish_reason_openai") or UNTOLD[raw]
            if choice.tool_calls and mapped == "stop":
                mapped = "tool_calls"
            assert choice.finish == FINISHES[mapped]


def check_calls(calls: list[CollectedCall], wanted: list[dict[str, Any]]) -> None:
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (call["name"], call["arguments_json"]) for call in wanted
    ]
    for call, one in zip(calls, wanted, strict=True):
        assert call.is_done
        assert not call.is_partial
        if one["id"]:
            assert call.call_id == one["id"]
    assert len({call.call_id for call in calls}) == len(calls)


def check_usage(result: Collected, expected: dict[str, Any]) -> None:
    usage, raw = result.usage, expected.get("usage")
    if raw is None or not any(name.endswith("TokenCount") for name in raw):
        assert usage is None or raw is None
        return
    assert usage is not None
    assert json.loads(usage.raw_json) == raw
    if (counts := expected.get("openai_usage")) is not None:
        assert {name: getattr(usage, name) for name in counts} == counts


def check_failure(result: Collected, case: Case) -> None:
    expected, failure = case.expected, result.failure
    if case.status < 400 and "error" not in expected:
        raw = expected["finish_reason"]
        if raw in FAILED_BY_FINISH:
            assert isinstance(failure, UpstreamStatus)
            assert (failure.reason, failure.provider_code) == (Reason.UPSTREAM_FAILED, raw)
        elif raw is None and "prompt_feedback" not in expected:
            assert type(failure) is StreamTruncated
        else:
            assert failure is None
        return
    wanted = expected["error"]
    assert isinstance(failure, UpstreamStatus)
    assert failure.http_status == case.status
    assert failure.provider_type == wanted.get("status_name", wanted["status"])
    assert failure.provider_code in (str(wanted["code"]), "API_KEY_INVALID")
    if "message" in wanted:
        assert failure.public_message == public_text(wanted["message"])
    if "retryable" in wanted:
        assert (failure.reason in RETRYABLE) == wanted["retryable"]
    if "retry_after_s" in wanted:
        # The message has it with a fraction, which the detail cuts off: 23.47 s and 23 s.
        assert failure.retry_after_s is not None
        assert wanted["retry_after_s"] <= failure.retry_after_s < wanted["retry_after_s"] + 1
    assert "fake-project" not in failure.public_message


REASONS = {
    "error--gemini-2.5-flash--02": Reason.UPSTREAM_MISCONFIGURED,
    "error--gemini-2.5-flash--03": Reason.UPSTREAM_MISCONFIGURED,
    "error-403-permission--composed": Reason.UPSTREAM_MISCONFIGURED,  # a leaked key
    "error--gemini-nonexistent-rig-test--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "error--gemini-does-not-exist--01": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "error-400-failed-precondition--composed": Reason.UPSTREAM_PERMISSION_DENIED,
    "error--gemini-2.5-flash--01": Reason.UPSTREAM_REJECTED,
    "error--gemini-3-flash-preview--01": Reason.UPSTREAM_REJECTED,
    "error-429-per-minute--composed": Reason.UPSTREAM_RATE_LIMITED,
    "error-429-array-body--composed": Reason.UPSTREAM_RATE_LIMITED,
    "error-429-per-day--composed": Reason.UPSTREAM_QUOTA_EXHAUSTED,
    "error-500-internal--composed": Reason.UPSTREAM_FAILED,
    "error-503-overloaded--composed": Reason.UPSTREAM_OVERLOADED,
    "error-504-deadline--composed": Reason.FIRST_TOKEN_TIMEOUT,
    "stream-error-mid--composed": Reason.UPSTREAM_OVERLOADED,
}


@pytest.mark.parametrize("case", parameters())
def test_class_of_errors(case: Case) -> None:
    name = case.name.partition("/")[2]
    if name in REASONS:
        result = decode(case, [case.body])
        assert result.failure is not None
        assert result.failure.reason is REASONS[name]


# --- however it is cut ----------------------------------------------------------------------


@pytest.mark.parametrize("case", parameters())
def test_case_is_the_same_however_it_is_cut(case: Case) -> None:
    body = case.body

    def once(pieces: list[bytes]) -> list[object]:
        # Events and not what they add up to: a cut moves no border of theirs on this wire.
        return [
            (type(event.error), str(event.error)) if isinstance(event, ProviderFailed) else event
            for event in events_of(case, pieces)
        ]

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    if len(body) <= 4096:
        offsets = range(1, len(body))
    else:
        assert once(pieces_of(body, 7)) == whole, "seven bytes at a time"
        offsets = case.meta.get("split_inside_multibyte_at", ())
    for at in offsets:
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"


@pytest.mark.parametrize("case", parameters(only_streams=True))
def test_stream_cut_at_a_border_fails_without_its_end(case: Case) -> None:
    body = case.body
    is_array = body.lstrip().startswith(b"[")
    found = [match.end() for match in re.finditer(rb"\n,", body)] if is_array else borders(body)
    for border in [0, *found]:
        result = decode(case, [body[:border]])
        is_clean = not is_array and is_ended(body[:border])
        assert (result.error is None) == is_clean, f"cut at {border}"


@pytest.mark.parametrize("case", parameters())
def test_json_cut_anywhere_is_a_failure(case: Case) -> None:
    body = case.body.rstrip()
    if case.status >= 400 or not body.startswith((b"{", b"[")):
        return
    for at in range(0, len(body), 1 if len(body) < 500 else 17):
        assert decode(case, [body[:at]]).error is not None, f"cut at {at}"


@pytest.mark.parametrize("case", parameters(only_streams=True))
def test_lane_for_text_loses_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lane = comparable(decode(case, [case.body]))
    monkeypatch.setattr(gemini_hot_chunk, "MAX_MISSES", 0)
    assert comparable(decode(case, [case.body])) == with_lane


def comparable(result: Collected) -> tuple[Any, ...]:
    usage = result.usage
    counts = usage and (usage.prompt_tokens, usage.completion_tokens, orjson.loads(usage.raw_json))
    return result.info, result.choices, counts, result.error


def is_ended(prefix: bytes) -> bool:
    """Whether every candidate has finished, or the prompt was blocked, and nothing failed."""
    seen: set[int] = set()
    finished: set[int] = set()
    for event in re.split(r"\r\n\r\n|\n\n", prefix.decode("utf-8", "replace")):
        if not event.startswith("data:"):
            continue
        chunk = json.loads(event[5:])
        if "error" in chunk:
            return False
        if (chunk.get("promptFeedback") or {}).get("blockReason"):
            return True
        for candidate in chunk.get("candidates", ()):
            seen.add(candidate.get("index", 0))
            if candidate.get("finishReason") in FAILED_BY_FINISH:
                return False
            if candidate.get("finishReason"):
                finished.add(candidate.get("index", 0))
    return bool(seen) and seen == finished


# --- state that must go back ----------------------------------------------------------------


@pytest.mark.parametrize("case", parameters())
def test_signatures_and_parts_survive_a_round_trip(case: Case) -> None:
    """Every signature of the body comes out with its call or its text, and no part is lost."""
    if case.status >= 400 or b"thoughtSignature" not in case.body:
        return
    choice = decode(case, [case.body]).choices[0]
    if choice.raw_finish in FAILED_BY_FINISH:
        return
    given = [(call.extra or {}).get("extra_content") for call in choice.tool_calls]
    kept = {content["google"]["thought_signature"] for content in given if content}
    for key, value in choice.opaque:
        if key == "extra_content":
            kept.add(value["google"]["thought_signature"])
        elif key == "gemini_parts":
            kept.update(entry["part"].get("thoughtSignature") for entry in value)
    told = {json.loads(one) for one in re.findall(rb'"thoughtSignature":\s*("[^"]*")', case.body)}
    assert kept - {None} == told


@pytest.mark.parametrize("case", parameters())
def test_arguments_in_pieces(case: Case) -> None:
    """Calls in pieces against a plain reading: each text at its path, joined in order."""
    if "partial-args" not in case.kind:
        return
    wanted: list[tuple[str, dict[str, str]]] = []
    for event in re.split(r"\r\n\r\n|\n\n", case.body.decode()):
        chunk = json.loads(event[5:]) if event.startswith("data:") else {}
        for part in chunk["candidates"][0]["content"].get("parts", ()) if chunk else ():
            call = part.get("functionCall", {})
            if call.get("name"):
                wanted.append((call["name"], {}))
            for piece in call.get("partialArgs", ()):
                texts = wanted[-1][1]
                texts[piece["jsonPath"]] = texts.get(piece["jsonPath"], "") + piece["stringValue"]
    calls = decode(case, [case.body]).choices[0].tool_calls
    assert [(call.name, flattened(json.loads(call.arguments))) for call in calls] == wanted
    assert sum(len(texts) for _, texts in wanted) >= 2


def flattened(value: Any, path: str = "$") -> dict[str, str]:
    if isinstance(value, dict):
        inner = [(f"{path}.{name}", item) for name, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    else:
        return {path: value}
    return {place: text for at, item in inner for place, text in flattened(item, at).items()}
