"""Anthropic's Messages."""

from __future__ import annotations

from typing import Final

import orjson

from tests.surfaces.http_surface import HttpSurface, failure_of
from tests.surfaces.told import SCHEMA, Call, Document, Failure, Told, Wish

_FINISHES: Final = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}


class Messages(HttpSurface):
    """`/v1/messages`."""

    title = "messages"
    path = "/v1/messages"

    def body(self, wish: Wish) -> Document:
        body: Document = {
            "model": wish.model,
            "max_tokens": 2000,
            "messages": [{"role": "user", "content": "Hello"}],
        }
        if wish.tools:
            body["tools"] = [{"name": name, "input_schema": SCHEMA} for name in wish.tools]
        if wish.reasoning:
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return body

    def read_whole(self, document: Document) -> Told:
        assert (document["type"], document["role"]) == ("message", "assistant")
        told = Told(finish=_FINISHES[document["stop_reason"]], ends=1)
        for block in document["content"]:
            if block["type"] == "tool_use":
                arguments = orjson.dumps(block["input"]).decode()
                told.calls.append(Call(block["id"], block["name"], arguments))
            else:
                told.text += block.get("text", "")
                told.reasoning += block.get("thinking", "")
        return told

    def read_event(self, told: Told, name: str, data: str) -> None:
        if not name:
            return  # a comment
        event = orjson.loads(data)
        assert event["type"] == name
        match name:
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                block = event["content_block"]
                assert block["input"] == {}
                told.calls.append(Call(block["id"], block["name"], ""))
            case "content_block_delta":
                delta = event["delta"]
                told.text += delta.get("text", "")
                told.reasoning += delta.get("thinking", "")
                if delta["type"] == "input_json_delta":
                    told.calls[-1].arguments += delta["partial_json"]
            case "message_delta":
                told.finish = _FINISHES[event["delta"]["stop_reason"]]
            case "message_stop":
                told.ends += 1
            case "error":
                told.failure = self.failure(event)

    def failure(self, document: Document) -> Failure:
        assert document["type"] == "error"
        assert document["request_id"].startswith("req_")
        return failure_of(document["error"])
