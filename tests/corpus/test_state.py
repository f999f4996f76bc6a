"""State of recorded answers that must go back unchanged does, and calls in pieces lose nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
import pytest

from relay.codecs.openai_responses import ResponsesCodec
from relay.content import GenerateRequest, Message, Role, TextPart, ToolCall
from tests.corpus.gemini_wire import BROKEN_CALLS, GeminiWire
from tests.corpus.harness import Wire
from tests.corpus.responses_wire import ResponsesWire, final_output, quirks_of
from tests.fakes.wire_corpus import ABSENT, Case

pytestmark = pytest.mark.corpus

GEMINI, RESPONSES = GeminiWire(), ResponsesWire()


def parameters(wire: Wire) -> list[Any]:
    found = [
        pytest.param(case, id=case.name)
        for case in wire.cases
        if case.error is None and case.status < 400
    ]
    absent = pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")
    return found or [absent]


@pytest.mark.parametrize("case", parameters(RESPONSES))
def test_items_of_a_response_go_back_as_they_came(case: Case) -> None:
    """The turn sent back holds the items of the response in their order, but what we read of them
    (messages, calls) is written anew, and reasoning without a secret or a text is nothing."""
    choice = RESPONSES.read(case, [case.body]).result.choices[0]
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


@pytest.mark.parametrize("case", parameters(GEMINI))
def test_every_signature_of_gemini_comes_out(case: Case) -> None:
    """With its call or its text, and no part is lost."""
    choices = GEMINI.read(case, [case.body]).result.choices
    if b"thoughtSignature" not in case.body or choices[0].raw_finish in BROKEN_CALLS:
        return
    given = [(call.extra or {}).get("extra_content") for call in choices[0].tool_calls]
    kept = {content["google"]["thought_signature"] for content in given if content}
    for key, value in choices[0].opaque:
        if key == "extra_content":
            kept.add(value["google"]["thought_signature"])
        elif key == "gemini_parts":
            kept.update(entry["part"].get("thoughtSignature") for entry in value)
    told = {json.loads(one) for one in re.findall(rb'"thoughtSignature":\s*("[^"]*")', case.body)}
    assert kept - {None} == told


@pytest.mark.parametrize("case", parameters(GEMINI))
def test_arguments_in_pieces_of_gemini(case: Case) -> None:
    """Against a plain reading: each text at its path, joined in order."""
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
    calls = GEMINI.read(case, [case.body]).result.choices[0].tool_calls
    assert [(call.name, _flattened(json.loads(call.arguments))) for call in calls] == wanted
    assert sum(len(texts) for _, texts in wanted) >= 2


def _flattened(value: Any, path: str = "$") -> dict[str, str]:
    if isinstance(value, dict):
        inner = [(f"{path}.{name}", item) for name, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    else:
        return {path: value}
    return {place: text for at, item in inner for place, text in _flattened(item, at).items()}
