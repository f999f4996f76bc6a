"""Keys: what differs for a model differs, and nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cache.base import CacheScope
from relay.cache.key import DIGEST_BYTES, LEFT_OUT, Share, is_deterministic, key_of
from relay.content import (
    AudioPart,
    Budgets,
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    HedgeWish,
    ImagePart,
    Message,
    NativeBlocks,
    OpaquePart,
    Policy,
    ReasoningOptions,
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
from tests.cache.world import SCOPE, asked
from tests.fakes.properties import examples


def key(
    request: GenerateRequest,
    scope: CacheScope = SCOPE,
    *,
    share: Share = "tenant",
    epoch: int = 0,
    max_bytes: int = 1 << 20,
) -> bytes | None:
    return key_of(request, scope, share=share, epoch=epoch, max_bytes=max_bytes)


def said(*parts: Any, role: Role = Role.USER, **fields: Any) -> Message:
    return Message(role, parts, **fields)


BASE = asked()
CHANGES: dict[str, dict[str, Any]] = {
    "text": {"messages": (said(TextPart("Hello!")),)},
    "role": {"messages": (said(TextPart("Hello"), role=Role.SYSTEM),)},
    "kind of part": {"messages": (said(RefusalPart("Hello")),)},
    "image": {"messages": (said(TextPart("Hello"), ImagePart(url="https://x.test/a.png")),)},
    "another image": {
        "messages": (said(TextPart("Hello"), ImagePart(url="https://x.test/b.png")),)
    },
    "sound": {"messages": (said(TextPart("Hello"), AudioPart("AAAA", "wav")),)},
    "file": {"messages": (said(TextPart("Hello"), FilePart(file_id="f")),)},
    "marked text": {"messages": (said(TextPart("Hello", cache_control={"type": "e"})),)},
    "opaque part": {"messages": (said(TextPart("Hello"), OpaquePart("w", {"a": 1})),)},
    "split text": {"messages": (said(TextPart("Hel"), TextPart("lo")),)},
    "two messages": {"messages": (said(TextPart("Hel")), said(TextPart("lo")))},
    "name": {"messages": (said(TextPart("Hello"), name="ann"),)},
    "call": {"messages": (said(TextPart("Hello"), tool_calls=(ToolCall("1", "f", "{}"),)),)},
    "call id": {"messages": (said(TextPart("Hello"), tool_call_id="1"),)},
    "reasoning of a turn": {"messages": (said(TextPart("Hello"), reasoning="hm"),)},
    "extra of a turn": {"messages": (said(TextPart("Hello"), extra={"a": 1}),)},
    "native": {"messages": (said(TextPart("Hello"), native=NativeBlocks("w", ({"a": 1},))),)},
    "tools": {"tools": (Tool("f"),)},
    "tool's schema": {"tools": (Tool("f", parameters_json=b"{}"),)},
    "opaque tool": {"tools": (Tool("f", opaque={"type": "custom"}),)},
    "tool choice": {"tool_choice": ToolChoice(ToolChoiceMode.AUTO)},
    "named choice": {"tool_choice": ToolChoice(ToolChoiceMode.NAMED, "f")},
    "parallel": {"parallel_tool_calls": False},
    "one call": {"prefers_one_call": True},
    "format": {"response_format": ResponseFormat("json_object")},
    "schema": {"response_format": ResponseFormat("json_schema", schema_json=b"{}")},
    "temperature 0": {"sampling": Sampling(temperature=0.0)},
    "temperature 1": {"sampling": Sampling(temperature=1.0)},
    "seed": {"sampling": Sampling(seed=1)},
    "seed 0": {"sampling": Sampling(seed=0)},
    "length": {"sampling": Sampling(max_output_tokens=1)},
    "stop": {"sampling": Sampling(stop=("a", "b"))},
    "joined stop": {"sampling": Sampling(stop=("ab",))},
    "choices": {"sampling": Sampling(choices=2)},
    "effort": {"reasoning": ReasoningOptions(effort="low")},
    "tier": {"service_tier": "flex"},
    "thoughts": {"want_reasoning": False},
    "texts": {"messages": (), "embedding": EmbeddingOptions(texts=("Hello",))},
    "tokens": {"messages": (), "embedding": EmbeddingOptions(tokens=((1, 2),))},
    "split tokens": {"messages": (), "embedding": EmbeddingOptions(tokens=((1,), (2,)))},
    "further field": {"extra": {"logit_bias": {"1": 2}}},
    "further field's wire": {"extra": {"logit_bias": {"1": 2}}, "extra_wire": "ollama"},
    "further number": {"extra": {"logit_bias": {"1": 2.5}}},
    "true is not 1": {"extra": {"logit_bias": {"1": True}}},
    "text is not number": {"extra": {"logit_bias": {"1": "2"}}},
    "wire's field": {"native": {"w": {"a": 1}}},
    "other wire's field": {"native": {"v": {"a": 1}}},
}


def test_whatever_differs_has_another_key() -> None:
    keys = {name: key(replace(BASE, **change)) for name, change in CHANGES.items()}
    keys[""] = key(BASE)
    assert None not in keys.values()
    assert {len(found or b"") for found in keys.values()} == {DIGEST_BYTES}
    same = [(a, b) for a in keys for b in keys if a < b and keys[a] == keys[b]]
    assert not same


def test_every_field_of_a_request_is_in_the_key_or_left_out_by_name() -> None:
    """One that is new is in neither: decide."""
    changed = {name for change in CHANGES.values() for name in change}
    fields = {field.name for field in dataclasses.fields(GenerateRequest)}
    assert fields == changed | LEFT_OUT


def test_every_field_of_a_message_is_looked_at_before_it_is_told_in_short() -> None:
    assert {field.name for field in dataclasses.fields(Message)} == {
        "role",
        "parts",
        "name",
        "tool_calls",
        "tool_call_id",
        "reasoning",
        "extra",
        "native",
    }
    assert {field.name for field in dataclasses.fields(TextPart)} == {"text", "cache_control"}


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "another-name"},
        {"asked_as": "tag:cheap"},
        {"user": "ann"},
        {"prompt_cache_key": "k"},
        {"extra": {"metadata": {"call": "17"}, "safety_identifier": "ann", "user": "ann"}},
        {"sampling": Sampling()},
        {"sampling": Sampling(choices=1)},
        {"native": {"openai_responses": {}}},
        {
            "policy": Policy(
                budgets=Budgets(total_s=3),
                turn_id="t",
                tags=("a",),
                timeline=True,
                labels={"room": "1"},
                client="me/1",
                hedge=HedgeWish("off"),
                commit_on="first_segment",
                speculative=True,
                tenant="seen by the scope",
                key_id="seen by the scope",
                traceparent="00-1-1-01",
                prompt_cache="auto",
                idempotency_key="i",
                session_id="s",
                cache="refresh",
                cache_ttl_s=5,
            )
        },
    ],
)
def test_what_no_model_sees_does_not_matter(fields: dict[str, Any]) -> None:
    assert key(replace(BASE, **fields)) == key(BASE)


def test_one_number_has_one_spelling() -> None:
    for value in (0, 0.0, -0.0):
        sampling = Sampling(temperature=value)
        assert key(replace(BASE, sampling=sampling)) == key(
            replace(BASE, sampling=Sampling(temperature=0.0))
        )


def test_order_of_further_fields_does_not_matter_and_order_inside_does() -> None:
    def of(extra: Any) -> bytes | None:
        return key(replace(BASE, extra=extra))

    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1}) == of(MappingProxyType({"a": 1, "b": 2}))
    assert of({"a": {"x": 1, "y": 2}}) != of({"a": {"y": 2, "x": 1}})


def test_scope_is_part_of_it() -> None:
    others = [
        SCOPE._replace(tenant="other"),
        SCOPE._replace(route="other"),
        SCOPE._replace(zones="eu"),
        SCOPE._replace(version="v2"),
    ]
    assert len({key(BASE, scope) for scope in [SCOPE, *others]}) == 5
    assert key(BASE, epoch=1) != key(BASE)


def test_texts_cannot_move_from_one_field_into_the_next() -> None:
    assert key(BASE, SCOPE._replace(tenant="ab", route="c")) != key(
        BASE, SCOPE._replace(tenant="a", route="bc")
    )


def test_it_is_shared_as_the_operator_says() -> None:
    other_key, other_team = SCOPE._replace(key_id="k2"), SCOPE._replace(tenant="t2", key_id="k2")
    assert key(BASE) == key(BASE, other_key)
    assert key(BASE) != key(BASE, other_team)
    assert key(BASE, share="key") != key(BASE, other_key, share="key")
    assert key(BASE, share="key") != key(BASE, SCOPE._replace(tenant="t2"), share="key")
    assert key(BASE, share="everyone") == key(BASE, other_team, share="everyone")
    assert len({key(BASE), key(BASE, share="key"), key(BASE, share="everyone")}) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (Tool("", opaque={"type": "web_search"}),)},
        {"tools": (Tool("", opaque={"google_search": {}}),)},
        {"extra": {"store": True}},
        {"extra": {"web_search_options": {"a": 1}}},
        {"extra": {"previous_response_id": "resp_1"}},
        {"native": {"anthropic_messages": {"mcp_servers": [{"url": "https://x.test"}]}}},
        {"native": {"gemini": {"tools": [{"google_search": {}}]}}},
        {"extra": {"n": 2**70}},
        {"messages": (said(TextPart("\ud800")),)},
        {"messages": (said(TextPart("x" * (1 << 20))),)},
    ],
)
def test_some_requests_have_no_key(fields: dict[str, Any]) -> None:
    assert key(replace(BASE, **fields)) is None


def test_tools_that_the_client_runs_are_kept() -> None:
    for tool in (
        Tool("f", opaque={"type": "custom"}),
        Tool("f", opaque={"type": "function", "x": 1}),
        Tool("f", opaque={"name": "f", "defer_loading": True}),
    ):
        assert key(replace(BASE, tools=(tool,))) is not None


def test_deterministic_is_what_the_client_asked_for() -> None:
    assert is_deterministic(replace(BASE, sampling=Sampling(temperature=0)))
    assert is_deterministic(replace(BASE, sampling=Sampling(seed=0)))
    assert is_deterministic(asked(messages=(), embedding=EmbeddingOptions(("a",))))
    assert not is_deterministic(BASE)
    assert not is_deterministic(replace(BASE, sampling=Sampling(temperature=0.1)))


texts = st.text(st.sampled_from("ab\x00é"), max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
parts = st.one_of(
    st.builds(TextPart, texts),
    st.builds(RefusalPart, texts),
    st.builds(ImagePart, url=texts, detail=texts),
    st.builds(FilePart, file_id=texts, filename=texts),
    st.builds(AudioPart, texts, texts),
    st.builds(OpaquePart, texts, st.dictionaries(texts, json_values, max_size=2)),
)
messages = st.builds(
    Message,
    st.sampled_from(Role),
    st.lists(parts, max_size=2).map(tuple),
    name=texts,
    reasoning=texts,
)
requests = st.builds(
    GenerateRequest,
    st.just("fast"),
    st.lists(messages, max_size=2).map(tuple),
    tools=st.lists(st.builds(Tool, texts, texts), max_size=2).map(tuple),
    service_tier=texts,
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.sampled_from([0.0, 1.0]),
        stop=st.lists(texts, max_size=2).map(tuple),
    ),
    extra=st.dictionaries(texts, json_values, max_size=2),
)
scopes = st.builds(CacheScope, texts, texts, texts, texts, texts)


def _told(request: GenerateRequest, scope: CacheScope) -> str:
    """What a key stands for, spelt out by other means: `repr` tells types and kinds apart."""
    extra = sorted(request.extra.items())
    return repr((replace(request, extra={}), extra, scope.tenant, *scope[2:]))


@examples(100, full=1500)
@given(st.tuples(requests, scopes), st.tuples(requests, scopes))
def test_keys_are_equal_where_what_is_told_is(
    one: tuple[GenerateRequest, CacheScope], other: tuple[GenerateRequest, CacheScope]
) -> None:
    assert (key(*one) == key(*other)) == (_told(*one) == _told(*other))


@examples(100, full=1500)
@given(requests, st.data())
def test_any_change_of_a_request_changes_its_key(
    request: GenerateRequest, data: st.DataObject
) -> None:
    other = data.draw(requests)
    name = data.draw(st.sampled_from(["messages", "tools", "service_tier", "sampling", "extra"]))
    changed = replace(request, **{name: getattr(other, name)})
    is_same = _told(changed, SCOPE) == _told(request, SCOPE)
    assert (key(changed) == key(request)) == is_same
