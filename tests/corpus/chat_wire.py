"""What the corpus expects of `openai_chat`, and where we differ."""

from __future__ import annotations

from typing import Any

import orjson

from relay.codecs import openai_hot_chunk
from relay.codecs.base import Codec
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.content import FinishReason, GenerateRequest, Sampling, Usage
from relay.errors import Reason
from tests.corpus.harness import Difference, Ending, Reading, Wire
from tests.fakes.wire_corpus import Case, is_chat_case, said


def with_reasoning(case: Case) -> int:
    """Completion tokens as OpenAI counts them."""
    counts = case.expected["openai_usage"]
    found: int = counts["completion_tokens"] + counts["reasoning_tokens"]
    return found


DIFFERENCES = {
    "groq/error--gpt-oss-120b--01": Difference(
        "the model's fault and not the request's: a retry can succeed, as openai-compatible.md "
        "says, and calling it INVALID_ARGUMENT would blame the client",
        {"error.retryable": True},
    ),
    "deepseek/stream-insufficient-system-resource--composed": Difference(
        "the provider gave up inside the answer: a failure to us, a mere finish reason there",
        {"failure": Reason.UPSTREAM_OVERLOADED},
    ),
    "xai-chat/stream-tool--grok-3-mini--p01": Difference(
        "reasoning is part of the completion, as OpenAI counts; the corpus copies xAI's count",
        {"openai_usage.completion_tokens": with_reasoning},
    ),
}


class ChatWire(Wire):
    """`openai_chat`."""

    name = "openai_chat"
    lane = (openai_hot_chunk, "MAX_MISSES")
    differences = DIFFERENCES

    def takes(self, case: Case) -> bool:
        return is_chat_case(case)

    def codec(self, case: Case) -> Codec:
        codec = OpenAIChatCodec()
        if case.asked_choices > 1:
            sampling = Sampling(choices=case.asked_choices)
            codec.encode_request(GenerateRequest("m", (), sampling=sampling), "m")
        return codec

    def ending(self, case: Case, prefix: bytes) -> Ending:
        found = said(prefix, case.asked_choices)
        if found.has_failed:
            return Ending.FAILED
        return Ending.CLEAN if found.is_whole else Ending.CUT

    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        result = reading.result
        if "done_sentinel" in expected and result.error is None:
            assert reading.is_finished == expected["done_sentinel"]
        wanted = {choice["index"]: choice for choice in expected.get("choices", ())}
        assert set(result.choices) <= set(wanted) or not wanted
        for index, choice in wanted.items():
            got = result.choices.get(index)
            if got is None:
                # Nothing came of it before the failure.
                assert not choice["text"]
                assert choice["finish_reason"] is None
                continue
            assert got.text == choice["text"]
            assert got.raw_finish == choice["finish_reason"]
            for name in ("reasoning", "refusal"):
                if name in choice:
                    assert getattr(got, name) == (choice[name] or ""), name
            assert [(call.call_id, call.name, call.arguments) for call in got.tool_calls] == [
                (call["id"], call["name"], call["arguments"]) for call in choice["tool_calls"]
            ]
            if got.tool_calls and got.raw_finish == "stop":
                assert got.finish is FinishReason.TOOL_CALLS
            if got.finish is not FinishReason.LENGTH:
                assert not any(call.is_partial for call in got.tool_calls)
        _check_usage(result.usage, expected)


def _check_usage(usage: Usage | None, expected: dict[str, Any]) -> None:
    if expected.get("usage") is not None:
        assert usage is not None
        assert orjson.loads(usage.raw_json) == expected["usage"]
    if expected.get("openai_usage") is not None:
        assert usage is not None
        got = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        }
        assert got == {name: expected["openai_usage"].get(name) for name in got}
