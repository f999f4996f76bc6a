"""The same conversation by the vendor's own client and by the relay: the same JSON.

Each vendor's conversation is written as its client's users write it, typed by the client itself;
the relay's comes in over its shim as an OpenAI client sends it. What differs is listed with its
reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anthropic
import pytest
from google.genai import types
from openai.types.responses import FunctionToolParam

from relay.codecs.registry import BUILDERS
from relay.config import known_providers
from relay.content import Policy
from relay.frontends.chat_body import to_request
from tests.judges.vendors import anthropic_client, google_client, openai_client

CITY: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NOTHING: Final[dict[str, object]] = {"type": "object", "properties": {}}
PICTURE: Final = "https://pictures.test/a.png"
PIXELS: Final = "aGk="
LIMIT: Final = 100

# --- what the relay is asked -------------------------------------------------------------------

_TOOLS: Final = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Of a city", "parameters": CITY},
    },
    {"type": "function", "function": {"name": "clock", "parameters": NOTHING}},
]


def _user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


CHAT_BODIES: Final[Mapping[str, dict[str, object]]] = {
    "system": {
        "messages": [{"role": "system", "content": "Be brief."}, _user("Hi")],
        "temperature": 0.5,
    },
    "two turns": {
        "messages": [_user("Hi"), {"role": "assistant", "content": "Hello."}, _user("Bye")]
    },
    "images": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": PICTURE}},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
                ],
            }
        ]
    },
    "tools": {
        "messages": [
            _user("The weather in Rome, and the time?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "clock", "arguments": "{}"},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        ],
        "tools": _TOOLS,
        "tool_choice": "auto",
    },
    "forced tool": {
        "messages": [_user("Hi")],
        "tools": _TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    },
    "schema": {
        "messages": [_user("Rome")],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": CITY, "strict": True},
        },
    },
    "reasoning": {"messages": [_user("Think")], "reasoning_effort": "high"},
}


def relayed(wire: str, provider: str, model: str, conversation: str) -> dict[str, Any]:
    """What the relay sends, as the row of a known provider says."""
    row = known_providers()[provider]
    row = row if row["wire"] == wire else row["other_wires"][wire]
    body = {"model": "m", "max_completion_tokens": LIMIT, **CHAT_BODIES[conversation]}
    encoded = BUILDERS[wire](row["quirks"], provider)().encode_request(
        to_request(body, Policy()), model
    )
    sent: dict[str, Any] = json.loads(encoded.body)
    return sent


# --- what the vendors' clients send -------------------------------------------------------------


def _sent(recording: Any) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(recording.asked[-1].content)
    return sent


def by_anthropic(conversation: str) -> dict[str, Any]:
    recording, client = anthropic_client()
    recording.put(b"event: message_stop\ndata: {}\n\n", "text/event-stream")
    create, model = client.messages.create, "claude-sonnet-4-6"
    tools: list[anthropic.types.ToolParam] = [
        {"name": "weather", "description": "Of a city", "input_schema": CITY},
        {"name": "clock", "input_schema": NOTHING},
    ]

    def said(text: str) -> list[anthropic.types.TextBlockParam]:
        return [{"type": "text", "text": text}]

    calls: dict[str, Callable[[], object]] = {
        "system": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            system="Be brief.",
            messages=[{"role": "user", "content": said("Hi")}],
            extra_body={"temperature": 0.5},  # the newest models refuse it, so it has no argument
        ),
        "two turns": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            messages=[
                {"role": "user", "content": said("Hi")},
                {"role": "assistant", "content": said("Hello.")},
                {"role": "user", "content": said("Bye")},
            ],
        ),
        "images": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image", "source": {"type": "url", "url": PICTURE}},
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": PIXELS,
                            },
                        },
                    ],
                }
            ],
        ),
        "tools": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            tools=tools,
            tool_choice={"type": "auto"},
            messages=[
                {"role": "user", "content": said("The weather in Rome, and the time?")},
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "call_1",
                            "name": "weather",
                            "input": {"city": "Rome"},
                        },
                        {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                        {"type": "tool_result", "tool_use_id": "call_2", "content": "noon"},
                    ],
                },
            ],
        ),
        "forced tool": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            tools=tools,
            tool_choice={"type": "tool", "name": "weather"},
            messages=[{"role": "user", "content": said("Hi")}],
        ),
        "schema": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            output_config={"format": {"type": "json_schema", "schema": CITY}},
            messages=[{"role": "user", "content": said("Rome")}],
        ),
        "reasoning": lambda: create(
            model=model,
            max_tokens=LIMIT,
            stream=True,
            thinking={"type": "adaptive"},
            output_config={"effort": "high"},
            messages=[{"role": "user", "content": said("Think")}],
        ),
    }
    calls[conversation]()
    return _sent(recording)


def by_google(conversation: str) -> dict[str, Any]:
    recording, client = google_client()
    recording.put(b"data: {}\n\n", "text/event-stream")
    config = types.GenerateContentConfig(max_output_tokens=LIMIT)
    tools: list[Any] = [
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(
                    name="weather", description="Of a city", parameters_json_schema=CITY
                ),
                types.FunctionDeclaration(name="clock"),
            ]
        )
    ]

    def calling(mode: types.FunctionCallingConfigMode, *names: str) -> types.ToolConfig:
        allowed = list(names) or None
        return types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=mode, allowed_function_names=allowed
            )
        )

    def turn(role: str, *parts: types.Part) -> types.Content:
        return types.Content(role=role, parts=list(parts))

    def said(text: str) -> types.Content:
        return turn("user", types.Part(text=text))

    contents = {
        "system": [said("Hi")],
        "two turns": [said("Hi"), turn("model", types.Part(text="Hello.")), said("Bye")],
        "images": [
            turn(
                "user",
                types.Part(text="What?"),
                types.Part.from_uri(file_uri=PICTURE, mime_type="image/png"),
                types.Part.from_bytes(data=b"hi", mime_type="image/png"),
            )
        ],
        "tools": [
            said("The weather in Rome, and the time?"),
            turn(
                "model",
                types.Part(
                    function_call=types.FunctionCall(
                        id="call_1", name="weather", args={"city": "Rome"}
                    )
                ),
                types.Part(function_call=types.FunctionCall(id="call_2", name="clock", args={})),
            ),
            turn(
                "user",
                types.Part(
                    function_response=types.FunctionResponse(
                        id="call_1", name="weather", response={"result": "sunny"}
                    )
                ),
                types.Part(
                    function_response=types.FunctionResponse(
                        id="call_2", name="clock", response={"result": "noon"}
                    )
                ),
            ),
        ],
        "forced tool": [said("Hi")],
        "schema": [said("Rome")],
        "reasoning": [said("Think")],
    }
    if conversation == "system":
        config.system_instruction, config.temperature = "Be brief.", 0.5
    elif conversation in ("tools", "forced tool"):
        config.tools = tools
        config.tool_config = (
            calling(types.FunctionCallingConfigMode.AUTO)
            if conversation == "tools"
            else calling(types.FunctionCallingConfigMode.ANY, "weather")
        )
    elif conversation == "schema":
        config.response_mime_type, config.response_json_schema = "application/json", CITY
    elif conversation == "reasoning":
        config.thinking_config = types.ThinkingConfig(thinking_level=types.ThinkingLevel.HIGH)
    given: Any = contents[conversation]
    list(
        client.models.generate_content_stream(model="gemini-3-flash", contents=given, config=config)
    )
    sent: dict[str, Any] = _in_camel_case(_sent(recording))
    return sent


def _in_camel_case(value: Any) -> Any:
    """The client writes some names of protobuf fields as they are, others as JSON has them; Google
    takes both."""
    if isinstance(value, list):
        return [_in_camel_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"_(\w)", lambda match: match[1].upper(), key): _in_camel_case(item)
        for key, item in value.items()
    }


def by_openai(conversation: str) -> dict[str, Any]:
    recording, client = openai_client()
    recording.put(b"data: [DONE]\n\n", "text/event-stream")
    create, model = client.responses.create, "gpt-5-mini"
    tools: list[FunctionToolParam] = [
        {
            "type": "function",
            "name": "weather",
            "description": "Of a city",
            "parameters": CITY,
            "strict": False,
        },
        {"type": "function", "name": "clock", "parameters": NOTHING, "strict": False},
    ]
    calls: dict[str, Callable[[], object]] = {
        "system": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            input=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            temperature=0.5,
        ),
        "two turns": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            input=[
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Bye"},
            ],
        ),
        "images": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
                        {
                            "type": "input_image",
                            "image_url": f"data:image/png;base64,{PIXELS}",
                            "detail": "auto",
                        },
                    ],
                }
            ],
        ),
        "tools": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            tools=tools,
            tool_choice="auto",
            input=[
                {"role": "user", "content": "The weather in Rome, and the time?"},
                {
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "weather",
                    "arguments": '{"city":"Rome"}',
                },
                {
                    "type": "function_call",
                    "call_id": "call_2",
                    "name": "clock",
                    "arguments": "{}",
                },
                {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
                {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
            ],
        ),
        "forced tool": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            tools=tools,
            tool_choice={"type": "function", "name": "weather"},
            input=[{"role": "user", "content": "Hi"}],
        ),
        "schema": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            text={
                "format": {"type": "json_schema", "name": "place", "schema": CITY, "strict": True}
            },
            input=[{"role": "user", "content": "Rome"}],
        ),
        "reasoning": lambda: create(
            model=model,
            max_output_tokens=LIMIT,
            stream=True,
            store=False,
            reasoning={"effort": "high", "summary": "auto"},
            input=[{"role": "user", "content": "Think"}],
        ),
    }
    calls[conversation]()
    return _sent(recording)


# --- where they differ, and why ------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """One vendor's client."""

    wire: str
    provider: str
    model: str
    send: Callable[[str], dict[str, Any]]
    added: Mapping[str, str] = field(default_factory=dict)
    """By path, what the relay sends besides, and why. Other paths must be equal."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """By path, what only the vendor's client sends."""
    in_other_case: Mapping[str, str] = field(default_factory=dict)
    """By path, what is the same word in other letters."""


JUDGES: Final = (
    Judge(
        "anthropic_messages",
        "anthropic",
        "claude-sonnet-4-6",
        by_anthropic,
        added={
            "thinking.display": "asks for the text of thinking, which newer models leave out",
        },
    ),
    Judge(
        "gemini",
        "gemini",
        "gemini-3-flash",
        by_google,
        added={
            "generationConfig.thinkingConfig.includeThoughts": "asks for reasoning, as everywhere",
            "contents.1.parts.0.thoughtSignature": (
                "Gemini 3 answers 400 to calls of another model's unless they say so; the client "
                "leaves that to its user"
            ),
        },
        missing={"systemInstruction.role": "means nothing there"},
        in_other_case={
            "generationConfig.thinkingConfig.thinkingLevel": (
                "small letters, as in Google's documentation and in recorded requests"
            ),
        },
    ),
    Judge(
        "openai_responses",
        "openai",
        "gpt-5-mini",
        by_openai,
        added={"include": "reasoning that goes back without being stored"},
    ),
)


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path; empty objects and lists are leaves."""
    if isinstance(value, dict) and value:
        entries = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        entries = [(f"{path}.{at}", item) for at, item in enumerate(value)]
    else:
        return {path: value}
    return {place: leaf for at, item in entries for place, leaf in flattened(item, at).items()}


def is_listed(path: str, listed: Mapping[str, str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in listed)


@pytest.mark.parametrize("conversation", CHAT_BODIES)
@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.wire)
def test_same_conversation_same_json(judge: Judge, conversation: str) -> None:
    vendor = flattened(judge.send(conversation))
    ours = flattened(relayed(judge.wire, judge.provider, judge.model, conversation))
    added = {path: leaf for path, leaf in ours.items() if path not in vendor}
    missing = {path: leaf for path, leaf in vendor.items() if path not in ours}
    # A model's name is part of Gemini's path.
    assert [path for path in missing if not is_listed(path, judge.missing)] == []
    assert [path for path in added if not is_listed(path, judge.added)] == []
    for path in ours.keys() & vendor.keys():
        if path in judge.in_other_case:
            assert ours[path] != vendor[path]
            assert ours[path].lower() == vendor[path].lower()
        else:
            assert ours[path] == vendor[path], path


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.wire)
def test_what_is_listed_differs(judge: Judge) -> None:
    added: set[str] = set()
    missing: set[str] = set()
    for conversation in CHAT_BODIES:
        vendor = flattened(judge.send(conversation))
        ours = flattened(relayed(judge.wire, judge.provider, judge.model, conversation))
        added |= ours.keys() - vendor.keys()
        missing |= vendor.keys() - ours.keys()
    assert all(any(is_listed(path, {one: ""}) for path in added) for one in judge.added)
    assert all(any(is_listed(path, {one: ""}) for path in missing) for one in judge.missing)
