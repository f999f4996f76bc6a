"""The legacy `/v1/completions`: what a body may say. Answers are read by the official client
elsewhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.content import (
    ChoiceFinished,
    FinishReason,
    Policy,
    ResponseInfo,
    Role,
    TextDelta,
    TextPart,
)
from relay.errors import EventTooLarge, InvalidRequest
from relay.frontends.surfaces.completions import Completions
from tests.fakes.ends import end_of

API = Completions()


def test_prompt_becomes_a_message() -> None:
    body = {"model": "m", "prompt": "Say", "max_tokens": 5, "stop": ["x"], "seed": 1, "best_of": 1}
    request = API.read(body, Policy()).request
    (message,) = request.messages
    assert (message.role, message.parts) == (Role.USER, (TextPart("Say"),))
    assert (request.sampling.max_output_tokens, request.sampling.stop) == (5, ("x",))
    assert request.extra == {}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": "yes"}, "echo"),
        ({"logprobs": 2}, "logprobs"),
        ({"stream": 1}, "stream"),
        ({"temperature": "x"}, "temperature"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(more: dict[str, Any], field: str) -> None:
    body = {"model": "m", "prompt": "a", **more}
    with pytest.raises(InvalidRequest) as raised:
        API.read(body, Policy())
    assert raised.value.field == field


EVENTS = [
    ResponseInfo("cmpl-1", "m-1", 5, system_fingerprint="fp"),
    TextDelta("one", 1),
    TextDelta("two", 0),
    ChoiceFinished(FinishReason.LENGTH, "length", 0),
    ChoiceFinished(FinishReason.TOOL_CALLS, "tool_calls", 1),
]


def test_document_of_several_choices() -> None:
    document = API.read({"model": "m", "prompt": "p", "n": 2}, Policy()).document
    assert document is not None
    document.add(EVENTS)
    value = orjson.loads(document.to_json(end_of()))
    assert value == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "m-1",
        "system_fingerprint": "fp",
        "choices": [
            {"index": 0, "text": "two", "logprobs": None, "finish_reason": "length"},
            {"index": 1, "text": "one", "logprobs": None, "finish_reason": "stop"},
        ],
    }


@pytest.mark.parametrize("timeline", [False, True])
def test_stream_of_several_choices(timeline: bool) -> None:
    body = {"model": "m", "prompt": "p", "n": 2, "stream": True, "echo": True}
    encoder = API.read(body, Policy(timeline=timeline)).answer
    assert encoder is not None
    data = encoder.encode(EVENTS) + encoder.encode_end(end_of())
    *lines, done = [part[6:] for part in data.decode().split("\n\n") if part]
    assert done == "[DONE]"
    chunks = [orjson.loads(line) for line in lines]
    assert ("x_relay" in chunks[-1].get("usage", {})) is timeline
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in said] == [
        (1, "pone", None),
        (0, "ptwo", None),
        (0, "", "length"),
        (1, "", "stop"),
    ]


def test_document_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.frontends.surfaces.completions.MAX_ANSWER_BYTES", 100)
    document = API.read({"model": "m", "prompt": "p"}, Policy()).document
    assert document is not None
    with pytest.raises(EventTooLarge):
        document.add([TextDelta("x" * 101)])
