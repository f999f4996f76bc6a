"""Messages bodies: what they become, and how wrong ones are refused."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given

from relay.codecs.registry import BUILDERS
from relay.content import (
    FilePart,
    GenerateRequest,
    ImagePart,
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
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest, UnsupportedFeature
from relay.frontends import messages_state
from relay.frontends.chat_body import decode_json
from relay.frontends.messages_body import to_request
from relay.frontends.messages_content import WIRE
from tests.docs.wires import COLUMNS
from tests.fakes.odd_json import bodies
from tests.fakes.properties import examples

HELLO = [{"role": "user", "content": "Hello"}]
PLAIN: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": HELLO}
MARK = {"type": "ephemeral", "ttl": "1h"}


def read(**fields: Any) -> GenerateRequest:
    return to_request({**PLAIN, **fields})


def messages_of(*turns: dict[str, Any]) -> tuple[Message, ...]:
    return read(messages=list(turns)).messages


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
SIGNED = {
    "type": "reasoning.text",
    "text": "Hm.",
    "signature": "sig",
    "format": "anthropic-claude-v1",
    "index": 0,
}


def test_a_plain_request() -> None:
    request = to_request(PLAIN)
    assert request.model == "m"
    assert request.messages == (Message(Role.USER, (TextPart("Hello"),)),)
    assert request.sampling == Sampling(max_output_tokens=100)
    assert request.extra == {}
    assert request.extra_wire == WIRE
    assert not request.want_reasoning, "it was not asked for"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.5}, Sampling(0.5, max_output_tokens=100)),
        ({"top_p": 1}, Sampling(top_p=1.0, max_output_tokens=100)),
        ({"top_k": 40}, Sampling(top_k=40, max_output_tokens=100)),
        ({"stop_sequences": ["a", "b"]}, Sampling(max_output_tokens=100, stop=("a", "b"))),
        ({"stop_sequences": None, "top_k": None}, Sampling(max_output_tokens=100)),
    ],
)
def test_sampling(fields: dict[str, Any], expected: Sampling) -> None:
    assert read(**fields).sampling == expected


def test_what_says_who_and_how_dear() -> None:
    assert read(metadata={"user_id": "u1"}).user == "u1"
    assert read(service_tier="auto").service_tier == "auto"
    assert read(service_tier="standard_only").service_tier == "default"


def test_unknown_fields_stay_with_this_wire() -> None:
    request = read(container="c", brand_new={"a": 1}, nothing=None, api_key="k", stream=True)
    assert request.extra == {"container": "c", "brand_new": {"a": 1}}
    assert request.extra_on(WIRE) == request.extra
    assert request.extra_on("openai_chat") == {}


def test_betas_stand_where_the_codec_looks_for_them() -> None:
    assert to_request(PLAIN, betas=["a", "b"]).extra == {"anthropic_beta": ["a", "b"]}


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        ("Be kind.", (TextPart("Be kind."),)),
        ([text("A"), text("B", cache_control=MARK)], (TextPart("A"), TextPart("B", MARK))),
    ],
)
def test_system(system: object, parts: tuple[TextPart, ...]) -> None:
    request = read(system=system)
    assert request.messages[0] == Message(Role.SYSTEM, parts)
    assert request.messages[1].role is Role.USER


def test_no_system() -> None:
    assert len(read(system="").messages) == 1
    assert len(read(system=None).messages) == 1


def test_system_among_the_messages() -> None:
    assert messages_of({"role": "system", "content": "Now."}, *HELLO)[0].role is Role.SYSTEM


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (text("Hi", cache_control=MARK), TextPart("Hi", MARK)),
        (text("Hi", citations=None), TextPart("Hi")),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/JPG", "data": "AAAA"},
                "cache_control": MARK,
            },
            ImagePart(data_base64="AAAA", media_type="image/jpeg", cache_control=MARK),
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
            ImagePart(url="https://a/b.png"),
        ),
        (
            {"type": "document", "source": PDF, "title": "T"},
            FilePart(filename="T", data_base64="JVBE", media_type="application/pdf"),
        ),
        (
            {"type": "document", "source": {"type": "text", "data": "é"}},
            FilePart(data_base64=base64.b64encode("é".encode()).decode(), media_type="text/plain"),
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            FilePart(file_id="file_1"),
        ),
    ],
)
def test_parts(block: dict[str, Any], part: object) -> None:
    assert messages_of(user(block))[0].parts == (part,)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "search_result", "source": "s", "title": "t", "content": []},
        {"type": "container_upload", "file_id": "f"},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
        {"type": "document", "source": PDF, "citations": {"enabled": True}},
        {"type": "of_tomorrow"},
    ],
)
def test_blocks_that_only_this_wire_has(block: dict[str, Any]) -> None:
    assert messages_of(user(block))[0].parts == (OpaquePart(WIRE, block),)


def test_results_come_before_what_the_user_says() -> None:
    found = messages_of(
        user(
            text("And now?"),
            {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
            {
                "type": "tool_result",
                "tool_use_id": "b",
                "is_error": True,
                "cache_control": MARK,
                "content": [
                    text("no"),
                    {"type": "image", "source": {"type": "url", "url": "https://a"}},
                ],
            },
            {"type": "tool_result", "tool_use_id": "c"},
        )
    )
    assert found == (
        Message(Role.TOOL, (TextPart("rain"),), tool_call_id="a"),
        Message(
            Role.TOOL,
            (TextPart("no"), ImagePart(url="https://a")),
            tool_call_id="b",
            extra={"is_error": True, "cache_control": MARK},
        ),
        Message(Role.TOOL, (), tool_call_id="c"),
        Message(Role.USER, (TextPart("And now?"),)),
    )


def test_an_assistant_that_calls_tools() -> None:
    (found,) = messages_of(assistant(text("Let me see."), {**USE, "cache_control": MARK}))
    assert found.parts == (TextPart("Let me see."),)
    assert found.tool_calls == (
        ToolCall("toolu_1", "weather", '{"city":"Ulm"}', extra={"cache_control": MARK}),
    )
    assert found.native is None, "the fields say it all"


def test_thinking_goes_where_codecs_look_for_it() -> None:
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    (found,) = messages_of(assistant(THOUGHT, hidden, text("Yes."), USE))
    assert found.reasoning == "Hm."
    assert found.extra["reasoning_details"] == [
        SIGNED,
        {
            "type": "reasoning.encrypted",
            "data": "xyz",
            "format": "anthropic-claude-v1",
            "index": 1,
        },
    ]
    assert found.native is None


def test_thinking_without_a_signature_is_text_for_those_who_want_it() -> None:
    (found,) = messages_of(assistant({"type": "thinking", "thinking": "Hm."}, text("Yes.")))
    assert found.reasoning == "Hm."
    assert found.extra == {}


@pytest.mark.parametrize(
    "blocks",
    [
        [text("One."), THOUGHT, text("Two.")],
        [USE, text("Two.")],
        [text("One.", citations=[{"type": "char_location"}])],
        [{**USE, "caller": {"type": "direct"}}],
    ],
)
def test_blocks_stay_where_the_fields_cannot_tell_them(blocks: list[dict[str, Any]]) -> None:
    (found,) = messages_of(assistant(*blocks))
    assert found.native == NativeBlocks(WIRE, tuple(blocks))


def test_state_of_other_wires_comes_back_as_it_was() -> None:
    own = {"output_items": [{"format": "f", "item": {}}], "converse_blocks": [{"block": {}}]}
    state = {**own, "base_url": "http://evil"}
    data = messages_state.pack(state, {"toolu_1": {"extra_content": {"google": {}}}})
    (found,) = messages_of(assistant(text("Hi."), USE, {"type": "redacted_thinking", "data": data}))
    assert found.extra == own
    assert found.tool_calls[0].extra == {"extra_content": {"google": {}}}
    assert found.native is None


@pytest.mark.parametrize(
    ("item", "tool"),
    [
        (
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True},
            Tool("f", "d", b'{"type":"object"}', True, opaque_wire=WIRE),
        ),
        (
            {"type": "custom", "name": "f", "input_schema": {}, "cache_control": MARK},
            Tool("f", parameters_json=b"{}", cache_control=MARK, opaque_wire=WIRE),
        ),
    ],
)
def test_tools(item: dict[str, Any], tool: Tool) -> None:
    assert read(tools=[item]).tools == (tool,)


def test_a_tool_with_fields_that_only_this_wire_knows_is_read_all_the_same() -> None:
    item = {"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}
    (tool,) = read(tools=[item]).tools
    assert (tool.name, tool.parameters_json, tool.opaque) == ("f", b'{"type":"object"}', item)


def test_a_tool_of_the_provider() -> None:
    item = {"type": "web_search_20250305", "name": "web_search"}
    assert read(tools=[item]).tools == (Tool("web_search", opaque=item, opaque_wire=WIRE),)


@pytest.mark.parametrize(
    ("given", "choice", "is_parallel"),
    [
        ({"type": "auto"}, ToolChoice(ToolChoiceMode.AUTO), None),
        ({"type": "any"}, ToolChoice(ToolChoiceMode.REQUIRED), None),
        ({"type": "none"}, ToolChoice(ToolChoiceMode.NONE), None),
        ({"type": "tool", "name": "f"}, ToolChoice(ToolChoiceMode.NAMED, "f"), None),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            ToolChoice(ToolChoiceMode.AUTO),
            False,
        ),
        (
            {"type": "any", "disable_parallel_tool_use": False},
            ToolChoice(ToolChoiceMode.REQUIRED),
            True,
        ),
    ],
)
def test_tool_choice(given: dict[str, Any], choice: ToolChoice, is_parallel: bool | None) -> None:
    request = read(tool_choice=given)
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, is_parallel)


@pytest.mark.parametrize(
    ("fields", "told", "is_shown"),
    [
        ({}, ReasoningOptions(), False),
        ({"thinking": {"type": "disabled"}}, ReasoningOptions(budget_tokens=0), False),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            ReasoningOptions(budget_tokens=2048),
            True,
        ),
        ({"thinking": {"type": "adaptive"}}, ReasoningOptions(budget_tokens=8192), True),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            ReasoningOptions(budget_tokens=8192),
            False,
        ),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            ReasoningOptions("high"),
            True,
        ),
        ({"thinking": {"type": "between_tools"}}, ReasoningOptions(budget_tokens=8192), True),
        ({"output_config": {"effort": "low"}}, ReasoningOptions("low"), False),
    ],
)
def test_thinking(fields: dict[str, Any], told: ReasoningOptions, is_shown: bool) -> None:
    request = read(**fields)
    assert (request.reasoning, request.want_reasoning) == (told, is_shown)
    assert request.extra == fields, "Claude gets the client's own words"


OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CLOSED = {**OPEN, "additionalProperties": False}


@pytest.mark.parametrize(
    ("fields", "schema", "strict"),
    [
        ({"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}, OPEN, None),
        ({"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}, CLOSED, True),
        ({"output_format": {"type": "json_schema", "schema": CLOSED}}, CLOSED, True),
    ],
)
def test_structured_output(
    fields: dict[str, Any], schema: dict[str, Any], strict: bool | None
) -> None:
    request = read(**fields)
    assert request.response_format == ResponseFormat(
        "json_schema", schema_json=orjson.dumps(schema), strict=strict
    )
    assert request.extra == {}


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"model": None}, "model", "is required"),
        ({"model": 1}, "model", "must be a string"),
        ({"max_tokens": None}, "max_tokens", "is required"),
        ({"max_tokens": "many"}, "max_tokens", "must be an integer"),
        ({"max_tokens": True}, "max_tokens", "must be an integer"),
        ({"max_tokens": 0}, "max_tokens", "between"),
        ({"messages": None}, "messages", "is required"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": ["x"]}, "messages[0]", "must be an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "user or assistant"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is required"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "string or an"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0].type", "is required"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text", "is required"),
        (
            {"messages": [user({"type": "image", "source": {"type": "base64", "data": "A"}})]},
            "messages[0].content[0].source.media_type",
            "is required",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "url", "url": "file:x"}})]},
            "messages[0].content[0].source.url",
            "http",
        ),
        (
            {"messages": [user({"type": "tool_result"})]},
            "messages[0].content[0].tool_use_id",
            "is required",
        ),
        (
            {"messages": [assistant({**USE, "input": "x"})]},
            "messages[0].content[0].input",
            "must be an object",
        ),
        (
            {"messages": [assistant({"type": "redacted_thinking", "data": "rtrelay.1.!"})]},
            "messages[0].content[0].data",
            "gave it out",
        ),
        ({"system": [{"type": "image"}]}, "system[0].type", "must be text"),
        ({"system": 5}, "system", "string or an array"),
        ({"tools": {}}, "tools", "must be an array"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "is required"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "is required"),
        ({"tool_choice": "auto"}, "tool_choice", "must be an object"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type", "auto, any"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "is required"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is required"),
        ({"thinking": {"display": "omitted"}}, "thinking.type", "is required"),
        ({"temperature": "hot"}, "temperature", "must be a number"),
        ({"stop_sequences": [1]}, "stop_sequences", "strings"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id", "must be a string"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type", "json_sch"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema", "is required"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        read(**fields)
    assert caught.value.field == field


def test_counting_needs_no_limit() -> None:
    request = to_request({"model": "m", "messages": HELLO}, needs_limit=False)
    assert request.sampling.max_output_tokens is None


def test_what_is_many_is_bounded() -> None:
    with pytest.raises(InvalidRequest, match="2000"):
        messages_of(user(*[text("x")] * 2_001))
    with pytest.raises(InvalidRequest, match="256"):
        messages_of(assistant(*[USE] * 257))


def test_what_is_hidden_in_state_counts_too() -> None:
    data = messages_state.pack({"output_items": [0] * 60_000}, {})
    block = {"type": "redacted_thinking", "data": data}
    assert messages_of(assistant(block))[0].extra
    with pytest.raises(InvalidRequest, match="JSON values"):
        messages_of(assistant(block, block))


# --- any JSON at all ----------------------------------------------------------------------------

TEMPLATES: list[dict[str, Any]] = [
    {**PLAIN, "system": [text("A")], "stop_sequences": ["x"], "metadata": {"user_id": "u"}},
    {
        **PLAIN,
        "messages": [
            user(text("Hi"), {"type": "image", "source": {"type": "url", "url": "https://a"}}),
            assistant(THOUGHT, text("Yes."), USE),
            user({"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("x")]}),
            assistant(USE, {"type": "redacted_thinking", "data": messages_state.pack({}, {})}),
        ],
        "tools": [{"name": "f", "input_schema": OPEN, "strict": True}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    },
    {
        **PLAIN,
        "messages": [user({"type": "document", "source": PDF})],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": CLOSED}},
    },
]


@examples(300)
@given(body=bodies(TEMPLATES))
def test_any_body_is_read_or_refused_by_name(body: bytes) -> None:
    try:
        request = to_request(decode_json(body))
    except InvalidRequest:
        return
    for wire, provider, model in COLUMNS:
        codec = BUILDERS[wire]({}, provider)()
        with contextlib.suppress(InvalidRequest, UnsupportedFeature):
            codec.encode_request(request, model)
