"""Starts as neutral requests: every field arrives, every wrong one is refused by its path."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import content_pb2 as content_pb
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import (
    AudioPart,
    Budgets,
    FilePart,
    HedgeWish,
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
from relay.errors import InvalidRequest, RelayError, RequestTooLarge
from relay.frontends import proto_in
from relay.frontends.caller import NOBODY, Caller
from relay.frontends.limits import (
    MAX_CALLS,
    MAX_MESSAGE_CALLS,
    MAX_MESSAGE_PARTS,
    MAX_MESSAGES,
    MAX_NODES,
    MAX_PARTS,
    MAX_STOPS,
    MAX_TOOLS,
)
from relay.frontends.proto_in import (
    MAX_ID_BYTES,
    check_generation_id,
    parse,
    to_generate_request,
    to_prewarm_request,
)
from relay.frontends.proto_scan import MAX_FIELDS
from tests.fakes.properties import examples

HELLO = content_pb.Message(role=content_pb.ROLE_USER, parts=[content_pb.Part(text="Hello")])
DEEP = b'{"a":' * 300 + b"1" + b"}" * 300


def start(**fields: Any) -> relay_pb.Start:
    """A small start; fields of the prompt go into the prompt."""
    prompt_fields = {
        name: fields.pop(name)
        for name in list(fields)
        if name in content_pb.Prompt.DESCRIPTOR.fields_by_name
    }
    prompt = content_pb.Prompt(**{"messages": [HELLO], **prompt_fields})
    if "openai_chat_body" not in fields:
        fields["prompt"] = prompt
    return relay_pb.Start(**{"generation_id": "g1", "model": "fast", **fields})


# --- bytes and ids --------------------------------------------------------------------------


@examples(100)
@given(st.binary(max_size=60))
def test_undecodable_bytes_are_named_and_nothing_else_is_raised(data: bytes) -> None:
    try:
        parse(relay_pb.ConverseRequest, data, 1000)
    except InvalidRequest as error:
        assert error.field == "rtrelay.v1.ConverseRequest"  # noqa: PT017 - often there is none


@pytest.mark.parametrize(
    ("generation_id", "is_right"),
    [("", False), ("g", True), ("x" * MAX_ID_BYTES, True), ("x" * 129, False), ("日" * 43, False)],
)
def test_generation_ids(generation_id: str, is_right: bool) -> None:
    if is_right:
        check_generation_id(generation_id)
    else:
        with pytest.raises(InvalidRequest) as raised:
            check_generation_id(generation_id)
        assert raised.value.field == "start.generation_id"


# --- every field arrives --------------------------------------------------------------------


def test_smallest_start() -> None:
    request = to_generate_request(start(), None)
    assert request.model == "fast"
    assert request.messages == (Message(Role.USER, (TextPart("Hello"),)),)
    assert request.sampling == Sampling()
    assert request.tool_choice is None
    assert request.parallel_tool_calls is None
    assert not request.want_reasoning


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = Caller("t_1", "00-00000000000000000000000000000001-b7ad6b7169203331-00")


def test_whose_generation_it_is() -> None:
    setup = relay_pb.Setup(client_name="agent", client_version="2", labels={"call": "c", "a": "1"})
    asked = start(labels={"a": "2"}, tags=["eu"], traceparent=TRACE)
    policy = to_generate_request(asked, setup, CALLER).policy
    assert (policy.client, policy.labels) == ("agent/2", {"call": "c", "a": "2"})
    assert (policy.tags, policy.traceparent, policy.tenant) == (("eu",), TRACE, "t_1")
    assert to_generate_request(start(), setup, CALLER).policy.traceparent == CALLER.traceparent
    assert to_generate_request(start(traceparent="x"), None).policy.traceparent == ""


CACHE = relay_pb.PromptCache
WARM = content_pb.Prompt(
    messages=[
        content_pb.Message(
            role=content_pb.ROLE_SYSTEM, parts=[content_pb.Part(text="You are brief.")]
        )
    ]
)


@pytest.mark.parametrize(
    ("asked", "session", "has_prefix", "found"),
    [
        (0, None, False, ""),
        (0, 0, False, ""),
        (CACHE.PROMPT_CACHE_AUTO, None, False, "auto"),
        (CACHE.PROMPT_CACHE_OFF, CACHE.PROMPT_CACHE_AUTO, False, "off"),
        (0, CACHE.PROMPT_CACHE_AUTO, False, "auto"),
        (0, CACHE.PROMPT_CACHE_OFF, False, "off"),
        (99, 99, False, ""),
        # What was sent ahead must be asked for in the same way.
        (0, 0, True, "auto"),
        (CACHE.PROMPT_CACHE_OFF, 0, True, "off"),
    ],
)
def test_prompt_cache(asked: int, session: int | None, has_prefix: bool, found: str) -> None:
    setup = None
    if session is not None:
        setup = relay_pb.Setup(
            prompt_cache=session,  # type: ignore[arg-type]
            prewarm_prompt=WARM if has_prefix else None,
        )
    request = to_generate_request(start(prompt_cache=asked), setup, session_id="ses_1")
    assert request.policy.prompt_cache == found
    assert request.policy.session_id == "ses_1"


def test_prefix_to_warm() -> None:
    assert to_prewarm_request(relay_pb.Setup(model="fast"), NOBODY, "ses_1") is None
    setup = relay_pb.Setup(model="fast", prewarm_prompt=WARM, labels={"call": "c"})
    request = to_prewarm_request(setup, CALLER, "ses_1")
    assert request is not None
    assert (request.model, request.messages[0].parts) == ("fast", (TextPart("You are brief."),))
    policy = request.policy
    assert (policy.prompt_cache, policy.session_id) == ("auto", "ses_1")
    assert (policy.tenant, policy.traceparent, policy.key_id) == CALLER[:3]
    assert policy.labels == {"call": "c"}


@pytest.mark.parametrize(
    ("setup", "field"),
    [
        (relay_pb.Setup(prewarm_prompt=WARM), "setup.model"),
        (
            relay_pb.Setup(model="m", prewarm_prompt=content_pb.Prompt()),
            "setup.prewarm_prompt.messages",
        ),
        (
            relay_pb.Setup(model="m", prewarm_prompt=WARM, prompt_cache=CACHE.PROMPT_CACHE_OFF),
            "setup.prompt_cache",
        ),
        (
            relay_pb.Setup(
                model="m",
                prewarm_prompt=content_pb.Prompt(
                    messages=WARM.messages, sampling=content_pb.Sampling(temperature=-1)
                ),
            ),
            "setup.prewarm_prompt.sampling.temperature",
        ),
        (
            relay_pb.Setup(
                model="m",
                prewarm_prompt=content_pb.Prompt(
                    messages=WARM.messages, tool_choice=content_pb.ToolChoice()
                ),
            ),
            "setup.prewarm_prompt.tool_choice.mode",
        ),
    ],
)
def test_prefix_that_is_wrong_is_named(setup: relay_pb.Setup, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_prewarm_request(setup, NOBODY, "ses_1")
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, HedgeWish()),
        ({"mode": relay_pb.HEDGE_MODE_AUTO}, HedgeWish()),
        ({"mode": relay_pb.HEDGE_MODE_OFF}, HedgeWish("off")),
        ({"mode": relay_pb.HEDGE_MODE_RACE, "max_attempts": 3}, HedgeWish("race", None, 3)),
        ({"delay_ms": 400}, HedgeWish(delay_s=0.4)),
    ],
)
def test_what_is_asked_of_the_race(fields: dict[str, Any], wish: HedgeWish) -> None:
    asked = start(hedge=relay_pb.HedgePolicy(**fields))
    assert to_generate_request(asked, None).policy.hedge == wish


def test_what_decides_the_race() -> None:
    output = relay_pb.OutputOptions(commit_on=relay_pb.COMMIT_ON_FIRST_SEGMENT)
    asked = to_generate_request(start(output=output), None)
    assert asked.policy.commit_on == "first_segment"
    assert to_generate_request(start(), None).policy.commit_on == "first_content"


def test_an_unknown_way_to_race_is_refused() -> None:
    asked = start(hedge=relay_pb.HedgePolicy.FromString(b"\x08\x63"))
    with pytest.raises(InvalidRequest) as raised:
        to_generate_request(asked, None)
    assert raised.value.field == "start.hedge.mode"


def test_turns_of_a_session_know_of_each_other() -> None:
    assert to_generate_request(start(), None, session_id="ses_1").policy.session_id == "ses_1"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"labels": {str(i): "x" for i in range(17)}}, "start.labels"),
        ({"labels": {"x": "y" * 257}}, "start.labels"),
        ({"tags": ["x"] * 33}, "start.tags"),
        ({"tags": ["x" * 257]}, "start.tags"),
        ({"turn_id": "x" * 257}, "start.turn_id"),
    ],
)
def test_labels_and_tags_are_bounded(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_generate_request(start(**fields), None)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (content_pb.Part(text="Hi"), TextPart("Hi")),
        (content_pb.Part(text=""), TextPart("")),
        (content_pb.Part(refusal="No"), RefusalPart("No")),
        (
            content_pb.Part(image=content_pb.ImagePart(url="https://x/y.png", detail="low")),
            ImagePart(url="https://x/y.png", detail="low"),
        ),
        (
            content_pb.Part(image=content_pb.ImagePart(data=b"abc", media_type="image/png")),
            ImagePart(data_base64=base64.b64encode(b"abc").decode(), media_type="image/png"),
        ),
        (
            content_pb.Part(image=content_pb.ImagePart(data=b"abc", media_type="Image/JPG")),
            ImagePart(data_base64="YWJj", media_type="image/jpeg"),
        ),
        (
            content_pb.Part(audio=content_pb.AudioPart(data=b"abc", format="wav")),
            AudioPart("YWJj", "wav"),
        ),
        (
            content_pb.Part(file=content_pb.FilePart(file_id="f1", filename="a.pdf")),
            FilePart(file_id="f1", filename="a.pdf"),
        ),
        (
            content_pb.Part(file=content_pb.FilePart(data=b"abc", media_type="application/pdf")),
            FilePart(data_base64="YWJj", media_type="application/pdf"),
        ),
        (
            content_pb.Part(opaque=content_pb.OpaquePart(wire="w", value_json=b'{"a":1}')),
            OpaquePart("w", {"a": 1}),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, content_pb.Part) else "",
)
def test_parts(part: content_pb.Part, expected: object) -> None:
    message = content_pb.Message(role=content_pb.ROLE_USER, parts=[part])
    request = to_generate_request(start(messages=[message]), None)
    assert request.messages[0].parts == (expected,)


def test_messages() -> None:
    given = content_pb.Message(
        role=content_pb.ROLE_ASSISTANT,
        name="n",
        tool_calls=[
            content_pb.ToolCall(call_id="c", name="f", arguments="{", extra_json=b'{"s":1}'),
            content_pb.ToolCall(call_id="d", name="g", kind=content_pb.TOOL_KIND_CUSTOM),
        ],
        reasoning="r",
        extra_json=b'{"x":2}',
    )
    result = content_pb.Message(role=content_pb.ROLE_TOOL, tool_call_id="c")
    request = to_generate_request(start(messages=[given, result]), None)
    assert request.messages == (
        Message(
            Role.ASSISTANT,
            name="n",
            tool_calls=(
                ToolCall("c", "f", "{", extra={"s": 1}),
                ToolCall("d", "g", "", kind="custom"),
            ),
            reasoning="r",
            extra={"x": 2},
        ),
        Message(Role.TOOL, tool_call_id="c"),
    )


@pytest.mark.parametrize("role", Role)
def test_roles(role: Role) -> None:
    message = content_pb.Message(role=content_pb.Role.Value(f"ROLE_{role.name}"))
    assert to_generate_request(start(messages=[message]), None).messages[0].role is role


def test_tools_and_their_choice() -> None:
    request = to_generate_request(
        start(
            tools=[
                content_pb.Tool(name="f", description="d", parameters_json=b"{}", strict=False),
                content_pb.Tool(opaque_json=b'{"type":"web"}'),
            ],
            tool_choice=content_pb.ToolChoice(mode=content_pb.TOOL_CHOICE_MODE_NAMED, name="f"),
            parallel_tool_calls=False,
        ),
        None,
    )
    assert request.tools == (
        Tool("f", "d", b"{}", strict=False),
        Tool("", opaque={"type": "web"}),
    )
    assert request.tool_choice == ToolChoice(ToolChoiceMode.NAMED, "f")
    assert request.parallel_tool_calls is False


@pytest.mark.parametrize("mode", ToolChoiceMode)
def test_tool_choice_modes(mode: ToolChoiceMode) -> None:
    choice = content_pb.ToolChoice(
        mode=content_pb.ToolChoiceMode.Value(f"TOOL_CHOICE_MODE_{mode.name}"),
        name="f" if mode is ToolChoiceMode.NAMED else "",
        opaque_json=b'{"a":1}' if mode is ToolChoiceMode.OPAQUE else b"",
    )
    found = to_generate_request(start(tool_choice=choice), None).tool_choice
    assert found is not None
    assert found.mode is mode
    assert found.opaque == ({"a": 1} if mode is ToolChoiceMode.OPAQUE else None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            content_pb.ResponseFormat(kind=content_pb.RESPONSE_FORMAT_KIND_TEXT),
            ResponseFormat("text"),
        ),
        (
            content_pb.ResponseFormat(kind=content_pb.RESPONSE_FORMAT_KIND_JSON_OBJECT),
            ResponseFormat("json_object"),
        ),
        (
            content_pb.ResponseFormat(
                kind=content_pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA,
                name="n",
                description="d",
                schema_json=b'{"type":"object"}',
                strict=True,
            ),
            ResponseFormat("json_schema", "n", "d", b'{"type":"object"}', True),
        ),
    ],
)
def test_response_formats(wanted: content_pb.ResponseFormat, expected: ResponseFormat) -> None:
    assert to_generate_request(start(response_format=wanted), None).response_format == expected


def test_sampling_and_the_rest() -> None:
    request = to_generate_request(
        start(
            sampling=content_pb.Sampling(
                temperature=0.0,
                top_p=0.5,
                top_k=3,
                max_output_tokens=9,
                stop=["a", "b"],
                seed=-1,
                choices=2,
                presence_penalty=-1.0,
                frequency_penalty=1.0,
                logprobs=False,
                top_logprobs=0,
            ),
            reasoning=content_pb.ReasoningOptions(effort="low", budget_tokens=5),
            service_tier="priority",
            user="u",
            prompt_cache_key="k",
            extra_json=b'{"metadata":{"a":"b"},"api_base":"http://x.test","api_key":"k"}',
            output=relay_pb.OutputOptions(reasoning=True),
        ),
        None,
    )
    assert request.sampling == Sampling(0.0, 0.5, 3, 9, ("a", "b"), -1, 2, -1.0, 1.0, False, 0)
    assert request.reasoning == ReasoningOptions("low", 5)
    assert (request.service_tier, request.user, request.prompt_cache_key) == ("priority", "u", "k")
    assert request.extra == {"metadata": {"a": "b"}}
    assert request.want_reasoning


# --- the chat body --------------------------------------------------------------------------

BODY = {"messages": [{"role": "user", "content": "Hello"}], "stream": False, "x_relay": {"a": 1}}


@pytest.mark.parametrize(
    ("in_start", "in_body", "in_setup", "model"),
    [
        ("s", "b", "d", "s"),
        ("", "b", "d", "b"),
        ("", None, "d", "d"),
    ],
)
def test_model_of_a_chat_body(
    in_start: str, in_body: str | None, in_setup: str, model: str
) -> None:
    body = BODY if in_body is None else {**BODY, "model": in_body}
    request = to_generate_request(
        start(model=in_start, openai_chat_body=orjson.dumps(body)), relay_pb.Setup(model=in_setup)
    )
    assert request.model == model
    assert request.extra == {}
    assert not request.want_reasoning


def test_chat_body_with_reasoning_wanted() -> None:
    wanted = relay_pb.OutputOptions(reasoning=True)
    body = orjson.dumps(BODY)
    assert to_generate_request(start(openai_chat_body=body, output=wanted), None).want_reasoning


# --- defaults of the setup ------------------------------------------------------------------


def test_setup_fills_in_what_the_start_leaves_out() -> None:
    setup = relay_pb.Setup(
        model="slow",
        labels={"call": "1", "room": "a"},
        budgets=relay_pb.Budgets(first_token_ms=1000, total_ms=9000, inter_token_ms=500),
    )
    request = to_generate_request(
        start(
            model="",
            budgets=relay_pb.Budgets(first_token_ms=250, total_ms=0),
            labels={"room": "b"},
            tags=["eu"],
            turn_id="t1",
        ),
        setup,
    )
    assert request.model == "slow"
    assert request.policy.budgets == Budgets(0.25, 0.5, None)
    assert request.policy.labels == {"call": "1", "room": "b"}
    assert (request.policy.tags, request.policy.turn_id) == (("eu",), "t1")
    assert request.policy.timeline


# --- refused by path ------------------------------------------------------------------------


def message(**fields: Any) -> relay_pb.Start:
    given = content_pb.Message(**{"role": content_pb.ROLE_USER, **fields})
    return start(messages=[HELLO, given])


def part(**fields: Any) -> relay_pb.Start:
    return message(parts=[content_pb.Part(**fields)])


def sampling(**fields: Any) -> relay_pb.Start:
    return start(sampling=content_pb.Sampling(**fields))


IN_MESSAGE = "start.prompt.messages[1]"
IN_PART = f"{IN_MESSAGE}.parts[0]"
IN_SAMPLING = "start.prompt.sampling"

WRONG: list[tuple[Callable[[], relay_pb.Start], str]] = [
    (lambda: relay_pb.Start(generation_id="g", model="m"), "start.prompt"),
    (lambda: start(model=""), "start.model"),
    (lambda: start(messages=[]), "start.prompt.messages"),
    (lambda: start(labels={str(i): "x" for i in range(17)}), "start.labels"),
    (lambda: start(extra_json=b"[1]"), "start.prompt.extra_json"),
    (lambda: start(extra_json=b"{"), "start.prompt.extra_json"),
    (lambda: start(extra_json=DEEP), "start.prompt.extra_json"),
    (lambda: start(extra_json=b'{"n":128}'), "start.prompt.extra_json.n"),
    (lambda: start(extra_json=b'{"max_tokens":9}'), "start.prompt.extra_json.max_tokens"),
    (
        lambda: start(extra_json=b'{"max_completion_tokens":9}'),
        "start.prompt.extra_json.max_completion_tokens",
    ),
    (lambda: start(extra_json=b'{"service_tier":"flex"}'), "start.prompt.extra_json.service_tier"),
    (lambda: message(role=0), f"{IN_MESSAGE}.role"),
    (lambda: message(role=99), f"{IN_MESSAGE}.role"),
    (lambda: message(extra_json=b"1"), f"{IN_MESSAGE}.extra_json"),
    (lambda: message(tool_calls=[content_pb.ToolCall()]), f"{IN_MESSAGE}.tool_calls[0].name"),
    (
        lambda: message(tool_calls=[content_pb.ToolCall(name="f", extra_json=b"x")]),
        f"{IN_MESSAGE}.tool_calls[0].extra_json",
    ),
    (lambda: message(parts=[content_pb.Part()]), IN_PART),
    (lambda: part(image=content_pb.ImagePart()), f"{IN_PART}.image"),
    (lambda: part(image=content_pb.ImagePart(data=b"x")), f"{IN_PART}.image"),
    (lambda: part(image=content_pb.ImagePart(url="file:///etc")), f"{IN_PART}.image.url"),
    (lambda: part(audio=content_pb.AudioPart(data=b"x")), f"{IN_PART}.audio"),
    (lambda: part(audio=content_pb.AudioPart(format="wav")), f"{IN_PART}.audio"),
    (lambda: part(file=content_pb.FilePart()), f"{IN_PART}.file"),
    (lambda: part(file=content_pb.FilePart(file_id="")), f"{IN_PART}.file"),
    (lambda: part(file=content_pb.FilePart(media_type="a/b", data=b"")), f"{IN_PART}.file"),
    (lambda: part(file=content_pb.FilePart(data=b"x")), f"{IN_PART}.file.media_type"),
    (
        lambda: part(opaque=content_pb.OpaquePart(wire="w" * 257, value_json=b"{}")),
        f"{IN_PART}.opaque.wire",
    ),
    (
        lambda: part(opaque=content_pb.OpaquePart(wire="w", value_json=b"[]")),
        f"{IN_PART}.opaque.value_json",
    ),
    (lambda: start(tools=[content_pb.Tool()]), "start.prompt.tools[0].name"),
    (
        lambda: start(tools=[content_pb.Tool(name="f", parameters_json=b"nope")]),
        "start.prompt.tools[0].parameters_json",
    ),
    (
        lambda: start(tools=[content_pb.Tool(name="f", parameters_json=DEEP)]),
        "start.prompt.tools[0].parameters_json",
    ),
    (
        lambda: start(tools=[content_pb.Tool(opaque_json=b"[]")]),
        "start.prompt.tools[0].opaque_json",
    ),
    (lambda: start(tool_choice=content_pb.ToolChoice()), "start.prompt.tool_choice.mode"),
    (
        lambda: start(tool_choice=content_pb.ToolChoice(mode=content_pb.TOOL_CHOICE_MODE_NAMED)),
        "start.prompt.tool_choice.name",
    ),
    (
        lambda: start(
            tool_choice=content_pb.ToolChoice(
                mode=content_pb.TOOL_CHOICE_MODE_OPAQUE, opaque_json=b"1"
            )
        ),
        "start.prompt.tool_choice.opaque_json",
    ),
    (
        lambda: start(response_format=content_pb.ResponseFormat()),
        "start.prompt.response_format.kind",
    ),
    (
        lambda: start(
            response_format=content_pb.ResponseFormat(
                kind=content_pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA, schema_json=b"1"
            )
        ),
        "start.prompt.response_format.schema_json",
    ),
    (lambda: sampling(choices=0), f"{IN_SAMPLING}.choices"),
    (lambda: sampling(choices=9), f"{IN_SAMPLING}.choices"),
    (lambda: sampling(max_output_tokens=0), f"{IN_SAMPLING}.max_output_tokens"),
    (lambda: sampling(temperature=float("nan")), f"{IN_SAMPLING}.temperature"),
    (lambda: sampling(temperature=-0.5), f"{IN_SAMPLING}.temperature"),
    (lambda: sampling(top_p=float("inf")), f"{IN_SAMPLING}.top_p"),
    (lambda: sampling(top_p=1.5), f"{IN_SAMPLING}.top_p"),
    (lambda: sampling(presence_penalty=float("-inf")), f"{IN_SAMPLING}.presence_penalty"),
    (lambda: sampling(frequency_penalty=101.0), f"{IN_SAMPLING}.frequency_penalty"),
    (lambda: sampling(top_logprobs=101), f"{IN_SAMPLING}.top_logprobs"),
    (lambda: start(openai_chat_body=b"[]"), ""),
    (lambda: start(openai_chat_body=DEEP), ""),
    (lambda: start(openai_chat_body=b'{"model":"m"}'), "messages"),
]


@pytest.mark.parametrize(
    ("make", "field"), WRONG, ids=[f"{number} {field}" for number, (_, field) in enumerate(WRONG)]
)
def test_wrong_field_is_refused_by_its_path(make: Callable[[], relay_pb.Start], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_generate_request(make(), None)
    assert raised.value.field == field
    assert field in raised.value.public_message


TOOL = content_pb.Tool(name="f")
CALL = content_pb.ToolCall(call_id="c", name="f")
MANY_NODES = b'{"a":[' + b"1," * (MAX_NODES // 2) + b"1]}"
CALLING = content_pb.Message(role=content_pb.ROLE_ASSISTANT, tool_calls=[CALL] * 200)
PARTED = content_pb.Message(role=content_pb.ROLE_USER, parts=[content_pb.Part(text="x")] * 1000)

TOO_MANY: list[tuple[Callable[[], relay_pb.Start], str]] = [
    (lambda: start(messages=[HELLO] * (MAX_MESSAGES + 1)), "start.prompt.messages"),
    (
        lambda: message(parts=[content_pb.Part(text="x")] * (MAX_MESSAGE_PARTS + 1)),
        f"{IN_MESSAGE}.parts",
    ),
    (
        lambda: start(messages=[PARTED] * (MAX_PARTS // 1000 + 1)),
        f"start.prompt.messages[{MAX_PARTS // 1000}].parts",
    ),
    (lambda: message(tool_calls=[CALL] * (MAX_MESSAGE_CALLS + 1)), f"{IN_MESSAGE}.tool_calls"),
    (
        lambda: start(messages=[CALLING] * (MAX_CALLS // 200 + 1)),
        f"start.prompt.messages[{MAX_CALLS // 200}].tool_calls",
    ),
    (lambda: start(tools=[TOOL] * (MAX_TOOLS + 1)), "start.prompt.tools"),
    (lambda: sampling(stop=["x"] * (MAX_STOPS + 1)), f"{IN_SAMPLING}.stop"),
    (
        lambda: start(
            extra_json=MANY_NODES, tools=[content_pb.Tool(name="f", parameters_json=MANY_NODES)]
        ),
        "start.prompt.extra_json",
    ),
    (
        lambda: start(
            messages=[content_pb.Message(role=content_pb.ROLE_USER, extra_json=MANY_NODES)] * 3
        ),
        "start.prompt.messages[1].extra_json",
    ),
    (
        lambda: start(openai_chat_body=b'{"z":[' + b"[]," * MAX_NODES + b"[]]}"),
        "start.openai_chat_body",
    ),
]


@pytest.mark.parametrize(
    ("make", "field"),
    TOO_MANY,
    ids=[f"{number} {field}" for number, (_, field) in enumerate(TOO_MANY)],
)
def test_too_many_are_refused_by_their_path(make: Callable[[], relay_pb.Start], field: str) -> None:
    with pytest.raises(InvalidRequest, match="more than") as raised:
        to_generate_request(make(), None)
    assert raised.value.field == field
    assert field in raised.value.public_message


@pytest.mark.parametrize(
    "make",
    [make for make, field in TOO_MANY if "extra" not in field and "body" not in field],
)
def test_what_is_too_many_is_refused_before_any_of_it_is_read(
    make: Callable[[], relay_pb.Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, no more is built than is allowed."""
    built = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            nonlocal built
            built += 1
            return original(*arguments)

        return count

    for name in ("_part", "_tool_call", "_tool"):
        monkeypatch.setattr(proto_in, name, counted(getattr(proto_in, name)))
    with pytest.raises(InvalidRequest):
        to_generate_request(make(), None)
    assert built <= MAX_PARTS


def test_as_many_as_are_allowed_are_read() -> None:
    request = to_generate_request(
        start(
            messages=[HELLO] * MAX_MESSAGES,
            tools=[TOOL] * MAX_TOOLS,
            sampling=content_pb.Sampling(stop=["x"] * MAX_STOPS),
        ),
        None,
    )
    assert len(request.messages) == MAX_MESSAGES == MAX_PARTS
    assert len(request.tools) == MAX_TOOLS


def test_frame_of_too_many_fields_is_not_parsed() -> None:
    prompt = content_pb.Prompt.FromString(b"\x0a\x02\x08\x03" * 1_000_000)
    data = relay_pb.ConverseRequest(start=relay_pb.Start(prompt=prompt)).SerializeToString()
    with pytest.raises(RequestTooLarge, match=f"more than {MAX_FIELDS} fields") as raised:
        parse(relay_pb.ConverseRequest, data, 4 << 20)
    assert raised.value.metadata == {"field": "rtrelay.v1.ConverseRequest"}


def test_what_may_yet_be_discarded() -> None:
    made = to_generate_request(start(speculative=True, hold_until_commit=True), None)
    assert (made.policy.speculative, made.policy.hold_until_commit) == (True, True)
    with pytest.raises(InvalidRequest, match=r"start\.hold_until_commit is for a start that is"):
        to_generate_request(start(hold_until_commit=True), None)


def test_text_mode_that_is_not_known() -> None:
    output = relay_pb.OutputOptions(text_mode=99)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"start\.output\.text_mode is not known"):
        to_generate_request(start(output=output), None)


@pytest.mark.parametrize(("own", "limit_s"), [(None, 0.001), (2, 0.002), (0, None)])
def test_first_segment_s_limit_is_the_start_s_else_the_setup_s(
    own: int | None, limit_s: float | None
) -> None:
    setup = relay_pb.Setup(budgets=relay_pb.Budgets(first_segment_ms=1))
    asked = start(budgets=relay_pb.Budgets(first_segment_ms=own))
    assert to_generate_request(asked, setup).policy.budgets.first_segment_s == limit_s


def test_served_modes_may_be_named() -> None:
    output = relay_pb.OutputOptions(
        text_mode=relay_pb.TEXT_MODE_DELTAS, commit_on=relay_pb.COMMIT_ON_FIRST_CONTENT
    )
    to_generate_request(start(output=output), None)


RICH = start(
    messages=[
        content_pb.Message(
            role=content_pb.ROLE_ASSISTANT,
            parts=[
                content_pb.Part(text="Hello"),
                content_pb.Part(image=content_pb.ImagePart(data=b"abc", media_type="image/png")),
                content_pb.Part(opaque=content_pb.OpaquePart(wire="w", value_json=b"{}")),
            ],
            tool_calls=[content_pb.ToolCall(call_id="c", name="f", extra_json=b'{"s":1}')],
            extra_json=b'{"x":[1,2]}',
        )
    ],
    tools=[content_pb.Tool(name="f", parameters_json=b'{"type":"object"}')],
    tool_choice=content_pb.ToolChoice(mode=content_pb.TOOL_CHOICE_MODE_AUTO),
    sampling=content_pb.Sampling(temperature=0.5, choices=2, stop=["a"]),
    response_format=content_pb.ResponseFormat(kind=content_pb.RESPONSE_FORMAT_KIND_TEXT),
    labels={"a": "b"},
).SerializeToString()


@examples(300)
@given(st.lists(st.tuples(st.integers(0, len(RICH) - 1), st.integers(0, 255)), max_size=6))
def test_any_start_that_parses_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(RICH)
    for at, value in changes:
        data[at] = value
    try:
        to_generate_request(parse(relay_pb.Start, bytes(data), 1 << 20), None)
    except RelayError:
        pass
