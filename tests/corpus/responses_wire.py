"""What the corpus expects of `openai_responses`, and where we differ."""

from __future__ import annotations

import json
import re
from typing import Any

from relay.codecs import openai_responses
from relay.codecs.base import Codec
from relay.codecs.openai_responses import ResponsesCodec
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.config import known_providers
from relay.content import FinishReason
from tests.corpus.harness import Difference, Ending, Reading, Wire
from tests.fakes.collect import Collected
from tests.fakes.wire_corpus import Case

PROVIDERS = {"openai-responses": "openai", "xai-responses": "xai", "deepseek-responses": "deepseek"}


def documents(case: Case) -> list[dict[str, Any]]:
    """Every document of a body, found without our own parsers."""
    if not case.is_stream:
        return [json.loads(case.body)]
    return [json.loads(data) for data in re.findall(rb"^data: ?(.*)$", case.body, re.M)]


def final_output(case: Case) -> list[dict[str, Any]]:
    """The items of the response, as its last document repeats them."""
    last = documents(case)[-1]
    output: list[dict[str, Any]] = last.get("response", last)["output"]
    return output


def plain_reasoning(case: Case) -> str:
    """The reasoning of an answer that has it as plain text."""
    parts = [item["content"] for item in final_output(case) if item["type"] == "reasoning"]
    return "\n\n".join(part["text"] for one in parts for part in one)


def quirks_of(case: Case) -> ResponsesQuirks:
    row = known_providers()[PROVIDERS[case.provider]]["other_wires"]["openai_responses"]
    return ResponsesQuirks.from_mapping(row["quirks"], case.provider)


PLAIN_REASONING = Difference(
    "the corpus reads summaries only; this reasoning is plain text in the item's content, which "
    "the streamed twin brings as reasoning_text and the corpus reads there",
    {"reasoning": plain_reasoning},
)

DIFFERENCES = {
    "deepseek-responses/nonstream-reasoning--deepseek-v4-flash--01": PLAIN_REASONING,
    "deepseek-responses/nonstream-server-tools--deepseek-v4-flash--01": PLAIN_REASONING,
    "deepseek-responses/nonstream-tool--deepseek-v4-flash--01": PLAIN_REASONING,
}


class ResponsesWire(Wire):
    """`openai_responses`."""

    name = "openai_responses"
    lane = (openai_responses, "MAX_MISSES")
    differences = DIFFERENCES

    def takes(self, case: Case) -> bool:
        return case.provider in PROVIDERS

    def codec(self, case: Case) -> Codec:
        return ResponsesCodec(quirks_of(case))

    def error_words(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {**super().error_words(wanted), "provider_param": wanted.get("param", "")}

    def ending(self, case: Case, prefix: bytes) -> Ending:
        # No end but the terminal event, which is the last.
        return Ending.FAILED if b"event: error" in prefix else Ending.CUT

    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        result = reading.result
        assert reading.mended_events == 0
        assert reading.is_finished == (result.error is None and case.is_stream)
        if case.error is not None:
            return
        choice = result.choices[0]
        assert choice.text == expected["text"]
        assert choice.refusal == (expected.get("refusal") or "")
        assert choice.reasoning == (expected["reasoning"] or "")
        assert [(call.call_id, call.name, call.arguments) for call in choice.tool_calls] == [
            (call["id"], call["name"], call["arguments"]) for call in expected["tool_calls"]
        ]
        assert all(call.is_done and not call.is_partial for call in choice.tool_calls)
        _check_finish(choice.finish, choice.raw_finish, expected)
        _check_usage(result, expected)
        last = documents(case)[-1]
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
    assert json.loads(usage.raw_json) == raw
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (
        raw["input_tokens"],
        raw["output_tokens"],
        raw["total_tokens"],
    )
    assert usage.cached_tokens == raw["input_tokens_details"]["cached_tokens"]
    assert usage.cache_write_tokens == raw["input_tokens_details"].get("cache_write_tokens")
    assert usage.reasoning_tokens == raw["output_tokens_details"]["reasoning_tokens"]
    assert not usage.is_estimated
