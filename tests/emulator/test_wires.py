"""Anthropic, Gemini, Responses and Ollama, strictly by the wire notes and recordings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.calls import USER, Frame, frames, post
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

FULL = "emu:ttft=1,itl=0,tokens=4,reason=3,tools=2"


def anthropic(emulator: EmulatorProcess, model: str, **fields: object) -> list[Frame]:
    messages = [{"role": "user", "content": USER}]
    body = {"model": model, "max_tokens": 500, "stream": True, "messages": messages, **fields}
    return frames(post(emulator, "/v1/messages", body).content)


def responses(emulator: EmulatorProcess, model: str, **fields: object) -> list[Frame]:
    body = {"model": model, "stream": True, "input": USER, **fields}
    return frames(post(emulator, "/v1/responses", body).content)


def gemini(emulator: EmulatorProcess, model: str, method: str = "stream") -> bytes:
    call = {
        "stream": ":streamGenerateContent?alt=sse",
        "array": ":streamGenerateContent",
        "whole": ":generateContent",
    }[method]
    contents = [{"role": "user", "parts": [{"text": USER}]}]
    return post(emulator, f"/v1beta/models/{model}{call}", {"contents": contents}).content


class TestAnthropic:
    def test_order_of_events(self, emulator: EmulatorProcess) -> None:
        stream = anthropic(emulator, FULL)
        assert all(frame.name == frame.json["type"] for frame in stream)
        names = [frame.name for frame in stream]
        assert names[:3] == ["message_start", "content_block_start", "ping"]
        assert names[-2:] == ["message_delta", "message_stop"]
        blocks = [f.json["content_block"]["type"] for f in stream if "content_block" in f.json]
        assert blocks == ["thinking", "text", "tool_use", "tool_use"]

    def test_blocks_do_not_overlap(self, emulator: EmulatorProcess) -> None:
        current = None
        for frame in anthropic(emulator, FULL):
            match frame.name:
                case "content_block_start":
                    assert current is None
                    current = frame.json["index"]
                case "content_block_delta":
                    assert frame.json["index"] == current
                case "content_block_stop":
                    assert frame.json["index"] == current
                    current = None
        assert current is None

    def test_thinking_ends_with_a_signature(self, emulator: EmulatorProcess) -> None:
        deltas = [f.json for f in anthropic(emulator, FULL) if f.name == "content_block_delta"]
        kinds = [delta["delta"]["type"] for delta in deltas if delta["index"] == 0]
        assert kinds == ["thinking_delta"] * 3 + ["signature_delta"]

    def test_tool_input_is_json_in_pieces_that_start_empty(self, emulator: EmulatorProcess) -> None:
        deltas = [f.json for f in anthropic(emulator, FULL) if f.name == "content_block_delta"]
        pieces = [delta["delta"]["partial_json"] for delta in deltas if delta["index"] == 2]
        assert pieces[0] == ""
        assert isinstance(json.loads("".join(pieces)), dict)

    def test_usage_and_stop_reason(self, emulator: EmulatorProcess) -> None:
        stream = anthropic(emulator, "emu:ttft=1,itl=0,tokens=9,in=100,cached=40")
        start = stream[0].json["message"]
        assert start["content"] == []
        assert start["usage"]["input_tokens"] == 60  # without the cached ones
        assert start["usage"]["cache_read_input_tokens"] == 40
        assert start["usage"]["output_tokens"] == 1
        end = stream[-2].json
        assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
        assert end["usage"]["output_tokens"] == 9

    def test_whole_answer(self, emulator: EmulatorProcess) -> None:
        messages = [{"role": "user", "content": USER}]
        body = {"model": FULL, "max_tokens": 500, "messages": messages}
        answer = post(emulator, "/v1/messages", body)
        assert [block["type"] for block in answer.json()["content"]] == [
            "thinking",
            "text",
            "tool_use",
            "tool_use",
        ]
        assert answer.json()["stop_reason"] == "tool_use"
        assert isinstance(answer.json()["content"][2]["input"], dict)
        assert answer.headers["request-id"].startswith("req_")

    def test_max_tokens_is_required(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, "/v1/messages", {"model": "emu", "messages": []})
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_bad_key(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, "/v1/messages", {}, {"x-api-key": "bad-key"})
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"

    def test_overload_is_529(self, emulator: EmulatorProcess) -> None:
        body = {"model": "emu:ttft=1,fault=error:overloaded", "max_tokens": 5, "messages": []}
        answer = post(emulator, "/v1/messages", body)
        assert answer.status_code == 529
        assert answer.json()["error"]["type"] == "overloaded_error"

    def test_error_as_first_event(self, emulator: EmulatorProcess) -> None:
        (only,) = anthropic(emulator, "emu:ttft=1,fault=error-first")
        assert only.name == "error"
        assert only.json["error"]["type"] == "overloaded_error"


class TestGemini:
    def test_stream_has_crlf_and_no_end_marker(self, emulator: EmulatorProcess) -> None:
        body = gemini(emulator, FULL)
        assert body.count(b"\n") == body.count(b"\r\n")
        assert body.endswith(b"}\r\n\r\n")
        assert b"[DONE]" not in body
        assert b'"parts": [{' in body

    def test_content(self, emulator: EmulatorProcess) -> None:
        chunks = [frame.json for frame in frames(gemini(emulator, FULL))]
        parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        thought = "".join(part["text"] for part in parts if part.get("thought"))
        assert thought == "The user."
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        assert len(calls) == 2
        assert all(isinstance(call["args"], dict) for call in calls)
        reasons = [chunk["candidates"][0].get("finishReason") for chunk in chunks]
        assert reasons[-1] == "STOP"
        assert set(reasons[:-1]) == {None}

    def test_usage_is_cumulative(self, emulator: EmulatorProcess) -> None:
        chunks = [frame.json for frame in frames(gemini(emulator, FULL))]
        usage = [chunk["usageMetadata"] for chunk in chunks]
        assert "candidatesTokenCount" not in usage[0]
        totals = [counts["totalTokenCount"] for counts in usage]
        assert totals == sorted(totals)
        last = usage[-1]
        parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
        assert last["totalTokenCount"] == sum(last[name] for name in parts)
        assert last["thoughtsTokenCount"] == 3

    def test_without_sse_the_stream_is_one_array(self, emulator: EmulatorProcess) -> None:
        body = gemini(emulator, FULL, "array")
        chunks = json.loads(body)
        assert b"\n,\r\n{" in body
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"

    def test_whole_answer(self, emulator: EmulatorProcess) -> None:
        answer = json.loads(gemini(emulator, "emu:ttft=1,itl=0,tokens=3", "whole"))
        assert answer["candidates"][0]["content"]["role"] == "model"
        assert answer["usageMetadata"]["candidatesTokenCount"] == 3

    def test_bad_key_is_400(self, emulator: EmulatorProcess) -> None:
        path = "/v1beta/models/emu:generateContent"
        answer = post(emulator, path, {"contents": []}, {"x-goog-api-key": "bad-key"})
        assert answer.status_code == 400
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
        assert answer.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"

    def test_rate_limit_has_its_delay_in_the_body(self, emulator: EmulatorProcess) -> None:
        body = json.loads(gemini(emulator, "emu:ttft=1,fault=error:rate"))
        assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert body["error"]["details"][0]["retryDelay"] == "2s"


class TestResponses:
    def test_order_and_numbers(self, emulator: EmulatorProcess) -> None:
        stream = responses(emulator, FULL)
        assert all(frame.name == frame.json["type"] for frame in stream)
        numbers = [frame.json["sequence_number"] for frame in stream]
        assert numbers == list(range(len(stream)))
        names = [frame.name for frame in stream]
        assert names[:2] == ["response.created", "response.in_progress"]
        assert names[-1] == "response.completed"
        assert names.count("response.completed") == 1

    def test_each_item_is_added_filled_and_done(self, emulator: EmulatorProcess) -> None:
        stream = responses(emulator, FULL)
        added = [f.json for f in stream if f.name == "response.output_item.added"]
        done = [f.json for f in stream if f.name == "response.output_item.done"]
        kinds = ["reasoning", "message", "function_call", "function_call"]
        assert [event["item"]["type"] for event in added] == kinds
        assert [event["output_index"] for event in done] == [0, 1, 2, 3]
        completed = stream[-1].json["response"]
        assert completed["output"] == [event["item"] for event in done]
        text = "".join(f.json["delta"] for f in stream if f.name == "response.output_text.delta")
        assert completed["output"][1]["content"][0]["text"] == text

    def test_arguments_deltas_make_the_arguments(self, emulator: EmulatorProcess) -> None:
        stream = responses(emulator, FULL)
        name = "response.function_call_arguments"
        for done in (frame.json for frame in stream if frame.name == f"{name}.done"):
            deltas = [
                frame.json["delta"]
                for frame in stream
                if frame.name == f"{name}.delta" and frame.json["item_id"] == done["item_id"]
            ]
            assert "".join(deltas) == done["arguments"]
            json.loads(done["arguments"])

    def test_cap_is_incomplete(self, emulator: EmulatorProcess) -> None:
        last = responses(emulator, "emu:ttft=1,itl=0", max_output_tokens=3)[-1]
        assert last.name == "response.incomplete"
        assert last.json["response"]["incomplete_details"] == {"reason": "max_output_tokens"}

    def test_error_in_the_stream(self, emulator: EmulatorProcess) -> None:
        stream = responses(emulator, "emu:ttft=1,itl=0,fault=error-mid@2:rate")
        assert [frame.name for frame in stream[-2:]] == ["error", "response.failed"]
        assert stream[-1].json["response"]["error"]["code"] == "rate_limit_exceeded"

    def test_unknown_model_is_400(self, emulator: EmulatorProcess) -> None:
        body = {"model": "emu:ttft=1,fault=error:not_found", "input": "hi"}
        answer = post(emulator, "/v1/responses", body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "model_not_found"

    def test_whole_answer(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, "/v1/responses", {"model": FULL, "input": "hi"}).json()
        assert answer["status"] == "completed"
        assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == 3


class TestOllama:
    def lines(self, emulator: EmulatorProcess, model: str, **fields: object) -> list[Any]:
        messages = [{"role": "user", "content": USER}]
        answer = post(emulator, "/api/chat", {"model": model, "messages": messages, **fields})
        return [json.loads(line) for line in answer.content.splitlines()]

    def test_order_of_lines(self, emulator: EmulatorProcess) -> None:
        *lines, last = self.lines(emulator, FULL)
        messages = [line["message"] for line in lines]
        assert "".join(m.get("thinking", "") for m in messages[:3]) == "The user."
        assert all(m["content"] for m in messages[3:7])
        calls = [call for m in messages[7:] for call in m["tool_calls"]]
        assert [call["function"]["index"] for call in calls] == [0, 1]
        assert all(isinstance(call["function"]["arguments"], dict) for call in calls)
        assert {line["done"] for line in lines} == {False}
        assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")

    def test_counts_and_cap(self, emulator: EmulatorProcess) -> None:
        last = self.lines(emulator, "emu:ttft=1,itl=0,in=9", options={"num_predict": 3})[-1]
        assert last["done_reason"] == "length"
        assert (last["prompt_eval_count"], last["eval_count"]) == (9, 3)

    def test_whole_answer(self, emulator: EmulatorProcess) -> None:
        (answer,) = self.lines(emulator, FULL, stream=False)
        assert answer["done"] is True
        assert answer["message"]["thinking"] == "The user."
        assert len(answer["message"]["tool_calls"]) == 2

    def test_errors_are_a_text(self, emulator: EmulatorProcess) -> None:
        body = {"model": "emu:ttft=1,fault=rate:7", "messages": []}
        answer = post(emulator, "/api/chat", body)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert isinstance(answer.json()["error"], str)
        assert list(self.lines(emulator, "emu:ttft=1,itl=0,fault=error-mid@2")[-1]) == ["error"]
