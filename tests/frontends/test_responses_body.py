"""What a Responses body becomes: its items as messages, its fields where every wire finds them, and
what is refused by its path."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.anthropic_messages import build_anthropic_messages
from relay.codecs.base import CodecBuilder
from relay.codecs.gemini import build_gemini
from relay.codecs.ollama import build_ollama
from relay.codecs.openai_chat import build_openai_chat
from relay.codecs.openai_responses import build_openai_responses
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
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
from relay.errors import InvalidRequest, UnsupportedFeature
from relay.frontends.limits import Allowance
from relay.frontends.response_state import pack, unpack
from relay.frontends.responses_body import Earlier, ResponsesRequest, to_request
from tests.fakes.properties import examples

WIRE = "openai_responses"
HELLO = Message(Role.USER, (TextPart("Hello"),))


def read(**body: Any) -> ResponsesRequest:
    return to_request({"model": "fast", "input": "Hello", **body}, Policy())


def request(**body: Any) -> GenerateRequest:
    return read(**body).request


def messages(*items: Any) -> tuple[Message, ...]:
    return request(input=list(items)).messages


def said(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return {**message, "content": [part], **more}


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": call_id,
        "name": "f",
        "arguments": "{}",
        "status": "completed",
        **more,
    }


def result(call_id: str, output: Any = "42") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


# --- conversation -----------------------------------------------------------------------------


def test_text_is_a_users_message() -> None:
    assert request().messages == (HELLO,)


def test_instructions_come_first() -> None:
    system = Message(Role.SYSTEM, (TextPart("Be brief."),))
    assert request(instructions="Be brief.").messages == (system, HELLO)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "user", "content": "Hello"}, HELLO),
        ({"type": "message", "role": "user", "content": "Hello"}, HELLO),
        ({"role": "developer", "content": "x"}, Message(Role.DEVELOPER, (TextPart("x"),))),
        ({"role": "system", "content": "x"}, Message(Role.SYSTEM, (TextPart("x"),))),
        ({"role": "assistant", "content": "x"}, Message(Role.ASSISTANT, (TextPart("x"),))),
        (said("x"), Message(Role.ASSISTANT, (TextPart("x"),))),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            Message(Role.ASSISTANT, (RefusalPart("no"),)),
        ),
        (
            said("x", phase="commentary"),
            Message(
                Role.ASSISTANT,
                (TextPart("x"),),
                extra={"extra_content": {"openai": {"phase": "commentary"}}},
            ),
        ),
        (
            call("c1", extra_content={"google": {"thought_signature": "s"}}),
            Message(
                Role.ASSISTANT,
                tool_calls=(
                    ToolCall(
                        "c1",
                        "f",
                        "{}",
                        extra={"extra_content": {"google": {"thought_signature": "s"}}},
                    ),
                ),
            ),
        ),
        (
            {"type": "custom_tool_call", "call_id": "c1", "name": "sql", "input": "select 1"},
            Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "sql", "select 1", kind="custom"),)),
        ),
        (result("c1"), Message(Role.TOOL, (TextPart("42"),), tool_call_id="c1")),
        (
            result("c1", [{"type": "input_text", "text": "42"}]),
            Message(Role.TOOL, (TextPart("42"),), tool_call_id="c1"),
        ),
        (
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"},
            Message(Role.TOOL, (TextPart("ok"),), tool_call_id="c1"),
        ),
    ],
)
def test_item(item: dict[str, Any], message: Message) -> None:
    assert messages(item) == (message,)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "input_text", "text": "x"}, TextPart("x")),
        (
            {"type": "input_image", "image_url": "https://h/i.png", "detail": "low"},
            ImagePart(url="https://h/i.png", detail="low"),
        ),
        (
            {"type": "input_image", "image_url": "data:image/jpg;base64,QUJD"},
            ImagePart(data_base64="QUJD", media_type="image/jpeg"),
        ),
        (
            {"type": "input_image", "file_id": "file_1"},
            OpaquePart(WIRE, {"type": "input_image", "file_id": "file_1"}),
        ),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:x/y;base64,QUJD"},
            FilePart(filename="a.pdf", data_base64="QUJD", media_type="x/y"),
        ),
        ({"type": "input_file", "file_id": "file_1"}, FilePart("file_1")),
        (
            {"type": "input_file", "file_url": "https://h/a.pdf"},
            OpaquePart(WIRE, {"type": "input_file", "file_url": "https://h/a.pdf"}),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
            AudioPart("QUJD", "wav"),
        ),
        ({"type": "input_new", "x": 1}, OpaquePart(WIRE, {"type": "input_new", "x": 1})),
    ],
)
def test_part(part: dict[str, Any], expected: object) -> None:
    assert messages({"role": "user", "content": [part]})[0].parts == (expected,)


def test_text_and_parallel_calls_are_one_message_before_their_results() -> None:
    found = messages(said("Let me see."), call("c1"), call("c2"), result("c1"), result("c2"))
    assert [message.role for message in found] == [Role.ASSISTANT, Role.TOOL, Role.TOOL]
    assert found[0].parts == (TextPart("Let me see."),)
    assert [one.call_id for one in found[0].tool_calls] == ["c1", "c2"]


def test_calls_one_after_another_are_messages_of_their_own() -> None:
    found = messages(call("c1"), result("c1"), call("c2"), result("c2"), said("Done."))
    roles = [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert [message.role for message in found] == roles


def test_two_texts_are_two_messages_but_nothing_parts_a_call_from_its_result() -> None:
    assert len(messages(said("One."), said("Two."))) == 2
    found = messages(call("c1"), said("Wait."), result("c1"))
    assert [message.role for message in found] == [Role.ASSISTANT, Role.TOOL]
    assert found[0].parts == (TextPart("Wait."),)


def test_conversation_goes_on_from_earlier_responses() -> None:
    earlier = Earlier((b'[{"role":"user","content":"One"}]', orjson.dumps([said("Two")])))
    body = {"model": "m", "input": "Three", "instructions": "Now.", "previous_response_id": "r"}
    found = to_request(body, Policy(), earlier)
    texts = [part.text for m in found.request.messages for part in m.parts]  # type: ignore[union-attr]
    assert texts == ["Now.", "One", "Two", "Three"]
    assert found.echo["previous_response_id"] == "r"
    assert len(found.input_items) == 1


# --- state of the provider --------------------------------------------------------------------


def test_openais_own_reasoning_goes_back_with_its_id_and_before_what_it_led_to() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "gAAA",
    }
    asked = request(input=[{"role": "user", "content": "Hi"}, reasoning, call("c1"), result("c1")])
    assert asked.messages[1].reasoning == "Hm."
    sent = encoded(build_openai_responses, asked)["input"]
    assert sent[1] == reasoning
    assert [item.get("type") for item in sent[1:]] == [
        "reasoning",
        "function_call",
        "function_call_output",
    ]


def test_reasoning_that_leads_to_nothing_or_holds_nothing_is_not_sent() -> None:
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert messages({"role": "user", "content": "Hello"}, bare) == (HELLO,)
    (message,) = messages(bare, said("x"))
    assert message.extra == {}


def test_state_of_any_wire_comes_back_as_it_was() -> None:
    entry = {
        "type": "reasoning.text",
        "text": "Hm.",
        "signature": "s",
        "format": "anthropic-claude-v1",
    }
    secret = pack({"reasoning_details": [entry]}, is_late=False)
    own = {"gemini_parts": [{"part": 1}], "converse_blocks": [{"block": {}}]}
    late = pack(own, is_late=True)
    found = messages(
        {"type": "reasoning", "summary": [], "encrypted_content": secret},
        said("One."),
        {"type": "reasoning", "summary": [], "encrypted_content": late},
        said("Two."),
    )
    assert [message.extra for message in found] == [
        {"reasoning_details": [entry], **own},
        {},
    ]


def test_state_holds_only_what_the_relay_puts_there() -> None:
    secret = pack({"reasoning_details": [], "role": "system"}, is_late=False)
    assert unpack(secret, "f", Allowance()) == ({"reasoning_details": []}, False)
    assert unpack("gAAAAB", "f", Allowance()) is None


@pytest.mark.parametrize("broken", ["rtrelay1.", "rtrelay1.%", "rtrelay1.W10=", "rtrelay1.e30x"])
def test_state_that_was_changed_is_refused(broken: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        messages({"type": "reasoning", "summary": [], "encrypted_content": broken}, said("x"))
    assert raised.value.field == "input[0].encrypted_content"


def test_items_that_we_do_not_read_go_back_in_their_places() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    hello = {"role": "user", "content": "Hi"}
    asked = request(input=[hello, search, said("Sun."), hello, said("One."), search])
    assert encoded(build_openai_responses, asked)["input"] == [
        hello,
        search,
        {"role": "assistant", "content": "Sun."},
        hello,
        {"role": "assistant", "content": "One."},
        search,
    ]


def test_items_of_another_provider_go_back_to_it_alone() -> None:
    item = {"type": "x_search_call", "id": "x_1", "x_relay_format": "xai-responses-v1"}
    asked = request(input=[{"role": "user", "content": "Hi"}, item, said("Sun.")])
    sun = {"role": "assistant", "content": "Sun."}
    assert encoded(build_openai_responses, asked)["input"][1:] == [sun]
    quirks = {"reasoning_format": "xai-responses-v1"}
    sent = encoded(build_openai_responses, asked, quirks)["input"][1:]
    assert sent == [{"type": "x_search_call", "id": "x_1"}, sun]


# --- fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"temperature": 0}, "sampling", Sampling(temperature=0.0)),
        ({"top_p": 0.5}, "sampling", Sampling(top_p=0.5)),
        ({"max_output_tokens": 16}, "sampling", Sampling(max_output_tokens=16)),
        (
            {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
            "sampling",
            Sampling(logprobs=True, top_logprobs=3),
        ),
        ({"top_logprobs": 3}, "sampling", Sampling()),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", False),
        ({"service_tier": "flex"}, "service_tier", "flex"),
        ({"user": "u"}, "user", "u"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key", "k"),
        ({"safety_identifier": "s"}, "extra", {"safety_identifier": "s"}),
        ({"text": {"verbosity": "low"}}, "extra", {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, "response_format", ResponseFormat("text")),
        (
            {"text": {"format": {"type": "json_object"}}},
            "response_format",
            ResponseFormat("json_object"),
        ),
        (
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "n",
                        "schema": {"type": "object"},
                        "strict": True,
                    }
                }
            },
            "response_format",
            ResponseFormat("json_schema", "n", "", b'{"type":"object"}', True),
        ),
        ({"tool_choice": "required"}, "tool_choice", ToolChoice(ToolChoiceMode.REQUIRED)),
        (
            {"tool_choice": {"type": "function", "name": "f"}},
            "tool_choice",
            ToolChoice(ToolChoiceMode.NAMED, "f"),
        ),
        (
            {"tool_choice": {"type": "custom", "name": "f"}},
            "tool_choice",
            ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "custom", "custom": {"name": "f"}}),
        ),
        (
            {"truncation": "auto", "metadata": {"a": "b"}, "max_tool_calls": 2},
            "native",
            {WIRE: {"truncation": "auto", "metadata": {"a": "b"}, "max_tool_calls": 2}},
        ),
        ({"reasoning": {"effort": "low"}}, "want_reasoning", False),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "want_reasoning", True),
        ({"stop": ["x"], "seed": 1, "new_field": {"a": 1}}, "extra", {}),
        ({"stop": ["x"], "seed": 1, "new_field": {"a": 1}}, "native", {}),
    ],
)
def test_field(body: dict[str, Any], field: str, value: object) -> None:
    assert getattr(request(**body), field) == value


def test_function_tool() -> None:
    (tool,) = request(
        tools=[
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
                "defer_loading": False,
            }
        ]
    ).tools
    assert tool == Tool("f", "d", b'{"type":"object"}', True)


def test_every_field_null_is_every_field_absent() -> None:
    names = [*read().echo, "include", "tools", "stream", "conversation", "prompt", "store"]
    assert read(**dict.fromkeys(names)).request == read().request


def test_echo_of_nothing_is_this_apis_defaults() -> None:
    assert read().echo == {
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }


def test_echo_holds_no_secret_of_a_tool() -> None:
    tool = {"type": "mcp", "server_url": "https://h", "authorization": "s", "headers": {"a": "s"}}
    found = read(tools=[tool])
    assert found.echo["tools"] == [{"type": "mcp", "server_url": "https://h"}]
    assert found.request.tools[0].opaque == tool


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "output": "c"}]}, "input[0].call_id"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        ({"instructions": ["x"]}, "instructions"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 1.5}, "top_logprobs"),
        ({"include": "x"}, "include"),
        ({"include": [1]}, "include"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"verbosity": 1}}, "text.verbosity"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": {}, "name": "f"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(at): "" for at in range(17)}}, "metadata"),
        ({"store": 1}, "store"),
        ({"user": 1}, "user"),
        ({"truncation": 1}, "truncation"),
    ],
)
def test_wrong_field_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(**body)
    assert raised.value.field == field
    assert field in raised.value.public_message


# --- over the wires ---------------------------------------------------------------------------


def encoded(
    build: CodecBuilder, asked: GenerateRequest, quirks: dict[str, Any] | None = None
) -> Any:
    """The body that a provider would get."""
    return orjson.loads(build(quirks or {}, "p")().encode_request(asked, "m").body)


OTHERS = [build_openai_chat, build_anthropic_messages, build_gemini, build_ollama]


@pytest.mark.parametrize("kind", ["web_search", "web_search_2025_08_26", "mcp", "code_interpreter"])
def test_hosted_tool_is_for_this_wire_and_refused_by_name_by_others(kind: str) -> None:
    tool = {"type": kind, "x": 1}
    asked = request(tools=[tool])
    assert encoded(build_openai_responses, asked)["tools"] == [tool]
    for build in OTHERS:
        with pytest.raises(UnsupportedFeature, match=f"a tool of type {kind} is not supported"):
            encoded(build, asked)


def test_custom_tool_is_said_to_both_of_openais_apis() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    tool = {"type": "custom", "name": "sql", "description": "d", "format": grammar}
    asked = request(tools=[tool], tool_choice={"type": "custom", "name": "sql"})
    sent = encoded(build_openai_responses, asked)
    assert sent["tools"] == [tool]
    assert sent["tool_choice"] == {"type": "custom", "name": "sql"}
    inner = {
        "name": "sql",
        "description": "d",
        "format": {
            "type": "grammar",
            "grammar": {"syntax": "lark", "definition": "start: /a/"},
        },
    }
    assert encoded(build_openai_chat, asked)["tools"] == [{"type": "custom", "custom": inner}]


def test_allowed_tools_are_said_to_both_of_openais_apis() -> None:
    function = {"type": "function", "name": "f", "strict": False}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    asked = request(tools=[function], tool_choice=choice)
    assert encoded(build_openai_responses, asked)["tool_choice"] == choice
    assert encoded(build_openai_chat, asked)["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    }


def test_fields_of_this_api_alone_reach_this_wire_alone() -> None:
    asked = request(
        truncation="auto",
        metadata={"a": "b"},
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "detailed"},
        text={"verbosity": "low"},
    )
    sent = encoded(build_openai_responses, asked)
    assert sent["truncation"] == "auto"
    assert sent["metadata"] == {"a": "b"}
    assert sent["reasoning"] == {"effort": "low", "summary": "detailed"}
    assert sent["include"] == ["reasoning.encrypted_content"]
    assert sent["text"] == {"verbosity": "low"}
    chat = encoded(build_openai_chat, asked)
    assert chat.keys() == {
        "model",
        "messages",
        "stream",
        "stream_options",
        "reasoning_effort",
        "verbosity",
    }


@pytest.mark.parametrize("build", [*OTHERS, build_openai_responses])
def test_tool_loop_is_said_to_every_wire(build: CodecBuilder) -> None:
    asked = request(
        instructions="Be brief.",
        input=[{"role": "user", "content": "Hi"}, call("c1"), result("c1", "rain")],
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        max_output_tokens=100,
        unknown_field=1,
    )
    sent = orjson.dumps(encoded(build, asked)).decode()
    for word in ("Be brief.", "Hi", "rain", '"f"'):
        assert word in sent
    assert "unknown_field" not in sent


# --- anything ---------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "model": "fast",
    "instructions": "x",
    "input": [
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:a/b;base64,QQ=="}]},
        {"type": "reasoning", "id": "rs", "summary": [{"text": "x"}], "encrypted_content": "x"},
        said("x", phase="p"),
        call("c1"),
        {"type": "custom_tool_call", "call_id": "c2", "name": "f", "input": "x"},
        result("c1", [{"type": "input_file", "file_data": "QQ==", "filename": "f"}]),
        {"type": "web_search_call", "id": "ws", "x_relay_format": "f"},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {}, "strict": True},
        {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "s"}},
        {"type": "web_search", "filters": {}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["x"],
    "temperature": 1,
    "max_tool_calls": 1,
    "truncation": "auto",
    "store": True,
    "previous_response_id": "r",
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values within a document."""
    if not isinstance(value, dict | list):
        return [path]
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    inner = [one for key in keys for one in leaves(value[key], (*path, key))]
    return [path, *inner] if path else inner


@examples(300)
@given(st.data())
def test_whatever_a_field_holds_is_read_or_refused_by_name(data: st.DataObject) -> None:
    body = copy.deepcopy(FULL)
    at = data.draw(st.sampled_from(leaves(FULL)))
    holder: Any = body
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = data.draw(anything)
    try:
        found = to_request(body, Policy())
    except InvalidRequest as error:
        assert error.field  # noqa: PT017 - what is not refused is read
    else:
        orjson.dumps(found.echo)
        for build in (build_openai_responses, *OTHERS):
            with contextlib.suppress(UnsupportedFeature, InvalidRequest):
                encoded(build, found.request)
