"""Every place of a request where a text can hide."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest

from relay.content import (
    AudioPart,
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    NativeBlocks,
    OpaquePart,
    Part,
    Policy,
    RefusalPart,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from relay.decision import Decision
from relay.errors import GuardrailBlocked
from relay.frontends import chat_body, messages_body, responses_body
from tests.guardrails.worlds import CARD, SCOPE, asked, chain, rail, words

B64 = base64.b64encode


def message(*parts: Part, role: Role = Role.USER, **more: Any) -> GenerateRequest:
    return asked("", messages=(Message(role, parts, **more),))


def text(said: str) -> str:
    return B64(said.encode()).decode()


HIDING: dict[str, GenerateRequest] = {
    "user": asked(f"x {CARD} y"),
    "system": message(TextPart(CARD), role=Role.SYSTEM),
    "developer": message(TextPart(CARD), role=Role.DEVELOPER),
    "assistant": message(TextPart(CARD), role=Role.ASSISTANT),
    "refusal": message(RefusalPart(CARD), role=Role.ASSISTANT),
    "tool result": message(TextPart(CARD), role=Role.TOOL, tool_call_id="c"),
    "second part": message(ImagePart(url="https://a.test/"), TextPart(CARD)),
    "over two parts": message(TextPart(CARD[:7]), TextPart(CARD[7:])),
    "name": message(TextPart("x"), name=CARD),
    "reasoning": message(TextPart("x"), role=Role.ASSISTANT, reasoning=CARD),
    "image address": message(ImagePart(url=f"https://a.test/?q={CARD}")),
    "file name": message(FilePart(file_id="f", filename=CARD)),
    "text file": message(FilePart(data_base64=text(CARD), media_type="text/plain")),
    "json file": message(
        FilePart(data_base64=text(orjson.dumps({"a": CARD}).decode()), media_type="x/y+json")
    ),
    "opaque part": message(OpaquePart("openai_chat", {"type": "x", "a": [{"b": CARD}]})),
    "opaque file": message(
        OpaquePart(
            "anthropic_messages",
            {"source": {"media_type": "text/plain", "data": text(f"{CARD} " + "x" * 80)}},
        )
    ),
    "opaque key": message(OpaquePart("openai_chat", {"type": "x", CARD: 1})),
    "opaque number": message(OpaquePart("openai_chat", {"n": 4111111111111111})),
    "opaque data url": message(
        OpaquePart("openai_chat", {"u": "data:text/plain;base64," + text(f"{CARD} " + "x" * 60)})
    ),
    "arguments": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", orjson.dumps({"a": CARD}).decode()),)
    ),
    "escaped arguments": message(
        role=Role.ASSISTANT,
        tool_calls=(ToolCall("c", "f", '{"a": "\\u0034111 1111 1111 1111"}'),),
    ),
    "broken arguments": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", '{"a": "' + CARD),)
    ),
    "escaped broken arguments": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", '{"a": "\\u0034111 1111 1111 1111'),)
    ),
    "arguments said twice": message(
        role=Role.ASSISTANT,
        tool_calls=(ToolCall("c", "f", '{"a": "' + CARD + '", "a": "b"}'),),
    ),
    "number in arguments": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", '{"a": 4111111111111111}'),)
    ),
    "custom call": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", CARD, kind="custom"),)
    ),
    "state of a call": message(
        role=Role.ASSISTANT, tool_calls=(ToolCall("c", "f", "{}", extra={"x": {"y": CARD}}),)
    ),
    "extra of a message": message(TextPart("x"), extra={"reasoning_details": [{"text": CARD}]}),
    "short signature": message(TextPart("x"), extra={"signature": CARD.replace(" ", "")}),
    "native text": message(
        TextPart("x"), native=NativeBlocks("w", ({"type": "text", "text": CARD},))
    ),
    "native input": message(
        TextPart("x"), native=NativeBlocks("w", ({"type": "tool_use", "input": {"a": CARD}},))
    ),
    "native thinking": message(
        TextPart("x"),
        native=NativeBlocks("w", ({"type": "thinking", "thinking": CARD, "signature": "s"},)),
    ),
    "tool description": asked("x", tools=(Tool("f", CARD),)),
    "tool schema": asked(
        "x", tools=(Tool("f", parameters_json=orjson.dumps({"description": CARD})),)
    ),
    "opaque tool": asked("x", tools=(Tool("f", opaque={"d": CARD}),)),
    "opaque choice": asked(
        "x", tool_choice=ToolChoice(ToolChoiceMode.OPAQUE, opaque={"tools": [CARD]})
    ),
    "format description": asked(
        "x", response_format=ResponseFormat("json_schema", description=CARD)
    ),
    "schema": asked(
        "x", response_format=ResponseFormat("json_schema", schema_json=orjson.dumps({"d": CARD}))
    ),
    "stop": asked("x", sampling=Sampling(stop=("a", CARD))),
    "user id": asked("x", user=CARD),
    "cache key": asked("x", prompt_cache_key=CARD),
    "embedding": asked("", messages=(), embedding=EmbeddingOptions(texts=("a", CARD))),
    "extra": asked("x", extra={"metadata": {"a": CARD}}),
    "native body": asked("x", native={"w": {"instructions": CARD}}),
}


def everything(request: GenerateRequest) -> str:
    """All that can be sent of it, files unpacked."""
    found = repr(request)
    for one in request.messages:
        for part in one.parts:
            if isinstance(part, FilePart):
                found += base64.b64decode(part.data_base64).decode()
            if isinstance(part, OpaquePart) and "source" in part.value:
                found += base64.b64decode(part.value["source"]["data"]).decode()
            if isinstance(part, OpaquePart) and "u" in part.value:
                found += base64.b64decode(part.value["u"].partition(",")[2]).decode()
    return found


@pytest.mark.parametrize("place", HIDING)
async def test_it_is_taken_out_everywhere(place: str) -> None:
    decision = Decision()
    new = await chain(rail()).check(HIDING[place], SCOPE, decision, None)
    said = everything(new)
    assert "1111 1111" not in said
    assert "1111111111111111" not in said
    assert [one.action for one in decision.guards] == ["redact"]


@pytest.mark.parametrize("place", HIDING)
async def test_a_block_holds_everywhere(place: str) -> None:
    decision = Decision()
    with pytest.raises(GuardrailBlocked) as caught:
        await chain(rail(action="block", message="No cards here.")).check(
            HIDING[place], SCOPE, decision, None
        )
    assert caught.value.public_message == "No cards here."
    assert (caught.value.guardrail, caught.value.side) == ("cards", "input")
    assert decision.guards[0].action == "block"


@pytest.mark.parametrize("place", HIDING)
async def test_a_flag_changes_nothing(place: str) -> None:
    decision = Decision()
    request = HIDING[place]
    assert await chain(rail(action="flag")).check(request, SCOPE, decision, None) is request
    assert decision.guards


@pytest.mark.parametrize("place", HIDING)
async def test_what_is_clean_is_the_same_object(place: str) -> None:
    decision = Decision()
    request = HIDING[place]
    made = chain(rail(scanner=words("nowhere")))
    assert await made.check(request, SCOPE, decision, None) is request
    assert await made.check(request, SCOPE, decision, None) is request
    assert not decision.guards


async def test_thinking_that_had_to_change_is_not_sent_with_its_signature() -> None:
    block = {"type": "thinking", "thinking": CARD, "signature": "s" * 80}
    request = message(
        TextPart("x"), native=NativeBlocks("w", (block, {"type": "text", "text": "x"}))
    )
    new = await chain(rail()).check(request, SCOPE, Decision(), None)
    native = new.messages[0].native
    assert native is not None
    assert native.blocks == ({"type": "text", "text": "x"},)


async def test_a_text_over_native_blocks_leaves_the_fields_alone_to_speak() -> None:
    blocks = ({"type": "text", "text": CARD[:7]}, {"type": "text", "text": CARD[7:]})
    request = message(
        TextPart(CARD[:7]),
        TextPart(CARD[7:]),
        role=Role.ASSISTANT,
        native=NativeBlocks("w", blocks),
    )
    new = await chain(rail()).check(request, SCOPE, Decision(), None)
    assert new.messages[0].native is None
    assert new.messages[0].parts == (TextPart("[CARD]"),)


async def test_state_that_only_its_provider_reads_is_left_alone() -> None:
    state = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "bad0" * 40}]}
    request = message(TextPart("x"), extra=state)
    made = chain(rail(scanner=words("bad"), blocks_unreadable=True))
    assert await made.check(request, SCOPE, Decision(), None) is request


async def test_a_name_of_a_tool_is_never_replaced() -> None:
    request = asked("x", tools=(Tool("get_badger"),))
    with pytest.raises(GuardrailBlocked):
        await chain(rail(scanner=words("bad"))).check(request, SCOPE, Decision(), None)


UNREADABLE = {
    "image": message(ImagePart(data_base64="aGk=", media_type="image/png")),
    "audio": message(AudioPart("aGk=", "wav")),
    "file": message(FilePart(data_base64="aGk=", media_type="application/pdf")),
    "file by id": message(FilePart(file_id="f")),
    "tokens": asked("", messages=(), embedding=EmbeddingOptions(tokens=((1, 2),))),
    "opaque file": message(
        OpaquePart("w", {"source": {"media_type": "application/pdf", "data": "QUJD" * 30}})
    ),
    "base64": message(OpaquePart("openai_chat", {"type": "x", "video": "QUJD" * 200})),
    "data url": message(
        OpaquePart("openai_chat", {"image_url": "data:image/png;base64," + "QUJD" * 200})
    ),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_passes_or_is_blocked(what: str) -> None:
    request = UNREADABLE[what]
    assert await chain(rail()).check(request, SCOPE, Decision(), None) is request
    decision = Decision()
    with pytest.raises(GuardrailBlocked):
        await chain(rail(blocks_unreadable=True)).check(request, SCOPE, decision, None)
    assert decision.guards[0].scanner.startswith("unreadable.")


async def test_without_tools_and_reasoning_those_are_left_alone() -> None:
    made = chain(rail(looks_at_tools=False, looks_at_reasoning=False))
    for place in ("tool result", "arguments", "tool schema", "reasoning"):
        request = HIDING[place]
        assert await made.check(request, SCOPE, Decision(), None) is request
    assert await made.check(HIDING["user"], SCOPE, Decision(), None) is not HIDING["user"]


# --- bodies as clients send them ------------------------------------------------------------------


def chat(content: Any) -> GenerateRequest:
    return chat_body.to_request({"model": "m", "messages": [{"role": "user", "content": content}]})


def messages(content: Any, role: str = "user") -> GenerateRequest:
    return messages_body.to_request(
        {"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": content}]}
    )


BODIES = {
    "chat": chat(CARD),
    "chat parts": chat([{"type": "text", "text": CARD}]),
    "chat unread part": chat([{"type": "text", "text": CARD, "beside": 1}]),
    "chat function": chat_body.to_request(
        {
            "model": "m",
            "messages": [
                {"role": "assistant", "function_call": {"name": "f", "arguments": CARD}},
                {"role": "function", "name": "f", "content": CARD},
            ],
        }
    ),
    "messages": messages(CARD),
    "messages document": messages(
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": CARD}}]
    ),
    "messages cited document": messages(
        [
            {
                "type": "document",
                "citations": {"enabled": True},
                "source": {"type": "text", "media_type": "text/plain", "data": CARD},
            }
        ]
    ),
    "messages result": messages(
        [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": CARD}]}]
    ),
    "messages turn": messages(
        [
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": CARD}},
            {"type": "text", "text": CARD},
        ],
        "assistant",
    ),
    "messages thinking": messages(
        [{"type": "thinking", "thinking": CARD, "signature": "s"}, {"type": "text", "text": "b"}],
        "assistant",
    ),
}


@pytest.mark.parametrize("body", BODIES)
async def test_nothing_is_left_of_it_in_any_body(body: str) -> None:
    new = await chain(rail()).check(BODIES[body], SCOPE, Decision(), None)
    assert "1111 1111" not in everything(new)


async def test_responses_items() -> None:
    body = {
        "model": "m",
        "instructions": CARD,
        "metadata": {"a": CARD},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": CARD}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": CARD},
            {"type": "function_call_output", "call_id": "c", "output": CARD},
            {"type": "web_search_call", "id": "w", "action": {"query": CARD}},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": CARD}],
                "encrypted_content": "QUJD" * 40,
            },
            {"role": "assistant", "content": [{"type": "output_text", "text": CARD}]},
        ],
    }
    request = responses_body.to_request(body, Policy()).request
    new = await chain(rail()).check(request, SCOPE, Decision(), None)
    assert "1111 1111" not in everything(new)
    assert "[CARD]" in everything(new)


async def test_two_turns_of_a_long_conversation_are_read_once() -> None:
    history = tuple(Message(Role.USER, (TextPart(f"turn {at} " * 20),)) for at in range(50))
    scanner = words("nowhere")
    seen: list[str] = []
    found = scanner.find

    def find(text: str, start: int = 0) -> Any:
        seen.append(text)
        return found(text, start)

    scanner.find = find  # type: ignore[method-assign]
    made = chain(rail(scanner=scanner))
    request = asked("", messages=history)
    await made.check(request, SCOPE, Decision(), None)
    first = len(seen)
    more = replace(request, messages=(*history, Message(Role.USER, (TextPart("and now " * 9),))))
    await made.check(more, SCOPE, Decision(), None)
    assert first >= 50
    assert len(seen) == first + 1
