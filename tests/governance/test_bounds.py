"""What a request can take at most, against what recorded ones took."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import (
    AudioPart,
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    NativeBlocks,
    OpaquePart,
    Policy,
    ReasoningOptions,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from relay.errors import RelayError
from relay.frontends import chat_body, messages_body, responses_body
from relay.governance import bounds
from relay.tokens import estimate_prompt_tokens
from tests.fakes import wire_corpus
from tests.fakes.properties import examples


def asked(*parts: Any, **fields: Any) -> GenerateRequest:
    return GenerateRequest("m", (Message(Role.USER, parts),), **fields)


BASE = bounds.REQUEST_TOKENS + bounds.MESSAGE_TOKENS


# --- recorded exchanges ---------------------------------------------------------------------


def _gemini(body: Mapping[str, Any]) -> GenerateRequest:
    """Its contents as parts that nobody reads, and all else as further fields."""
    contents = body.get("contents") or []
    return GenerateRequest(
        "m",
        tuple(
            Message(Role.USER, tuple(OpaquePart("gemini", part) for part in content["parts"]))
            for content in (contents if isinstance(contents, list) else [contents])
        ),
        extra={name: value for name, value in body.items() if name != "contents"},
        extra_wire="gemini",
    )


def _read(case: wire_corpus.Case) -> GenerateRequest | None:
    body = (case.meta.get("request") or {}).get("body")
    if not isinstance(body, dict) or "<elided" in json.dumps(body):
        return None
    try:
        if "contents" in body:
            return _gemini(body)
        if case.provider == "anthropic":
            return messages_body.to_request(body, needs_limit=False)
        if "responses" in case.provider:
            read = responses_body.to_request(
                {k: v for k, v in body.items() if k != "previous_response_id"}, Policy()
            )
            return read.request
        return chat_body.to_request({"model": "m", **body})
    except RelayError:
        return None  # a body that the relay's own surfaces refuse


def _counts(case: wire_corpus.Case) -> tuple[int, int] | None:
    """Tokens of prompt and answer as the provider says."""
    usage = case.expected.get("usage") or {}
    ours = case.expected.get("openai_usage") or {}
    prompt = ours.get("prompt_tokens") or usage.get("input_tokens")
    output = ours.get("completion_tokens") or usage.get("output_tokens")
    return None if prompt is None else (prompt, output or 0)


@pytest.mark.skipif(not wire_corpus.all_cases(), reason=wire_corpus.ABSENT)
def test_no_recorded_prompt_is_longer_than_its_bound() -> None:
    seen: Counter[str] = Counter()
    beyond: list[tuple[str, int, int]] = []
    for case in wire_corpus.all_cases():
        counts = _counts(case)
        if case.status >= 400 or counts is None or case.name.endswith("--composed"):
            continue
        request = _read(case)
        if request is None:
            continue
        prompt, output = counts
        seen[case.provider] += 1
        bound = bounds.bound(request, 1_000_000, models=(str(case.meta.get("model")),))
        if prompt > bound.prompt_tokens:
            beyond.append((case.name, prompt, bound.prompt_tokens))
        assert output <= bound.output_tokens, case.name
    assert beyond == []
    assert sum(seen.values()) > 250, seen


# --- text -----------------------------------------------------------------------------------


@examples(100)
@given(text=st.text(max_size=300))
def test_text_is_a_token_a_byte(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert bounds.prompt_bound(asked(TextPart(text))) == BASE + size


@examples(100)
@given(
    texts=st.lists(st.text(max_size=50), max_size=5),
    arguments=st.text(max_size=50),
    schema=st.binary(max_size=50),
)
def test_bound_is_never_below_the_estimate(texts: list[str], arguments: str, schema: bytes) -> None:
    request = GenerateRequest(
        "m",
        tuple(
            Message(
                Role.ASSISTANT,
                (TextPart(text),),
                tool_calls=(ToolCall("c", "f", arguments),),
                reasoning=text,
            )
            for text in texts
        ),
        tools=(Tool("f", "d", schema),),
    )
    assert bounds.prompt_bound(request) >= estimate_prompt_tokens(request)


def test_vectors_cost_what_goes_in() -> None:
    request = GenerateRequest("m", (), embedding=EmbeddingOptions(texts=("abc", "é")))
    assert bounds.bound(request, 4_096) == (5 + 2 * bounds.MESSAGE_TOKENS, 0, frozenset())
    tokens = GenerateRequest("m", (), embedding=EmbeddingOptions(tokens=((1, 2, 3),)))
    assert bounds.prompt_bound(tokens) == 3 + bounds.MESSAGE_TOKENS


# --- media ----------------------------------------------------------------------------------


def test_images_count_by_model_and_may_have_a_price_of_their_own() -> None:
    request = asked(ImagePart(url="https://x.test/a.png"), ImagePart(data_base64="A" * 400_000))
    bound = bounds.bound(request, 1, models=("gpt-4o",))
    assert bound.prompt_tokens == BASE + 2 * bounds.IMAGE_TOKENS
    assert bound.special == {"image_input", "cached_image"}
    dear = bounds.bound(request, 1, models=("gpt-4o", "gpt-4o-mini-2024-07-18"))
    assert dear.prompt_tokens == BASE + 2 * bounds.DEAR_IMAGE_TOKENS


def test_sound_counts_by_its_bytes() -> None:
    minute = base64.b64encode(bytes(6_000)).decode()  # of the thinnest codec there is
    bound = bounds.bound(asked(AudioPart(minute, "opus")), 1)
    assert bound.prompt_tokens == BASE + bounds.AUDIO_TOKENS + 375
    assert bound.special == {"audio_input", "cached_audio"}


def test_documents_and_what_is_named_only() -> None:
    inline = asked(FilePart(data_base64=base64.b64encode(bytes(3_000)).decode()))
    assert bounds.prompt_bound(inline) == BASE + bounds.FILE_TOKENS + 3_000
    assert bounds.prompt_bound(asked(FilePart(file_id="file-1"))) == BASE + bounds.UNSEEN_TOKENS


def test_blocks_of_a_clients_own_wire_count_where_they_are_more() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 100_000}}
    cached = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    message = Message(
        Role.USER, (TextPart("hello"),), native=NativeBlocks("anthropic_messages", (image, cached))
    )
    bound = bounds.bound(GenerateRequest("m", (message,)), 1)
    assert bounds.IMAGE_TOKENS < bound.prompt_tokens - BASE < bounds.IMAGE_TOKENS + 1_000
    assert bound.special == {"image_input", "cached_image", "long_cache_write"}


def test_marks_of_minutes_are_the_usual_kind() -> None:
    short = asked(TextPart("x", cache_control={"type": "ephemeral"}))
    assert bounds.bound(short, 1).special == frozenset()
    hour = asked(TextPart("x", cache_control={"type": "ephemeral", "ttl": "1h"}))
    assert bounds.bound(hour, 1).special == {"long_cache_write"}


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({"previous_response_id": "resp_1"}, bounds.UNSEEN_TOKENS),
        ({"web_search_options": {}}, bounds.PROVIDER_TOOL_TOKENS),
        ({"cachedContent": "cachedContents/x"}, bounds.UNSEEN_TOKENS),
    ],
)
def test_what_the_provider_brings_in(fields: dict[str, Any], least: int) -> None:
    assert bounds.prompt_bound(asked(TextPart("x"), extra=fields)) > BASE + least
    alone = asked(TextPart("x"), native={"openai_responses": fields})
    assert bounds.prompt_bound(alone) > BASE + least


def test_tools_of_the_provider_bring_things_in_and_ours_do_not() -> None:
    search = Tool("", opaque={"type": "web_search_20250305"})
    ours = Tool("f", "says", b"{}")
    assert bounds.prompt_bound(asked(TextPart("x"), tools=(search,))) > 50_000
    assert bounds.prompt_bound(asked(TextPart("x"), tools=(ours,))) < 3_000


# --- the answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 4_096),
        ({"sampling": Sampling(max_output_tokens=100)}, 100),
        ({"sampling": Sampling(max_output_tokens=100, choices=3)}, 300),
        ({"sampling": Sampling(choices=3)}, 3 * 4_096),
        ({"sampling": Sampling(max_output_tokens=1)}, 16),
        ({"tools": (Tool("", opaque={"type": "web_search"}),)}, 4 * 4_096),
        ({"native": {"gemini": {"tools": [{"urlContext": {}}]}}}, 4 * 4_096),
        ({"reasoning": ReasoningOptions(budget_tokens=2_000)}, 6_096),
        ({"extra": {"thinking": {"type": "enabled", "budget_tokens": 2_000}}}, 6_096),
        ({"extra": {"reasoning": {"max_tokens": 2_000}}}, 6_096),
        ({"extra": {"thinking_budget": 2_000}}, 6_096),
        ({"extra": {"reasoning": "high", "thinking_budget": True}}, 4_096),
        ({"native": {"gemini": {"generationConfig": {"maxOutputTokens": 9_000}}}}, 9_000),
        ({"extra": {"generationConfig": {"candidateCount": 4}}}, 4 * 4_096),
        (
            {"extra": {"generationConfig": {"thinkingConfig": {"thinkingBudget": 500}}}},
            4_596,
        ),
        ({"extra": {"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}}, 4_096),
        # As hosts read them that know no case, take texts for numbers, or Protobuf's own names.
        ({"extra": {"Max_New_Tokens": 9_000}}, 9_000),
        ({"extra": {"max_new_tokens": 9_000, "Max_New_Tokens": 1}}, 9_000),
        ({"extra": {"max_new_tokens": "9000"}}, 9_000),
        ({"extra": {"best_of": " 5 "}}, 5 * 4_096),
        ({"extra": {"best_of": "five", "max_new_tokens": "nan"}}, 4_096),
        ({"extra": {"max_new_tokens": "9" * 30}}, 10**12),
        ({"extra": {"Web_Search_Options": {}}}, 4 * 4_096),
        ({"extra": {"generationConfig": {"candidateCount": "4"}}}, 4 * 4_096),
        ({"extra": {"generationConfig": {"candidate_count": 4}}}, 4 * 4_096),
        ({"extra": {"generationConfig": {"max_output_tokens": "9000"}}}, 9_000),
        (
            {
                "sampling": Sampling(max_output_tokens=100),
                "extra": {"generationConfig": {"maxOutputTokens": 9_000}},
            },
            100,
        ),
        ({"extra": {"additionalModelRequestFields": {"max_gen_len": 9_000}}}, 9_000),
        ({"extra": {"additionalModelRequestFields": {"thinking": {"budget_tokens": 9}}}}, 4_105),
        ({"extra": {"Thinking": {"Budget_Tokens": "2000"}}}, 6_096),
        ({"extra": {"metadata": {"n": 50, "max_tokens": 10**6}}}, 4_096),
    ],
)
def test_output(fields: dict[str, Any], most: int) -> None:
    assert bounds.output_bound(asked(TextPart("x"), **fields), 4_096) == most


def test_a_foretold_answer_is_paid_if_it_does_not_come() -> None:
    extra = {"prediction": {"type": "content", "content": "y" * 1_000}}
    most = bounds.output_bound(asked(TextPart("x"), extra=extra), 100)
    assert 1_100 <= most < 1_200


def test_answers_in_sound_have_a_price_of_their_own() -> None:
    spoken = asked(TextPart("x"), extra={"modalities": ["text", "audio"]})
    assert bounds.bound(spoken, 1).special == {"audio_output"}
    drawn = asked(
        TextPart("x"), extra={"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}
    )
    assert bounds.bound(drawn, 1).special == {"image_output"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("type", "data", "ttl", "inlineData", "x")), inner)
    ),
    max_leaves=12,
)


@examples(150, full=5_000)
@given(fields=st.dictionaries(st.text(max_size=8), _JSON, max_size=4), value=_JSON)
def test_nothing_that_a_client_may_send_breaks_it(fields: dict[str, Any], value: Any) -> None:
    request = asked(OpaquePart("x", {"value": value}), extra={**fields, "generationConfig": value})
    bound = bounds.bound(request, 10)
    assert bound.prompt_tokens >= BASE
    assert bound.output_tokens >= 16
