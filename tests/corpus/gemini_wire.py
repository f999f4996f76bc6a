"""What the corpus expects of `gemini`, and where we differ. What a prefix of a stream says is found
with `json` and `re` alone."""

from __future__ import annotations

import json
import re
from typing import Any

from relay.codecs import gemini_hot_chunk
from relay.codecs.base import Codec
from relay.codecs.gemini import GeminiCodec
from relay.content import FinishReason, GenerateRequest, Sampling
from relay.errors import Reason
from tests.corpus.harness import Difference, Ending, Reading, Wire
from tests.fakes.collect import Collected, CollectedCall
from tests.fakes.wire_corpus import Case, borders

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

FINISH_BY_NAME = "the client of that exchange asked for finish reasons by number; we give names"
BROKEN_CALL = (
    "the model called a tool that cannot be called: a failure to us (one retry is reasonable, as "
    "gemini.md says), a mere finish reason there; the call is not handed on"
)

DIFFERENCES = {
    "gemini-vertex/nonstream-after-tool-result--gemini-2.5-pro--01": Difference(
        FINISH_BY_NAME, {"finish_reason": "STOP"}
    ),
    "gemini-vertex/nonstream-parallel-tools--gemini-2.5-pro--01": Difference(
        FINISH_BY_NAME, {"finish_reason": "STOP"}
    ),
    "gemini-vertex/nonstream-text--gemini-2.5-pro--02": Difference(
        FINISH_BY_NAME, {"finish_reason": "MAX_TOKENS"}
    ),
    "gemini-vertex/nonstream-tool--gemini-3-flash-preview--03": Difference(
        BROKEN_CALL, {"failure": Reason.UPSTREAM_FAILED, "tool_calls": []}
    ),
    "gemini/stream-malformed-function-call--composed": Difference(
        BROKEN_CALL, {"failure": Reason.UPSTREAM_FAILED}
    ),
    "gemini/stream-finish-missing--composed": Difference(
        "an answer without a finish reason was cut: a failure to us, an empty reason there",
        {"failure": Reason.UPSTREAM_TRUNCATED},
    ),
}

BROKEN_CALLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})


class GeminiWire(Wire):
    """`gemini`."""

    name = "gemini"
    lane = (gemini_hot_chunk, "MAX_MISSES")
    keeps_events = True
    differences = DIFFERENCES

    def takes(self, case: Case) -> bool:
        return case.provider in ("gemini", "gemini-vertex")

    def codec(self, case: Case) -> Codec:
        codec = GeminiCodec()
        indices = re.findall(rb'"index":\s*(\d+)', case.body) if "n-choices" in case.kind else []
        asked = max((int(index) + 1 for index in indices), default=1)
        if asked > 1:
            codec.encode_request(GenerateRequest("m", (), sampling=Sampling(choices=asked)), "m")
        return codec

    def error_words(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {"provider_type": wanted.get("status_name", wanted["status"])}

    def borders(self, case: Case) -> list[int]:
        body = case.body
        if not case.kind.startswith("stream"):
            return []
        if body.lstrip().startswith(b"["):
            return [0, *(match.end() for match in re.finditer(rb"\n,", body))]
        return borders(body)

    def ending(self, case: Case, prefix: bytes) -> Ending:
        return Ending.CUT if prefix.lstrip().startswith(b"[") else _ending(prefix)

    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        assert reading.mended_events == 0
        if case.status >= 400:
            return
        result = reading.result
        _check_answer(result, expected)
        _check_usage(result, expected)


def _ending(prefix: bytes) -> Ending:
    seen: set[int] = set()
    finished: set[int] = set()
    for event in re.split(r"\r\n\r\n|\n\n", prefix.decode("utf-8", "replace")):
        if not event.startswith("data:"):
            continue
        chunk = json.loads(event[5:])
        if "error" in chunk:
            return Ending.FAILED
        if (chunk.get("promptFeedback") or {}).get("blockReason"):
            return Ending.CLEAN
        for candidate in chunk.get("candidates", ()):
            seen.add(candidate.get("index", 0))
            if candidate.get("finishReason") in BROKEN_CALLS:
                return Ending.FAILED
            if candidate.get("finishReason"):
                finished.add(candidate.get("index", 0))
    return Ending.CLEAN if seen and seen == finished else Ending.CUT


def _check_answer(result: Collected, expected: dict[str, Any]) -> None:
    choices = [result.choices[at] for at in sorted(result.choices)]
    assert "".join(choice.text for choice in choices) == expected.get("text", "")
    if "reasoning" in expected:
        assert "".join(choice.reasoning for choice in choices) == (expected["reasoning"] or "")
    raw = expected["finish_reason"]
    if expected.get("tool_calls") is not None:
        _check_calls(choices[0].tool_calls, expected["tool_calls"])
    if "model" in expected:
        assert result.info is not None
        assert result.info.model == expected["model"]
    if (feedback := expected.get("prompt_feedback")) is not None:
        raw = feedback["blockReason"]
    for choice in choices:
        assert choice.raw_finish == raw
        if raw is not None and "failure" not in expected:
            mapped = expected.get("finish_reason_openai") or UNTOLD[raw]
            if choice.tool_calls and mapped == "stop":
                mapped = "tool_calls"
            assert choice.finish == FINISHES[mapped]


def _check_calls(calls: list[CollectedCall], wanted: list[dict[str, Any]]) -> None:
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (call["name"], call["arguments_json"]) for call in wanted
    ]
    for call, one in zip(calls, wanted, strict=True):
        assert call.is_done
        assert not call.is_partial
        if one["id"]:
            assert call.call_id == one["id"]
    assert len({call.call_id for call in calls}) == len(calls)


def _check_usage(result: Collected, expected: dict[str, Any]) -> None:
    usage, raw = result.usage, expected.get("usage")
    if raw is None or not any(name.endswith("TokenCount") for name in raw):
        assert usage is None or raw is None
        return
    assert usage is not None
    assert json.loads(usage.raw_json) == raw
    if (counts := expected.get("openai_usage")) is not None:
        assert {name: getattr(usage, name) for name in counts} == counts
