"""OpenAI's three: Chat Completions, legacy Completions, Responses."""

from __future__ import annotations

from typing import ClassVar, Final

import orjson

from tests.surfaces.http_surface import HttpSurface, openai_failure
from tests.surfaces.told import SCHEMA, Call, Document, Failure, Told, Wish

_WITH_USAGE: Final[Document] = {"stream": True, "stream_options": {"include_usage": True}}
_FINISHES: Final = {"stop": "stop", "tool_calls": "tool_calls", "length": "length"}


class Chat(HttpSurface):
    """`/v1/chat/completions`."""

    title = "chat"
    path = "/v1/chat/completions"
    streaming = _WITH_USAGE

    def body(self, wish: Wish) -> Document:
        body: Document = {
            "model": wish.model,
            "messages": [{"role": "user", "content": "Hello"}],
        }
        if wish.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
                for name in wish.tools
            ]
        if wish.reasoning:
            body["reasoning_effort"] = "low"
        return body

    def read_whole(self, document: Document) -> Told:
        assert document["object"] == "chat.completion"
        (choice,) = document["choices"]
        message = choice["message"]
        return Told(
            text=message["content"] or "",
            reasoning=message.get("reasoning_content", ""),
            calls=[
                Call(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in message.get("tool_calls") or ()
            ],
            finish=_FINISHES[choice["finish_reason"]],
            ends=1,
        )

    def read_event(self, told: Told, name: str, data: str) -> None:
        assert not name
        if data == "[DONE]":
            told.ends += 1
        elif data:
            self._read_chunk(told, orjson.loads(data))

    def _read_chunk(self, told: Told, chunk: Document) -> None:
        if "error" in chunk:
            told.failure = openai_failure(chunk)
            return
        assert chunk["object"] == "chat.completion.chunk"
        told.note_id(chunk["id"])
        for choice in chunk["choices"]:
            delta = choice["delta"]
            told.text += delta.get("content") or ""
            told.reasoning += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls") or ():
                _add_part(told, part)
            if choice["finish_reason"]:
                told.finish = _FINISHES[choice["finish_reason"]]

    def failure(self, document: Document) -> Failure:
        return openai_failure(document)


def _add_part(told: Told, part: Document) -> None:
    function = part["function"]
    if part["index"] == len(told.calls):
        told.calls.append(Call(part["id"], function["name"], ""))
    told.calls[part["index"]].arguments += function.get("arguments") or ""


class Completions(HttpSurface):
    """`/v1/completions`."""

    title = "completions"
    path = "/v1/completions"
    streaming = _WITH_USAGE
    cannot: ClassVar = {
        "tools": "the API has no tools",
        "parallel tools": "the API has no tools",
        "reasoning": "the API has no reasoning",
    }

    def body(self, wish: Wish) -> Document:
        return {"model": wish.model, "prompt": "Hello"}

    def read_whole(self, document: Document) -> Told:
        assert document["object"] == "text_completion"
        (choice,) = document["choices"]
        return Told(text=choice["text"], finish=_FINISHES[choice["finish_reason"]], ends=1)

    def read_event(self, told: Told, name: str, data: str) -> None:
        assert not name
        if data == "[DONE]":
            told.ends += 1
            return
        chunk = orjson.loads(data)
        if "error" in chunk:
            told.failure = openai_failure(chunk)
            return
        assert chunk["object"] == "text_completion"
        told.note_id(chunk["id"])
        for choice in chunk["choices"]:
            told.text += choice["text"]
            told.finish = _FINISHES.get(choice["finish_reason"] or "", "")

    def failure(self, document: Document) -> Failure:
        return openai_failure(document)


class Responses(HttpSurface):
    """`/v1/responses`."""

    title = "responses"
    path = "/v1/responses"

    def body(self, wish: Wish) -> Document:
        body: Document = {"model": wish.model, "input": "Hello"}
        if wish.tools:
            body["tools"] = [
                {"type": "function", "name": name, "parameters": SCHEMA, "strict": False}
                for name in wish.tools
            ]
        if wish.reasoning:
            body["reasoning"] = {"effort": "low", "summary": "auto"}
        return body

    def read_whole(self, document: Document) -> Told:
        assert document["object"] == "response"
        assert document["error"] is None
        told = Told()
        for item in document["output"]:
            if item["type"] == "message":
                told.text += "".join(part["text"] for part in item["content"])
            elif item["type"] == "reasoning":
                told.reasoning += "".join(part["text"] for part in item["summary"])
            else:
                assert item["type"] == "function_call"
                told.calls.append(Call(item["call_id"], item["name"], item["arguments"]))
        _end_response(told, document)
        return told

    def read_event(self, told: Told, name: str, data: str) -> None:
        if not name:
            return  # a comment
        event = orjson.loads(data)
        assert event["type"] == name
        if "response" in event:
            told.note_id(event["response"]["id"])
        match name:
            case "response.output_text.delta":
                told.text += event["delta"]
            case "response.reasoning_summary_text.delta":
                told.reasoning += event["delta"]
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                item = event["item"]
                told.calls.append(Call(item["call_id"], item["name"], item["arguments"]))
            case "response.function_call_arguments.delta":
                told.calls[-1].arguments += event["delta"]
            case "error":
                assert event["message"]
                told.failure = Failure(0, str(event["code"]))
            case "response.failed":
                assert told.failure is not None, "failed without an error before it"
                assert event["response"]["status"] == "failed"
                assert event["response"]["error"]["message"]
            case "response.completed" | "response.incomplete":
                whole = self.read_whole(event["response"])
                assert (whole.text, whole.calls) == (told.text, told.calls)
                _end_response(told, event["response"])

    def failure(self, document: Document) -> Failure:
        return openai_failure(document)


def _end_response(told: Told, response: Document) -> None:
    ends = {"completed": "tool_calls" if told.calls else "stop", "incomplete": "length"}
    told.finish = ends[response["status"]]
    told.ends += 1
