"""A neutral request as a body of the Messages API, bent to one provider's quirks and one model.

The body is built as one dict and dumped once; the request is shared and never changed. Messages
become turns in `anthropic_conversation`, wishes about thinking in `anthropic_thinking`.

What this wire cannot say, or says otherwise:

    refused by name, since leaving it out would change the answer
        n above 1, penalties other than 0, logprobs, top_logprobs, response_format json_object,
        json_schema without a schema, audio parts, anything but text in instructions, custom tools
        and their calls, tools and tool choices of other wires, stop texts of nothing but white
        space; maps and joined objects in the schemas of structured output and strict tools
        (`anthropic_schema`); extra fields: logit_bias, prediction, functions, function_call,
        modalities other than text, audio, web_search_options
    left out
        seed (best effort with OpenAI), names of messages, detail of images, strict when false,
        name and description of a schema, prompt_cache_key, parallel_tool_calls when true,
        top_p beside a temperature (newer models answer both with 400), top_k below 1 (others' word
        for none), service tiers but the ones below, empty stop texts, reasoning text that is not in
        `reasoning_details`, and all extra fields not named here: metadata, store, verbosity, ...
    changed
        max_tokens is required: the row's `default_max_tokens` when the client gives none;
        temperature is cut to 0..1; with thinking on it is left out with top_k, and top_p below
        0.95; with a forced tool choice thinking is left out, which the wire answers with 400; user
        becomes metadata.user_id, hashed unless it is an opaque id, since addresses and phone
        numbers are answered with 400; service tier default becomes standard_only, auto and
        standard_only stay (a row's header for tiers says them instead); a schema of arguments
        without a type gets `object`; schemas of structured output and strict tools are closed, with
        their bounds in descriptions

A body that came in this very format (`extra_wire`) has its further fields passed on unread, its
betas added to the row's, and of thinking what it says itself and nothing else.

Of the extra fields `thinking`, `output_config`, `context_management`, `container`, `mcp_servers`,
`inference_geo`, `speed` and `cache_control` are this wire's own and passed on as they are. So are
tools given opaquely in its own form (with `input_schema`, a dated type such as
`web_search_20250305`, or `mcp_toolset`), and tool choices of type auto, any, tool and none.

Prompt caching: the provider caches a prefix up to a block with `cache_control`, at most four of
them, and ignores one whose prefix is below its least length (1,024 to 4,096 tokens by model),
which cannot be known here without counting, so that it is not tried: such a mark costs nothing.
`auto` marks the last tool, the last block of `system` and the last block of the last two user
turns: each request then finds what the one before it has written. A client's own marks (in a part
or tool with `cache_control`, or in the extra fields of a message or call) are kept, and `auto` adds
none to them.

Source: wire/anthropic-messages.md, section 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.codecs.anthropic_conversation import WIRE, Conversation
from relay.codecs.anthropic_quirks import AnthropicQuirks, is_among
from relay.codecs.anthropic_schema import answer_schema, closed
from relay.codecs.anthropic_thinking import ThinkingPlan, plan_thinking
from relay.codecs.block_turns import Block
from relay.codecs.request_json import (
    CHAT_ONLY,
    default_tier,
    dump_body,
    opaque_user,
    read_object,
    readable_tool,
    refuse_asked,
    said_stops,
)
from relay.content import GenerateRequest, ResponseFormat, Tool, ToolChoice, ToolChoiceMode
from relay.errors import UnsupportedFeature

__all__ = ["WIRE", "encode_body", "encode_count_body", "tier_of_header", "wanted_betas"]

BETAS: Final = "anthropic_beta"
"""The extra field that holds the client's own `anthropic-beta`, a list of names; Bedrock has one of
this name in bodies of this wire."""

_OWN_EXTRA: Final = (
    "context_management",
    "container",
    "mcp_servers",
    "inference_geo",
    "speed",
    "cache_control",
)

_READ_EXTRA: Final = frozenset({*_OWN_EXTRA, "thinking", "output_config", BETAS})

_COUNTED: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "context_management",
        "mcp_servers",
    }
)
"""Fields of a request that its count of tokens is asked with."""

_SERVICE_TIERS: Final[Mapping[str, str]] = {
    "auto": "auto",
    "default": "standard_only",
    "standard": "standard_only",
    "standard_only": "standard_only",
}

_HEADER_TIERS: Final = frozenset({"default", "flex", "priority", "reserved"})

_CHOICE_TYPES: Final[Mapping[ToolChoiceMode, str]] = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "any",
    ToolChoiceMode.NAMED: "tool",
}

_DATED_TYPE: Final = re.compile(r"[a-z_]+_\d{8}")
_LEAST_TOP_P: Final = 0.95
"""Below it top_p is refused together with thinking."""

_CACHE_MARK: Final[Mapping[str, str]] = {"type": "ephemeral"}
_CACHED_TURNS: Final = 2


def encode_body(
    request: GenerateRequest, model: str, quirks: AnthropicQuirks, provider: str
) -> bytes:
    """The body of `POST .../v1/messages` asking for a stream.

    Raises:
        UnsupportedFeature: something that the wire or the provider's row refuses, named.
        InvalidRequest: a schema that is not JSON, or a part that is broken.
    """
    body = _BodyBuilder(request, model, quirks, provider).build()
    if not quirks.model_in_body:
        del body["model"]
    if not quirks.has_stream_field:
        del body["stream"]
    _add_versions(body, request, quirks)
    return dump_body(body)


def encode_count_body(
    request: GenerateRequest, model: str, quirks: AnthropicQuirks, provider: str
) -> bytes:
    """The body of `POST .../v1/messages/count_tokens`, which refuses what does not count.

    Raises:
        As `encode_body`.
    """
    body = _BodyBuilder(request, model, quirks, provider).build()
    body = {name: value for name, value in body.items() if name in _COUNTED}
    _add_versions(body, request, quirks)
    return dump_body(body)


def _add_versions(body: dict[str, Any], request: GenerateRequest, quirks: AnthropicQuirks) -> None:
    """What other doors than Anthropic's own want in the body and not in headers."""
    if quirks.body_version:
        body["anthropic_version"] = quirks.body_version
    if quirks.betas_in != "header" and (betas := wanted_betas(request, quirks)):
        body[BETAS] = betas


def tier_of_header(request: GenerateRequest, quirks: AnthropicQuirks) -> str:
    """The service tier for the row's header, empty for none."""
    tier = default_tier(request.service_tier) or ""
    return tier if quirks.tier_header and tier in _HEADER_TIERS else ""


def wanted_betas(request: GenerateRequest, quirks: AnthropicQuirks) -> list[str]:
    """The names for `anthropic-beta`: the row's, and those that a client of this wire gave."""
    given = request.extra.get(BETAS) if request.extra_wire == WIRE else None
    names = [*quirks.betas, *(given if isinstance(given, list | tuple) else ())]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


class _BodyBuilder:
    """Collects the body of one request."""

    def __init__(
        self, request: GenerateRequest, model: str, quirks: AnthropicQuirks, provider: str
    ) -> None:
        self._request = request
        self._model = model
        self._quirks = quirks
        self._provider = provider
        self._has_marks = False

    def build(self) -> dict[str, Any]:
        request = self._request
        self._refuse_unsaid()
        talk = Conversation(request.messages, self._quirks, self._provider)
        tools = [self._tool(tool, at) for at, tool in enumerate(request.tools)]
        extra = request.extra_on(WIRE)
        self._has_marks = self._has_marks or talk.has_marks or "cache_control" in extra
        plan = plan_thinking(
            request,
            self._model,
            self._quirks,
            may_be_manual=talk.allows_manual_thinking,
            is_forced=self._is_forced,
        )
        self._place_cache_marks(tools, talk)
        body: dict[str, Any] = {
            **self._unread_fields(),
            "model": self._model,
            "max_tokens": plan.max_tokens,
            "messages": [{"role": turn.role, "content": turn.content} for turn in talk.turns],
            "stream": True,
        }
        fields = {
            "system": _system(talk.system),
            "tools": tools,
            "tool_choice": self._tool_choice(),
            "stop_sequences": said_stops(request.sampling),
            "thinking": plan.thinking,
            "output_config": self._output_config(plan),
            "metadata": {"user_id": opaque_user(request.user)} if request.user else None,
            "service_tier": self._service_tier(),
            **{name: extra.get(name) for name in _OWN_EXTRA},
        }
        body.update((name, value) for name, value in fields.items() if value)
        body.update(self._sampling(plan))
        return body

    def _unread_fields(self) -> Mapping[str, Any]:
        """Fields of a body of this wire that nobody here knows."""
        request = self._request
        if request.extra_wire != WIRE:
            return {}
        return {name: value for name, value in request.extra.items() if name not in _READ_EXTRA}

    def _refuse_unsaid(self) -> None:
        sampling = self._request.sampling
        unsaid = {
            "n": (sampling.choices or 1) > 1,
            "presence_penalty": bool(sampling.presence_penalty),
            "frequency_penalty": bool(sampling.frequency_penalty),
            "logprobs": bool(sampling.logprobs),
            "top_logprobs": bool(sampling.top_logprobs),
            "a stop of white space": any(text.isspace() for text in sampling.stop),
            "tools": bool(self._request.tools) and "tools" in self._quirks.refuses,
        }
        for name, is_asked in unsaid.items():
            if is_asked:
                raise UnsupportedFeature(name, self._provider)
        refuse_asked(self._request.extra_on(WIRE), CHAT_ONLY, self._provider)

    def _service_tier(self) -> str | None:
        return None if self._quirks.tier_header else _SERVICE_TIERS.get(self._request.service_tier)

    def _sampling(self, plan: ThinkingPlan) -> dict[str, float]:
        if is_among(self._model, self._quirks.fixed_sampling_models):
            return {}
        sampling = self._request.sampling
        found: dict[str, float] = {}
        if sampling.temperature is not None and not plan.is_on:
            found["temperature"] = min(max(sampling.temperature, 0.0), 1.0)
        elif sampling.top_p is not None and (not plan.is_on or sampling.top_p >= _LEAST_TOP_P):
            found["top_p"] = sampling.top_p
        if sampling.top_k is not None and sampling.top_k > 0 and not plan.is_on:
            found["top_k"] = sampling.top_k
        return found

    def _output_config(self, plan: ThinkingPlan) -> dict[str, Any]:
        given = self._request.extra_on(WIRE).get("output_config")
        config: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
        if plan.effort:
            config["effort"] = plan.effort
        if (shape := self._format(self._request.response_format)) is not None:
            config["format"] = shape
        return config

    def _format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        schema = answer_schema(wanted, self._quirks.refuses, self._provider)
        if wanted is None or schema is None:
            return None
        return {"type": "json_schema", "schema": schema}

    # --- tools --------------------------------------------------------------------------------

    def _tool(self, tool: Tool, at: int) -> Block:
        tool = readable_tool(tool, WIRE, self._provider)
        if tool.opaque is not None:
            is_own = tool.opaque_wire == WIRE or tool.opaque.get("type") == "mcp_toolset"
            return self._opaque_tool(tool.opaque, f"tools[{at}].parameters", is_own=is_own)
        encoded: Block = {"name": tool.name}
        if tool.description:
            encoded["description"] = tool.description
        field = f"tools[{at}].parameters"
        encoded["input_schema"] = _input_schema(tool.parameters_json, field)
        if tool.strict:
            schema = read_object(tool.parameters_json or b'{"properties":{}}', field)
            encoded["input_schema"] = closed({"type": "object", **schema}, field, self._provider)
            encoded["strict"] = True
        if tool.cache_control:
            encoded["cache_control"] = tool.cache_control
            self._has_marks = True
        return encoded

    def _opaque_tool(self, given: Mapping[str, Any], field: str, *, is_own: bool) -> Block:
        kind = given.get("type")
        inner = given.get("function")
        if kind == "function" and isinstance(inner, Mapping):
            # A chat body's function with further fields.
            encoded: Block = {"name": inner.get("name")}
            if inner.get("description"):
                encoded["description"] = inner["description"]
            schema = inner.get("parameters")
            given_schema = schema if isinstance(schema, Mapping) else {"properties": {}}
            encoded["input_schema"] = {"type": "object", **given_schema}
            if inner.get("strict"):
                encoded["input_schema"] = closed(encoded["input_schema"], field, self._provider)
                encoded["strict"] = True
            mark = given.get("cache_control") or inner.get("cache_control")
            if mark:
                encoded["cache_control"] = mark
        elif (
            "input_schema" in given
            or is_own
            or (isinstance(kind, str) and _DATED_TYPE.fullmatch(kind))
        ):
            encoded = dict(given)
        else:
            raise UnsupportedFeature(f"tools of type {kind}", self._provider)
        self._has_marks = self._has_marks or "cache_control" in encoded
        return encoded

    @property
    def _is_forced(self) -> bool:
        """Whether the model must call a tool, which no thinking may go before."""
        choice = self._request.tool_choice
        return choice is not None and self._choice(choice).get("type") in ("any", "tool")

    def _tool_choice(self) -> Mapping[str, Any] | None:
        request = self._request
        choice = request.tool_choice
        encoded = self._choice(choice) if choice is not None else {}
        kind = encoded.get("type", "auto")
        if not request.tools and kind in ("auto", "none"):
            return None  # says nothing without tools
        is_one_call = request.parallel_tool_calls is False or (
            request.parallel_tool_calls is None and request.prefers_one_call
        )
        if is_one_call and kind != "none":
            return {"type": kind, **encoded, "disable_parallel_tool_use": True}
        return encoded

    def _choice(self, choice: ToolChoice) -> dict[str, Any]:
        if choice.mode is ToolChoiceMode.OPAQUE:
            given = choice.opaque or {}
            if given.get("type") not in _CHOICE_TYPES.values():
                raise UnsupportedFeature(f"tool_choice {given.get('type')}", self._provider)
            return dict(given)
        encoded = {"type": _CHOICE_TYPES[choice.mode]}
        if choice.mode is ToolChoiceMode.NAMED:
            encoded["name"] = choice.name
        return encoded

    # --- prompt caching -----------------------------------------------------------------------

    def _place_cache_marks(self, tools: list[Block], talk: Conversation) -> None:
        mode = self._request.policy.prompt_cache or self._quirks.cache
        if mode != "auto" or self._has_marks:
            return
        users = [turn for turn in talk.turns if turn.role == "user"]
        places = [tools, talk.system, *(turn.content for turn in users[-_CACHED_TURNS:])]
        for blocks in places:
            if blocks:
                blocks[-1]["cache_control"] = _CACHE_MARK


def _system(blocks: list[Block]) -> str | list[Block]:
    """One text, unless a block of it carries a cache breakpoint."""
    if all(block.keys() == {"type", "text"} for block in blocks):
        return "\n\n".join(block["text"] for block in blocks)
    return blocks


def _input_schema(schema_json: bytes, field: str) -> object:
    """The schema as it is where it names its type, which the wire requires."""
    if not schema_json:
        return {"type": "object", "properties": {}}
    schema = read_object(schema_json, field)
    return orjson.Fragment(schema_json) if "type" in schema else {"type": "object", **schema}
