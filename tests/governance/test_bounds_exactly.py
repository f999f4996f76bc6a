"""The stated bound to the token: every part of a request counts for as much as the module says."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from relay.content import (
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    Message,
    NativeBlocks,
    OpaquePart,
    ReasoningOptions,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from relay.governance import bounds
from relay.governance.bounds import bound, output_bound, prompt_bound

REQUEST, MESSAGE, TOOL, TOOLS = 1024, 8, 32, 1024
KEY, TEXT, NUMBER = 6, 2, 24
"""In values that nobody reads: around a name, around a text, and a number, `true` or null."""


def asked(*parts: Any, **fields: Any) -> GenerateRequest:
    return GenerateRequest("m", (Message(Role.USER, parts),), **fields)


def opaque(value: Any) -> int:
    """What such a part counts."""
    return prompt_bound(asked(OpaquePart("w", value))) - REQUEST - MESSAGE


# --- messages and tools -----------------------------------------------------------------------


def test_all_that_is_in_a_message_counts_beside_its_parts() -> None:
    message = Message(
        Role.ASSISTANT,
        (TextPart("four"),),
        name="bob",
        reasoning="because",
        tool_calls=(ToolCall("id", "get", '{"a":1}', extra={"k": "v"}),),
        extra={"mood": "ok"},
    )
    call = TOOL + len("get") + len('{"a":1}') + len("id") + (len("k") + KEY) + (len("v") + TEXT)
    extra = (len("mood") + KEY) + (len("ok") + TEXT)
    inside = MESSAGE + len("four") + len("bob") + len("because") + call + extra
    assert prompt_bound(GenerateRequest("m", (message,))) == REQUEST + inside
    assert prompt_bound(GenerateRequest("m", (message, message))) == REQUEST + 2 * inside


def test_native_blocks_count_where_they_are_more_with_a_message_around_them() -> None:
    blocks = ({"text": "x" * 50},)
    counted = MESSAGE + TEXT * len(blocks) + (len("text") + KEY) + (50 + TEXT)
    native = NativeBlocks("anthropic_messages", blocks)
    message = Message(Role.ASSISTANT, (TextPart("short"),), native=native)
    assert prompt_bound(GenerateRequest("m", (message,))) == REQUEST + counted


def test_tools_count_by_all_of_their_texts_and_once_together() -> None:
    tool = Tool("look", "Looks it up.", b'{"type":"object"}')
    one = TOOL + len("look") + len("Looks it up.") + len(b'{"type":"object"}')
    base = REQUEST + MESSAGE + 1
    assert prompt_bound(asked(TextPart("x"), tools=(tool,))) == base + TOOLS + one
    assert prompt_bound(asked(TextPart("x"), tools=(tool, tool))) == base + TOOLS + 2 * one


def test_a_tool_of_the_provider_counts_its_words_and_what_it_brings_in() -> None:
    tool = Tool("web_search", "", b"", opaque={"type": "web"})
    words = (len("type") + KEY) + (len("web") + TEXT)
    one = TOOL + len("web_search") + words + bounds.PROVIDER_TOOL_TOKENS
    assert prompt_bound(asked(TextPart("x"), tools=(tool,))) == REQUEST + MESSAGE + 1 + TOOLS + one


def test_a_schema_counts_its_bytes_and_its_description() -> None:
    shape = ResponseFormat("json_schema", name="n", schema_json=b'{"a":1}', description="Why")
    found = prompt_bound(asked(TextPart("x"), response_format=shape))
    assert found == REQUEST + MESSAGE + 1 + TOOLS + len(b'{"a":1}') + len("Why")
    long = ResponseFormat("json_schema", name="n", schema_json=b"x" * 3_000, description="")
    found = prompt_bound(asked(TextPart("x"), response_format=long))
    assert found == REQUEST + MESSAGE + 1 + TOOLS + 3_000


# --- values that nobody reads -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ({}, 0),
        ({"é": None}, 2 + KEY + NUMBER),  # bytes, not letters
        ({"a": "bc"}, 1 + KEY + 2 + TEXT),
        ({"a": [1, True, "x"]}, 1 + KEY + 3 * TEXT + 2 * NUMBER + 1 + TEXT),
        ({"a": ("x", "y")}, 1 + KEY + 2 * TEXT + 2 * (1 + TEXT)),
        ({"a": {"b": 1.5}}, 1 + KEY + 1 + KEY + NUMBER),
    ],
)
def test_values_count_by_their_texts_and_names(value: Any, tokens: int) -> None:
    assert opaque(value) == tokens


SIZE = 12_000


@pytest.mark.parametrize(
    ("value", "tokens", "special"),
    [
        ({"type": "image", "source": "x" * 999}, 10_000, {"image_input", "cached_image"}),
        ({"type": "input_audio", "d": ["x" * 160, "x"]}, 256 + 10, {"audio_input", "cached_audio"}),
        ({"type": "document", "source": {"data": "x" * SIZE}}, 10_000 + SIZE, set()),
        ({"type": "file", "id": "f" * 9_999}, 200_000, set()),
        ({"type": "file", "id": "f" * 10_000}, 20_000, set()),
        (
            {"inlineData": {"mimeType": "image/png", "data": "x"}},
            10_000,
            {"image_input", "cached_image"},
        ),
        (
            {"inline_data": {"mime_type": "audio/wav", "data": "x" * 1600}},
            256 + 100,
            {"audio_input", "cached_audio"},
        ),
        ({"inlineData": {"mimeType": "video/mp4", "data": "x" * 70}}, 10_070, {"video_input"}),
        ({"inlineData": {"mimeType": "text/plain", "data": "x" * 70}}, 10_070, set()),
        ({"fileData": {"u": "v"}}, 200_000, {"audio_input", "cached_audio", "video_input"}),
        ({"file_data": 1}, 200_000, {"audio_input", "cached_audio", "video_input"}),
    ],
)
def test_media_in_a_clients_own_words(value: Any, tokens: int, special: set[str]) -> None:
    found = bound(asked(OpaquePart("w", value)), 100)
    assert found.prompt_tokens - REQUEST - MESSAGE == tokens
    assert found.special == special


@pytest.mark.parametrize(
    ("value", "is_long"),
    [
        ({"type": "image", "cache_control": {"ttl": "1h"}}, True),
        ({"type": "image", "cache_control": {"ttl": "5m"}}, False),
        ({"type": "document", "id": "f", "cache_control": {"ttl": "1h"}}, True),
        ({"deep": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, True),
        ({"deep": [{"cache_control": {"type": "ephemeral"}}]}, False),
    ],
)
def test_marks_of_an_hour_are_a_kind_of_their_own(value: Any, is_long: bool) -> None:
    assert ("long_cache_write" in bound(asked(OpaquePart("w", value)), 1).special) is is_long


def test_marks_of_our_own_parts_and_tools_count_too() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    marked = asked(TextPart("four", cache_control=hour))
    assert bound(marked, 1).special == {"long_cache_write"}
    assert prompt_bound(marked) == REQUEST + MESSAGE + 4
    tool = Tool("t", "", b"{}", cache_control=hour)
    assert bound(asked(TextPart("x"), tools=(tool,)), 1).special == {"long_cache_write"}


def test_files_count_their_decoded_bytes() -> None:
    data = base64.b64encode(b"x" * 3_000).decode()
    video = bound(asked(FilePart(media_type="video/mp4", data_base64=data)), 1)
    assert video.prompt_tokens == REQUEST + MESSAGE + 10_000 + 3_000
    assert video.special == {"video_input"}
    named = bound(asked(FilePart(media_type="application/pdf", file_id="f")), 1)
    assert (named.prompt_tokens, named.special) == (REQUEST + MESSAGE + 200_000, frozenset())


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"conversation": "c"}, 12 + KEY + 1 + TEXT + 200_000),
        ({"tools": []}, 5 + KEY + 50_000),
        ({"tools": [{}, {}, {}]}, 5 + KEY + 3 * TEXT + 3 * 50_000),
        ({"plugins": "p"}, 7 + KEY + 1 + TEXT + 50_000),
    ],
)
def test_fields_of_a_body_that_bring_things_in(body: dict[str, Any], tokens: int) -> None:
    found = prompt_bound(asked(TextPart("x"), extra=body, extra_wire="w"))
    assert found == REQUEST + MESSAGE + 1 + tokens


def test_vectors_count_each_input() -> None:
    embedding = EmbeddingOptions(texts=("four", "é"), tokens=())
    assert prompt_bound(GenerateRequest("m", (), embedding=embedding)) == 4 + 2 + 2 * MESSAGE
    tokens = EmbeddingOptions(texts=(), tokens=((1, 2, 3), (4,)))
    assert prompt_bound(GenerateRequest("m", (), embedding=tokens)) == 3 + 1 + 2 * MESSAGE


# --- the answer -------------------------------------------------------------------------------


def body_of(**fields: Any) -> GenerateRequest:
    return asked(TextPart("x"), extra=fields, extra_wire="w")


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        (asked(TextPart("x")), 500),
        (asked(TextPart("x"), sampling=Sampling(max_output_tokens=15)), 16),
        (asked(TextPart("x"), sampling=Sampling(max_output_tokens=17)), 17),
        (asked(TextPart("x"), sampling=Sampling(max_output_tokens=100, choices=3)), 300),
        (
            asked(
                TextPart("x"),
                sampling=Sampling(max_output_tokens=100, choices=2),
                reasoning=ReasoningOptions(budget_tokens=30),
            ),
            260,
        ),
        (asked(TextPart("x"), sampling=Sampling(choices=-2)), 500),
        (body_of(irrelevant=1), 500),
        (body_of(n=-2), 500),
        (body_of(max_tokens=700), 700),
        (body_of(max_tokens=700.2), 701),
        (body_of(max_tokens=True), 500),
        (body_of(max_tokens=300), 500),
        (body_of(n=4, max_tokens=600), 2400),
        (body_of(generationConfig={"maxOutputTokens": 100}), 100),
        (body_of(generationConfig={"maxOutputTokens": 100, "candidateCount": 2}), 200),
        (
            body_of(
                generationConfig={
                    "maxOutputTokens": 100,
                    "thinkingConfig": {"thinkingBudget": 40},
                }
            ),
            140,
        ),
        (body_of(thinking={"budget_tokens": 60}), 560),
        (body_of(reasoning={"max_tokens": 61}), 561),
        (body_of(thinking_budget=62), 562),
        (body_of(plugins=[]), 2000),
        (body_of(prediction="x" * 10), 512),
    ],
)
def test_the_answer_and_what_makes_it_longer(request_: GenerateRequest, tokens: int) -> None:
    assert output_bound(request_, 500) == tokens
