"""OpenAI chat bodies as neutral requests: what clients in use send, and what nobody may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.openai_chat import build_openai_chat
from relay.content import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    OpaquePart,
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
from relay.errors import InvalidRequest, RelayError
from relay.frontends.chat_body import MAX_DEPTH, check_depth, decode_json, to_request
from relay.frontends.limits import (
    MAX_CALLS,
    MAX_MESSAGE_CALLS,
    MAX_MESSAGE_PARTS,
    MAX_MESSAGES,
    MAX_NODES,
    MAX_PARTS,
    MAX_STOPS,
    MAX_TOOLS,
    Allowance,
)
from tests.fakes.properties import examples

HELLO = {"role": "user", "content": "Hello"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [HELLO], **fields}


# --- JSON -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"1", b'"x"', b"null", b"{'a': 1}", b"\xff", b'{"a":NaN}']
)
def test_body_is_a_json_object(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_json(data)


@pytest.mark.parametrize(
    ("depth", "is_right"), [(MAX_DEPTH - 1, True), (MAX_DEPTH + 1, False), (5000, False)]
)
def test_nesting_is_bounded(depth: int, is_right: bool) -> None:
    data = b'{"a":' * depth + b"1" + b"}" * depth
    if is_right:
        decode_json(data)
    else:
        with pytest.raises(InvalidRequest):
            decode_json(data)


def test_position_of_a_syntax_error_is_told_but_not_its_text() -> None:
    with pytest.raises(InvalidRequest) as raised:
        decode_json(b'{"model": "m",\n "messages": [secret]}')
    assert "line 2" in raised.value.public_message
    assert "secret" not in raised.value.public_message
    assert raised.value.__cause__ is None


# --- what clients send ----------------------------------------------------------------------


def test_body_of_livekit() -> None:
    request = to_request(
        body(
            stream=True,
            stream_options={"include_usage": True},
            temperature=0.7,
            parallel_tool_calls=True,
            tool_choice="auto",
            user="u",
            store=False,
            metadata={"k": "v"},
            max_completion_tokens=100,
            service_tier="priority",
            reasoning_effort="minimal",
            verbosity="low",
            prompt_cache_key="p",
            safety_identifier="s",
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "description": "d",
                        "parameters": {"type": "object"},
                        "strict": True,
                    },
                }
            ],
        )
    )
    assert request.model == "fast"
    assert request.sampling == Sampling(temperature=0.7, max_output_tokens=100)
    assert request.tools == (Tool("f", "d", b'{"type":"object"}', True),)
    assert request.tool_choice == ToolChoice(ToolChoiceMode.AUTO)
    assert request.parallel_tool_calls is True
    assert request.reasoning == ReasoningOptions("minimal")
    assert (request.user, request.service_tier, request.prompt_cache_key) == ("u", "priority", "p")
    assert request.extra == {
        "store": False,
        "metadata": {"k": "v"},
        "verbosity": "low",
        "safety_identifier": "s",
    }
    assert request.want_reasoning


def test_stream_options_beside_usage_go_on() -> None:
    options = {"include_usage": True, "include_obfuscation": False, "other": None}
    request = to_request(body(stream=True, stream_options=options))
    assert request.extra == {"stream_options": {"include_obfuscation": False}}
    encoded = build_openai_chat({}, "p")().encode_request(request, "m")
    sent = orjson.loads(encoded.body)["stream_options"]
    assert sent == {"include_obfuscation": False, "include_usage": True}


def test_body_of_pipecat() -> None:
    request = to_request(
        body(
            messages=[{"role": "developer", "content": "Be brief"}, HELLO],
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            seed=7,
            top_p=0.9,
            max_tokens=50,
            max_completion_tokens=None,
        )
    )
    assert request.messages[0] == Message(Role.DEVELOPER, (TextPart("Be brief"),))
    assert request.sampling == Sampling(
        top_p=0.9,
        seed=7,
        max_output_tokens=50,
        presence_penalty=-0.5,
        frequency_penalty=0.5,
    )


def test_fields_that_name_another_host_or_key_are_dropped() -> None:
    request = to_request(
        body(
            base_url="http://169.254.169.254",
            api_base="x",
            api_key="sk",
            api_version="1",
            extra_headers={"authorization": "x"},
            call={"id": 1},
        )
    )
    assert request.extra == {"call": {"id": 1}}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "Hi"}, TextPart("Hi")),
        ({"type": "refusal", "refusal": "No"}, RefusalPart("No")),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}},
            ImagePart(url="https://x/y", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ImagePart(data_base64="AAAA", media_type="image/png"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
            ImagePart(data_base64="AAAA", media_type="image/jpeg"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:IMAGE/PNG;base64,AAAA"}},
            ImagePart(data_base64="AAAA", media_type="image/png"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            AudioPart("AAAA", "wav"),
        ),
        ({"type": "file", "file": {"file_id": "f"}}, FilePart(file_id="f")),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            },
            FilePart(filename="a.pdf", data_base64="AAAA", media_type="application/pdf"),
        ),
        (
            {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}},
            TextPart("Hi", {"type": "ephemeral"}),
        ),
        (
            {"type": "text", "text": "Hi", "cache_control": None, "annotations": None},
            TextPart("Hi"),
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": "https://h/i.png"},
                "cache_control": {"a": 1},
            },
            ImagePart(url="https://h/i.png", cache_control={"a": 1}),
        ),
        (
            {"type": "text", "text": "Hi", "cache_control": {}, "odd": 1},
            OpaquePart(
                "openai_chat", {"type": "text", "text": "Hi", "cache_control": {}, "odd": 1}
            ),
        ),
        ({"type": "video_url", "x": 1}, OpaquePart("openai_chat", {"type": "video_url", "x": 1})),
    ],
)
def test_parts(part: dict[str, Any], expected: object) -> None:
    request = to_request(body(messages=[{"role": "user", "content": [part]}]))
    assert request.messages[0].parts == (expected,)


def test_messages_of_a_tool_loop() -> None:
    request = to_request(
        body(
            messages=[
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "reasoning_content": "Hm",
                    "extra_content": {"google": {"thought_signature": "x"}},
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{"},
                            "extra_content": {"s": 1},
                        },
                        {"id": "d", "function": {"name": "g", "arguments": {"parsed": True}}},
                        {"id": "e", "type": "custom", "custom": {"name": "sql", "input": "x"}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c", "content": "done"},
                {"role": "function", "name": "g", "content": "old style"},
                {"role": "assistant", "content": "x", "refusal": "No", "audio": {"id": "a"}},
            ]
        )
    )
    assert request.messages == (
        Message(
            Role.ASSISTANT,
            tool_calls=(
                ToolCall("c", "f", "{", extra={"extra_content": {"s": 1}}),
                ToolCall("d", "g", '{"parsed":true}'),
                ToolCall("e", "sql", "x", kind="custom"),
            ),
            reasoning="Hm",
            extra={"extra_content": {"google": {"thought_signature": "x"}}},
        ),
        Message(Role.TOOL, (TextPart("done"),), tool_call_id="c"),
        Message(Role.TOOL, (TextPart("old style"),), name="g"),
        Message(Role.ASSISTANT, (TextPart("x"), RefusalPart("No")), extra={"audio": {"id": "a"}}),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("auto", ToolChoice(ToolChoiceMode.AUTO)),
        ("none", ToolChoice(ToolChoiceMode.NONE)),
        ("required", ToolChoice(ToolChoiceMode.REQUIRED)),
        (
            {"type": "function", "function": {"name": "f"}},
            ToolChoice(ToolChoiceMode.NAMED, "f"),
        ),
        ({"function": {"name": "f"}}, ToolChoice(ToolChoiceMode.NAMED, "f")),
        ({"type": "x"}, ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "x"})),
    ],
)
def test_tool_choice(given: object, expected: ToolChoice | None) -> None:
    assert to_request(body(tool_choice=given)).tool_choice == expected


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "custom", "custom": {"name": "sql"}},
        {"type": "web_search"},
        {"type": "function", "function": {"name": "f", "odd": 1}, "cache_control": {}},
    ],
)
def test_tools_that_we_do_not_read_go_on_whole(tool: dict[str, Any]) -> None:
    (found,) = to_request(body(tools=[tool])).tools
    assert found.opaque == tool


def test_a_tool_that_goes_on_whole_goes_without_nulls() -> None:
    said = {"type": "function", "function": {"name": "f", "odd": 1}}
    nulls = {"description": None, "parameters": None}
    given = {**said, "function": {**said["function"], **nulls}, "cache_control": None}  # type: ignore[dict-item]
    (found,) = to_request(body(tools=[given])).tools
    assert found.opaque == said


def test_a_tool_without_a_type_is_a_function_if_it_has_one() -> None:
    given: list[dict[str, Any]] = [{"function": {"name": "f"}}, {"google_search": {}}]
    found = to_request(body(tools=given)).tools
    assert found == (Tool("f"), Tool("", opaque={"google_search": {}}))


def test_cache_marks_and_nulls_make_no_tool_unknown() -> None:
    mark = {"type": "ephemeral"}
    given = [
        {"type": "function", "function": {"name": "f"}, "cache_control": mark},
        {"type": "function", "function": {"name": "f", "cache_control": mark}},
        {"type": "function", "function": {"name": "f", "x": None}, "cache_control": None},
    ]
    assert to_request(body(tools=given)).tools == (
        Tool("f", cache_control=mark),
        Tool("f", cache_control=mark),
        Tool("f"),
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a", "cache_control": "x"}],
                    }
                ]
            },
            "messages[0].content[0].cache_control",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": 1}]},
            "tools[0].cache_control",
        ),
    ],
)
def test_a_cache_mark_is_an_object(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_request(body(**fields))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json_object")),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True},
            },
            ResponseFormat("json_schema", "n", "", b'{"a":1}', True),
        ),
    ],
)
def test_response_format(given: object, expected: ResponseFormat | None) -> None:
    assert to_request(body(response_format=given)).response_format == expected


@pytest.mark.parametrize(
    ("stop", "expected"), [(None, ()), ("a", ("a",)), (["a", "b"], ("a", "b")), ([], ())]
)
def test_stop(stop: object, expected: tuple[str, ...]) -> None:
    assert to_request(body(stop=stop)).sampling.stop == expected


# --- refused by path ------------------------------------------------------------------------

IN_MESSAGE = "messages[1]"
IN_PART = f"{IN_MESSAGE}.content[0]"
IN_CALL = f"{IN_MESSAGE}.tool_calls[0]"


def message(**fields: Any) -> dict[str, Any]:
    return body(messages=[HELLO, {"role": "assistant", **fields}])


def part(**fields: Any) -> dict[str, Any]:
    return message(content=[fields])


def call(**fields: Any) -> dict[str, Any]:
    return message(tool_calls=[fields])


WRONG: list[tuple[dict[str, Any], str]] = [
    (body(model=None), "model"),
    (body(model=""), "model"),
    (body(model=1), "model"),
    (body(messages=None), "messages"),
    (body(messages=[]), "messages"),
    (body(messages={}), "messages"),
    (body(messages=[HELLO] * (MAX_MESSAGES + 1)), "messages"),
    (body(messages=[HELLO, "x"]), "messages[1]"),
    (message(role="wizard"), f"{IN_MESSAGE}.role"),
    (message(role=[]), f"{IN_MESSAGE}.role"),
    (message(role=None), f"{IN_MESSAGE}.role"),
    (message(content=1), f"{IN_MESSAGE}.content"),
    (message(content=["x"]), IN_PART),
    (message(name=1), f"{IN_MESSAGE}.name"),
    (message(refusal=1), f"{IN_MESSAGE}.refusal"),
    (message(tool_call_id=1), f"{IN_MESSAGE}.tool_call_id"),
    (message(reasoning_content=1), f"{IN_MESSAGE}.reasoning_content"),
    (message(tool_calls={}), f"{IN_MESSAGE}.tool_calls"),
    (part(type=None), f"{IN_PART}.type"),
    (part(type="text"), f"{IN_PART}.text"),
    (part(type="text", text=1), f"{IN_PART}.text"),
    (part(type="refusal"), f"{IN_PART}.refusal"),
    (part(type="image_url", image_url="x"), f"{IN_PART}.image_url"),
    (part(type="image_url", image_url={}), f"{IN_PART}.image_url.url"),
    (part(type="image_url", image_url={"url": "file:///x"}), f"{IN_PART}.image_url.url"),
    (part(type="image_url", image_url={"url": "data:image/png,x"}), f"{IN_PART}.image_url.url"),
    (part(type="image_url", image_url={"url": "data:;base64"}), f"{IN_PART}.image_url.url"),
    (
        part(type="image_url", image_url={"url": "https://x", "detail": 1}),
        f"{IN_PART}.image_url.detail",
    ),
    (part(type="input_audio", input_audio={"data": "x"}), f"{IN_PART}.input_audio"),
    (part(type="file", file=None), f"{IN_PART}.file"),
    (part(type="file", file={"file_id": 1}), f"{IN_PART}.file.file_id"),
    (call(), f"{IN_CALL}.function"),
    (message(tool_calls=["x"]), IN_CALL),
    (call(id=1, function={"name": "f"}), f"{IN_CALL}.id"),
    (call(function={"arguments": "{}"}), f"{IN_CALL}.function.name"),
    (call(function={"name": "f", "arguments": 1}), f"{IN_CALL}.function.arguments"),
    (call(type="custom"), f"{IN_CALL}.custom"),
    (call(type="custom", custom={"input": 1}), f"{IN_CALL}.custom.input"),
    (body(tools={}), "tools"),
    (body(tools=["x"]), "tools[0]"),
    (body(tools=[{"type": "function"}]), "tools[0].function"),
    (body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (
        body(tools=[{"type": "function", "function": {"name": "f", "parameters": "x"}}]),
        "tools[0].function.parameters",
    ),
    (
        body(tools=[{"type": "function", "function": {"name": "f", "strict": "yes"}}]),
        "tools[0].function.strict",
    ),
    (body(tools=[{"type": {}, "function": {"name": "f"}}]), "tools[0].type"),
    (body(tool_choice={"type": {}, "function": {"name": "f"}}), "tool_choice.type"),
    (body(tool_choice="any"), "tool_choice"),
    (body(tool_choice=1), "tool_choice"),
    (body(tool_choice={"type": "function"}), "tool_choice.function"),
    (body(tool_choice={"type": "function", "function": {}}), "tool_choice.function.name"),
    (body(response_format="json"), "response_format"),
    (body(response_format={"type": "xml"}), "response_format.type"),
    (body(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (
        body(response_format={"type": "json_schema", "json_schema": {"schema": 1}}),
        "response_format.json_schema.schema",
    ),
    (body(temperature="hot"), "temperature"),
    (body(temperature=True), "temperature"),
    (body(temperature=-1), "temperature"),
    (body(top_p=1.1), "top_p"),
    (body(top_k=0.5), "top_k"),
    (body(max_tokens=0), "max_tokens"),
    (body(max_completion_tokens=-1), "max_completion_tokens"),
    (body(max_completion_tokens=True), "max_completion_tokens"),
    (body(n=0), "n"),
    (body(n=9), "n"),
    (body(seed=1.5), "seed"),
    (body(seed=2**64), "seed"),
    (body(presence_penalty=[]), "presence_penalty"),
    (body(logprobs=1), "logprobs"),
    (body(top_logprobs=-1), "top_logprobs"),
    (body(stop=[1]), "stop"),
    (body(stop={}), "stop"),
    (body(parallel_tool_calls=1), "parallel_tool_calls"),
    (body(reasoning_effort=1), "reasoning_effort"),
    (body(service_tier=1), "service_tier"),
    (body(user=1), "user"),
    (body(prompt_cache_key=1), "prompt_cache_key"),
]


@pytest.mark.parametrize(
    ("given", "field"), WRONG, ids=[f"{number} {field}" for number, (_, field) in enumerate(WRONG)]
)
def test_wrong_field_is_refused_by_its_path(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_request(given)
    assert raised.value.field == field
    assert field in raised.value.public_message


# --- how many -------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "x"}
CALL = {"id": "c", "function": {"name": "f"}}
FULL_OF_PARTS = {"role": "user", "content": [TEXT] * MAX_MESSAGE_PARTS}
FULL_OF_CALLS = {"role": "assistant", "tool_calls": [CALL] * MAX_MESSAGE_CALLS}
_PARTS_FIT, _CALLS_FIT = MAX_PARTS // MAX_MESSAGE_PARTS, MAX_CALLS // MAX_MESSAGE_CALLS

MOST: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (body(messages=[HELLO] * MAX_MESSAGES), body(messages=[{}] * (MAX_MESSAGES + 1)), "messages"),
    (
        body(messages=[FULL_OF_PARTS]),
        message(content=[{}] * (MAX_MESSAGE_PARTS + 1)),
        f"{IN_MESSAGE}.content",
    ),
    (
        body(messages=[FULL_OF_PARTS] * _PARTS_FIT),
        body(messages=[FULL_OF_PARTS] * (_PARTS_FIT + 1)),
        f"messages[{_PARTS_FIT}].content",
    ),
    (
        body(messages=[FULL_OF_CALLS]),
        message(tool_calls=[{}] * (MAX_MESSAGE_CALLS + 1)),
        f"{IN_MESSAGE}.tool_calls",
    ),
    (
        body(messages=[FULL_OF_CALLS] * _CALLS_FIT),
        body(messages=[FULL_OF_CALLS] * (_CALLS_FIT + 1)),
        f"messages[{_CALLS_FIT}].tool_calls",
    ),
    (body(tools=[{"type": "x"}] * MAX_TOOLS), body(tools=[{}] * (MAX_TOOLS + 1)), "tools"),
    (body(stop=["x"] * MAX_STOPS), body(stop=["x"] * (MAX_STOPS + 1)), "stop"),
]


@pytest.mark.parametrize(("most", "more", "field"), MOST, ids=[field for _, _, field in MOST])
def test_what_there_may_be_many_of_is_counted_before_it_is_built(
    most: dict[str, Any], more: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_request(most)

    def built(*_: object, **__: object) -> None:
        raise AssertionError("something was built of what is refused")

    if field in ("messages", f"{IN_MESSAGE}.content", f"{IN_MESSAGE}.tool_calls", "tools"):
        for name in ("_part", "_tool_call", "_tool"):
            monkeypatch.setattr(f"relay.frontends.chat_body.{name}", built)
    with pytest.raises(InvalidRequest) as raised:
        to_request(more)
    assert raised.value.field == field
    assert field in raised.value.public_message


def test_check_of_the_depth_goes_no_further_than_the_values_allowed() -> None:
    check_depth([[1] * (MAX_NODES - 1)], "it")
    with pytest.raises(InvalidRequest) as raised:
        check_depth({"a": [[1] * MAX_NODES]}, "it", "the.field")
    assert raised.value.field == "the.field"
    assert str(MAX_NODES) in raised.value.public_message


# --- anything at all ------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def near(*keys: str, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have our keys with anything in them."""
    return st.fixed_dictionaries(fixed, optional=dict.fromkeys(keys, anything))


parts = near(
    "text",
    "refusal",
    "image_url",
    "input_audio",
    "file",
    "cache_control",
    type=st.sampled_from(["text", "refusal", "image_url", "input_audio", "file", "x"]),
)
calls = near("id", "function", "custom", "index", "x", type=st.sampled_from(["function", "custom"]))
messages = near(
    "name",
    "tool_call_id",
    "refusal",
    "reasoning_content",
    "x",
    role=st.sampled_from(["user", "assistant", "tool", "function", "x"]),
    content=st.text(max_size=5) | st.lists(parts, max_size=2) | anything,
    tool_calls=st.none() | st.lists(calls, max_size=2) | anything,
)
tools = near("function", "x", type=st.sampled_from(["function", "custom"])) | anything
bodies = near(
    "tool_choice",
    "response_format",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "n",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "parallel_tool_calls",
    "service_tier",
    "user",
    "store",
    "stream_options",
    model=st.just("fast"),
    messages=st.lists(messages, min_size=1, max_size=2) | anything,
    tools=st.lists(tools, max_size=2) | st.none(),
)


@examples(300)
@given(bodies | anything)
def test_any_json_is_read_or_refused_and_can_be_sent_on(value: Any) -> None:
    try:
        data = orjson.dumps(value)
    except TypeError:
        return  # a number too large for JSON libraries, or half a character
    try:
        request = to_request(decode_json(data))
        build_openai_chat({}, "p")().encode_request(request, "m")
    except RelayError:
        pass


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ({"format": "f-v1f-v1f-v1", "id": "r1r1"}, {"format": "f-v1", "id": "r1"}),
        (
            {"format": "f-v1", "id": None, "text": "aa"},
            {"format": "f-v1", "id": None, "text": "aa"},
        ),
        ({"format": "", "id": "x"}, {"format": "", "id": "x"}),
        ({"format": "ab" * 20_000}, {"format": "ab" * 20_000}),
        ({"format": 7}, {"format": 7}),
        ("no entry", "no entry"),
    ],
)
def test_words_that_a_client_has_joined_are_said_once(entry: object, kept: object) -> None:
    message = {"role": "assistant", "content": "a", "reasoning_details": [entry]}
    request = to_request({"model": "m", "messages": [message]})
    assert request.messages[0].extra == {"reasoning_details": [kept]}
    assert message["reasoning_details"] == [entry]


# --- requests that only talk --------------------------------------------------------------------

_WORDS = st.text(max_size=20)
_TALK = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
                    "content": _WORDS,
                }
            ),
            min_size=1,
            max_size=5,
        ),
    },
    optional={
        "temperature": st.none() | st.floats(0, 2),
        "top_p": st.none() | st.floats(0, 1),
        "max_tokens": st.none() | st.integers(1, 1000),
        "max_completion_tokens": st.none() | st.integers(1, 1000),
        "stop": st.none() | _WORDS | st.lists(_WORDS, max_size=3),
        "n": st.none() | st.integers(1, 4),
        "stream": st.booleans(),
        "user": st.none() | _WORDS,
    },
)


@given(_TALK)
@examples(200, full=5000)
def test_a_body_that_only_talks_is_read_as_any_other(body: dict[str, Any]) -> None:
    """It is read by a shorter way; a field that says nothing sends it the long one."""
    messages = [{**item, "name": None} for item in body["messages"]]
    assert to_request(body) == to_request({**body, "messages": messages, "metadata": None})


@given(_TALK)
@examples(100, full=2000)
def test_a_message_that_is_a_text_is_sent_as_any_other(body: dict[str, Any]) -> None:
    request = to_request(body)
    codec = build_openai_chat({}, "lab")()
    sent = orjson.loads(codec.encode_request(request, "m").body)
    long_way = replace(
        request,
        messages=tuple(replace(one, extra={"is_error": False}) for one in request.messages),
        sampling=replace(request.sampling),
    )
    assert sent == orjson.loads(codec.encode_request(long_way, "m").body)


def test_few_values_need_no_look_at_their_depth() -> None:
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    body = b'{"a":' + nested + b"}"
    nodes = Allowance().take_json(body, "body")
    with pytest.raises(InvalidRequest, match="nested deeper"):
        decode_json(body, nodes=nodes)
