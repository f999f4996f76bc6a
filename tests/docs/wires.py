"""What each wire does with each thing that a request may ask for, found by asking its codec.

    python -m tests.docs.wires        writes the table of docs/wires.md anew

Every codec encodes a plain request and the same one with one thing more: it refuses by name, sends
something else than before, or sends the same, which is to leave the thing out. The rows are those
of known providers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from relay.codecs.registry import BUILDERS
from relay.config import known_providers
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
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
from relay.errors import UnsupportedFeature

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "wires.md"
BEGIN: Final = "<!-- the table: python -m tests.docs.wires -->\n"
END: Final = "<!-- the end of the table -->\n"

COLUMNS: Final[tuple[tuple[str, str, str], ...]] = (
    ("openai_chat", "openai", "gpt-5-mini"),
    ("openai_responses", "openai", "gpt-5-mini"),
    ("anthropic_messages", "anthropic", "claude-sonnet-4-6"),
    ("bedrock_converse", "bedrock", "us.anthropic.claude-sonnet-4-6-v1:0"),
    ("gemini", "gemini", "gemini-3-flash"),
    ("ollama", "ollama", "qwen3"),
)
"""Wire, provider whose row is used, model."""

USER: Final = Message(Role.USER, (TextPart("Hi"),))
PLAIN: Final = GenerateRequest("m", (USER,), want_reasoning=False)
SCHEMA: Final = b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
F: Final = Tool("f", "Does it", SCHEMA)
MARK: Final = {"type": "ephemeral"}
CALLS: Final = replace(
    PLAIN,
    tools=(F,),
    messages=(
        USER,
        Message(
            Role.ASSISTANT,
            tool_calls=(ToolCall("call_1", "f", "{}"), ToolCall("call_2", "f", "{}")),
        ),
        Message(Role.TOOL, (TextPart("a"),), tool_call_id="call_1"),
        Message(Role.TOOL, (TextPart("b"),), tool_call_id="call_2"),
    ),
)
PIXELS: Final = "aGk="


def _with_part(part: Part, role: Role = Role.USER) -> GenerateRequest:
    return replace(PLAIN, messages=(USER, Message(role, (part,))))


def _sampling(**given: Any) -> GenerateRequest:
    return replace(PLAIN, sampling=Sampling(**given))


def _with_picture(request: GenerateRequest) -> GenerateRequest:
    """A picture in the result of the first call."""
    picture = ImagePart(data_base64=PIXELS, media_type="image/png")
    at = next(at for at, one in enumerate(request.messages) if one.role is Role.TOOL)
    result = request.messages[at]
    result = replace(result, parts=(*result.parts, picture))
    return replace(request, messages=(*request.messages[:at], result, *request.messages[at + 1 :]))


def _failed(request: GenerateRequest) -> GenerateRequest:
    """The results of all calls say that they failed."""
    messages = (
        replace(one, extra={"is_error": True}) if one.role is Role.TOOL else one
        for one in request.messages
    )
    return replace(request, messages=tuple(messages))


def _choice(mode: ToolChoiceMode, name: str = "") -> GenerateRequest:
    return replace(PLAIN, tools=(F,), tool_choice=ToolChoice(mode, name))


def _extra(name: str, value: object) -> GenerateRequest:
    return replace(PLAIN, extra={name: value})


WITH_F: Final = replace(PLAIN, tools=(F,))

FEATURES: Final[Mapping[str, tuple[GenerateRequest, GenerateRequest]]] = {
    "system and developer": (
        PLAIN,
        replace(PLAIN, messages=(Message(Role.DEVELOPER, (TextPart("Be brief."),)), USER)),
    ),
    "names of messages": (PLAIN, replace(PLAIN, messages=(replace(USER, name="Ada"),))),
    "images by address": (PLAIN, _with_part(ImagePart(url="https://x.test/a.png"))),
    "images inline": (PLAIN, _with_part(ImagePart(data_base64=PIXELS, media_type="image/png"))),
    "`detail` of images": (
        _with_part(ImagePart(data_base64=PIXELS, media_type="image/png")),
        _with_part(ImagePart(data_base64=PIXELS, media_type="image/png", detail="low")),
    ),
    "audio": (PLAIN, _with_part(AudioPart(PIXELS, "wav"))),
    "files inline (PDF)": (
        PLAIN,
        _with_part(FilePart(filename="a.pdf", data_base64=PIXELS, media_type="application/pdf")),
    ),
    "files by the provider's id": (
        PLAIN,
        _with_part(FilePart(file_id="file_1", media_type="application/pdf")),
    ),
    "an earlier refusal": (PLAIN, _with_part(RefusalPart("No."), Role.ASSISTANT)),
    "a part of another wire": (PLAIN, _with_part(OpaquePart("elsewhere", {"type": "x"}))),
    "images in results of tools": (CALLS, _with_picture(CALLS)),
    "`is_error` of results of tools": (CALLS, _failed(CALLS)),
    "tools": (PLAIN, WITH_F),
    "`strict` of tools": (WITH_F, replace(PLAIN, tools=(replace(F, strict=True),))),
    "parallel tool round trip": (PLAIN, CALLS),
    "custom tool calls": (
        PLAIN,
        replace(
            PLAIN,
            messages=(
                USER,
                Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "g", "x", kind="custom"),)),
                Message(Role.TOOL, (TextPart("a"),), tool_call_id="c"),
            ),
        ),
    ),
    "`tool_choice: none`": (WITH_F, _choice(ToolChoiceMode.NONE)),
    "`tool_choice: required`": (WITH_F, _choice(ToolChoiceMode.REQUIRED)),
    "`tool_choice` by name": (WITH_F, _choice(ToolChoiceMode.NAMED, "f")),
    "`parallel_tool_calls: false`": (WITH_F, replace(WITH_F, parallel_tool_calls=False)),
    "`response_format: json_object`": (
        PLAIN,
        replace(PLAIN, response_format=ResponseFormat("json_object")),
    ),
    "`response_format: json_schema`": (
        PLAIN,
        replace(PLAIN, response_format=ResponseFormat("json_schema", "a", schema_json=SCHEMA)),
    ),
    "`max_tokens`": (PLAIN, _sampling(max_output_tokens=500)),
    "`max_tokens` below 16": (PLAIN, _sampling(max_output_tokens=8)),
    "`temperature`": (PLAIN, _sampling(temperature=0.5)),
    "`top_p`": (PLAIN, _sampling(top_p=0.5)),
    "`top_k`": (PLAIN, _sampling(top_k=5)),
    "`stop`": (PLAIN, _sampling(stop=("END",))),
    "`seed`": (PLAIN, _sampling(seed=7)),
    "`n` above 1": (PLAIN, _sampling(choices=2)),
    "penalties": (PLAIN, _sampling(presence_penalty=0.5)),
    "`logprobs`": (PLAIN, _sampling(logprobs=True)),
    "`logit_bias`": (PLAIN, _extra("logit_bias", {"1": 5})),
    "`reasoning_effort`": (PLAIN, replace(PLAIN, reasoning=ReasoningOptions("high"))),
    "a reasoning budget": (
        PLAIN,
        replace(PLAIN, reasoning=ReasoningOptions(budget_tokens=2048)),
    ),
    "`service_tier: flex`": (PLAIN, replace(PLAIN, service_tier="flex")),
    "`service_tier: auto`": (PLAIN, replace(PLAIN, service_tier="auto")),
    "`user`": (PLAIN, replace(PLAIN, user="u")),
    "`prompt_cache_key`": (PLAIN, replace(PLAIN, prompt_cache_key="k")),
    "`cache_control` of parts and tools": (
        replace(PLAIN, tools=(F,), messages=(USER,)),
        replace(
            PLAIN,
            tools=(replace(F, cache_control=MARK),),
            messages=(replace(USER, parts=(TextPart("Hi", MARK),)),),
        ),
    ),
    "`prompt_cache: auto` (in a session)": (
        PLAIN,
        replace(PLAIN, policy=Policy(prompt_cache="auto", session_id="s")),
    ),
    "audio output (`modalities`)": (PLAIN, _extra("modalities", ["text", "audio"])),
    "`prediction`": (PLAIN, _extra("prediction", {"type": "content", "content": "x"})),
    "`web_search_options`": (PLAIN, _extra("web_search_options", {})),
    "`verbosity`": (PLAIN, _extra("verbosity", "low")),
    "`metadata`": (PLAIN, _extra("metadata", {"a": "b"})),
    "`store`": (PLAIN, _extra("store", True)),
    "`safety_identifier`": (PLAIN, _extra("safety_identifier", "u")),
    "`prompt_cache_retention`": (PLAIN, _extra("prompt_cache_retention", "24h")),
    "an unknown field of the body": (PLAIN, _extra("brand_new", 1)),
}
"""What is asked for: the request without it, and with it."""


def word(wire: str, provider: str, model: str, feature: str) -> str:
    """`sent`, `refused` or `left out`."""
    row = known_providers().get(provider, {"wire": wire})
    quirks = (row if row["wire"] == wire else row.get("other_wires", {}).get(wire, {})).get(
        "quirks", {}
    )
    make = BUILDERS[wire](quirks, provider)
    without, given = FEATURES[feature]
    try:
        sent = make().encode_request(given, model)
    except UnsupportedFeature:
        return "refused"
    return "left out" if sent == make().encode_request(without, model) else "sent"


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| | " + " | ".join(f"`{wire}`" for wire, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for feature in FEATURES:
        words = " | ".join(word(*column, feature) for column in COLUMNS)
        lines.append(f"| {feature} | {words} |")
    return "\n".join(lines) + "\n"


def page_with(table_text: str) -> str:
    """The page, its table replaced."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table_text}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
