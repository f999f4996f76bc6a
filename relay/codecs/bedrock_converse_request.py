"""A neutral request as the body of Bedrock's `ConverseStream`.

What this wire cannot say, or says otherwise (`bedrock_converse_conversation` for messages):

    refused by name, since leaving it out would change the answer
        n above 1, penalties other than 0, logprobs, top_logprobs, top_k of models other than Claude
        and Nova, response_format json_object, json_schema without a schema, images by an address
        that is none of S3, anything but text in instructions, custom tools and their calls, tools
        and tool choices of other wires, stop texts of nothing but white space (Claude);
        tool_choice none, or no tools at all, once the conversation has calls or results;
        parallel_tool_calls false but for Claude with a free choice; extra fields: as for
        `anthropic_messages`; maps and joined objects in the schemas of structured output and strict
        tools (`anthropic_schema`: Bedrock wants objects closed of all its models)
    left out
        seed, names of messages, detail of images, user, prompt_cache_key, parallel_tool_calls when
        true, top_p beside a temperature (Claude), reasoning where the family has no word for it,
        cache marks where the model takes no cache points, service tiers but the four, empty stop
        texts, reasoning text that is not in `reasoning_details`, and all extra fields not named
        here
    changed
        temperature is cut to 0..1; tool_choice none without calls in the conversation sends no
        tools; a tool's empty result is an empty object; ids of calls of other wires are hashed; a
        document's name loses what Bedrock does not take

Fields of the wire that a caller may give in its own words, among the extra ones:
`additionalModelRequestFields` (over which the request's typed fields go),
`additionalModelResponseFieldPaths`, `performanceConfig`, `requestMetadata`, and `guardrailConfig`
where the row has none. So are tools opaquely given in its own form (`toolSpec`, `systemTool`).

How reasoning is asked for is the family's: Claude as at its own door (`anthropic_thinking`), with
the effort in `outputConfig`; Nova 2 `reasoningConfig`, whose `high` takes no sampling and no limit;
OpenAI's open models `reasoning_effort`; others think as they are.

Source: the service model of botocore 1.44 (`bedrock-runtime`, 2023-09-30) for every shape. What
that does not say is from AWS's pages and public reports of 2026: no toolChoice none, toolConfig
required beside calls, one call at a time by `tool_choice` among Claude's additional fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.codecs.anthropic_message import REASONING_FORMAT
from relay.codecs.anthropic_quirks import is_among
from relay.codecs.anthropic_schema import answer_schema, closed
from relay.codecs.anthropic_thinking import ThinkingPlan, plan_thinking, wished, word_of
from relay.codecs.bedrock_converse_conversation import (
    OWN_FORMAT,
    WIRE,
    Conversation,
    cache_point,
)
from relay.codecs.bedrock_converse_quirks import ConverseQuirks, Family
from relay.codecs.block_turns import Block
from relay.codecs.request_json import (
    CHAT_ONLY,
    default_tier,
    dump_body,
    read_object,
    readable_tool,
    refuse_asked,
    said_stops,
)
from relay.content import GenerateRequest, ResponseFormat, Tool, ToolChoiceMode
from relay.errors import InvalidRequest, UnsupportedFeature

_NATIVE_FIELDS: Final = (
    "additionalModelResponseFieldPaths",
    "performanceConfig",
    "requestMetadata",
)
_SERVICE_TIERS: Final = frozenset({"default", "flex", "priority", "reserved"})

_EFFORTS: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""Of Nova and of OpenAI's open models."""

_LEAST_TOP_P: Final = 0.95
"""Below it Claude refuses top_p together with thinking."""

_CACHED_TURNS: Final = 2
_NO_PLAN: Final = ThinkingPlan(None, "", 0)

FORMATS: Final[Mapping[Family, frozenset[str]]] = {
    "claude": frozenset({REASONING_FORMAT, OWN_FORMAT}),
    "nova": frozenset({OWN_FORMAT}),
    "openai": frozenset({OWN_FORMAT}),
    "other": frozenset({OWN_FORMAT}),
}
"""Of `reasoning_details` that a family takes back."""


def encode_body(
    request: GenerateRequest, model: str, quirks: ConverseQuirks, provider: str
) -> bytes:
    """The body of `POST /model/{model}/converse-stream`.

    Raises:
        UnsupportedFeature: something that the wire or the provider's row refuses, named.
        InvalidRequest: a schema that is not JSON, or a field that is no object.
    """
    return dump_body(_BodyBuilder(request, model, quirks, provider).build())


class _BodyBuilder:
    """Collects the body of one request."""

    def __init__(
        self, request: GenerateRequest, model: str, quirks: ConverseQuirks, provider: str
    ) -> None:
        self._request = request
        self._model = model
        self._quirks = quirks
        self._provider = provider
        self._extra = request.extra_on(WIRE)
        self._family = quirks.family_of(model)
        self._cache_places = quirks.cache_places(self._family)
        self._has_marks = False
        self._additional: dict[str, Any] = {}

    def build(self) -> dict[str, Any]:
        request = self._request
        self._refuse_unsaid()
        self._additional = self._native_object("additionalModelRequestFields")
        talk = Conversation(
            request.messages,
            self._quirks,
            self._provider,
            self._cache_places,
            FORMATS[self._family],
        )
        tools = self._tools(talk)
        self._has_marks = self._has_marks or talk.has_marks
        plan = self._plan_reasoning(talk)
        self._place_cache_points(tools, talk)
        choice = self._tool_choice() if tools else None
        tier = default_tier(request.service_tier)
        fields: dict[str, Any] = {
            "messages": [{"role": turn.role, "content": turn.content} for turn in talk.turns],
            "system": talk.system,
            "inferenceConfig": self._inference(plan),
            "toolConfig": {"tools": tools, **({"toolChoice": choice} if choice else {})}
            if tools
            else None,
            "guardrailConfig": self._quirks.guardrail or self._extra.get("guardrailConfig"),
            "outputConfig": self._output_config(plan),
            "serviceTier": {"type": tier} if tier in _SERVICE_TIERS else None,
            **{name: self._extra.get(name) for name in _NATIVE_FIELDS},
            "additionalModelRequestFields": self._additional,
        }
        return {name: value for name, value in fields.items() if value}

    def _native_object(self, name: str) -> dict[str, Any]:
        """An object that the caller gave in the wire's own words."""
        value = self._extra.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{name} must be an object", field=name)
        return dict(value)

    def _refuse_unsaid(self) -> None:
        sampling = self._request.sampling
        has_top_k = sampling.top_k is not None and sampling.top_k > 0
        unsaid = {
            "n": (sampling.choices or 1) > 1,
            "presence_penalty": bool(sampling.presence_penalty),
            "frequency_penalty": bool(sampling.frequency_penalty),
            "logprobs": bool(sampling.logprobs),
            "top_logprobs": bool(sampling.top_logprobs),
            "top_k": has_top_k and self._family not in ("claude", "nova"),
            "a stop of white space": self._family == "claude"
            and any(text.isspace() for text in sampling.stop),
            "tools": bool(self._request.tools) and "tools" in self._quirks.refuses,
        }
        for name, is_asked in unsaid.items():
            if is_asked:
                raise UnsupportedFeature(name, self._provider)
        refuse_asked(self._extra, CHAT_ONLY, self._provider)

    # --- reasoning and sampling ---------------------------------------------------------------

    def _plan_reasoning(self, talk: Conversation) -> ThinkingPlan:
        """What Claude is sent; others' wishes go into the additional fields at once."""
        request = self._request
        if self._family == "claude":
            choice = request.tool_choice
            plan = plan_thinking(
                request,
                self._model,
                self._quirks.claude,
                may_be_manual=talk.allows_manual_thinking,
                is_forced=choice is not None
                and choice.mode in (ToolChoiceMode.REQUIRED, ToolChoiceMode.NAMED),
            )
            if plan.thinking is not None:
                self._additional["thinking"] = dict(plan.thinking)
            return plan
        effort, budget = wished(request)
        if effort == "none" or (not effort and not budget):
            return _NO_PLAN
        word = _EFFORTS.get(word_of(effort, budget), "medium")
        if self._family == "openai":
            self._additional["reasoning_effort"] = word
        elif self._family == "nova" and ("nova-2" in self._model or self._quirks.family == "nova"):
            if request.sampling.max_output_tokens is not None and word == "high":
                word = "medium"  # `high` takes no limit
            self._additional["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": word}
        return _NO_PLAN

    def _inference(self, plan: ThinkingPlan) -> dict[str, Any]:
        sampling = self._request.sampling
        found: dict[str, Any] = {}
        config = self._additional.get("reasoningConfig")
        is_free = isinstance(config, Mapping) and config.get("maxReasoningEffort") == "high"
        if limit := self._limit(plan):
            found["maxTokens"] = limit
        if self._family == "claude":
            self._sample_claude(plan, found)
        elif not is_free:
            if sampling.temperature is not None:
                found["temperature"] = min(max(sampling.temperature, 0.0), 1.0)
            if sampling.top_p is not None:
                found["topP"] = sampling.top_p
            if sampling.top_k is not None and sampling.top_k > 0:  # Nova's, the others' is refused
                given = self._additional.get("inferenceConfig")
                mine = dict(given) if isinstance(given, Mapping) else {}
                self._additional["inferenceConfig"] = {**mine, "topK": sampling.top_k}
        if stops := said_stops(sampling):
            found["stopSequences"] = stops
        return {} if is_free and not stops else found

    def _limit(self, plan: ThinkingPlan) -> int | None:
        limit = self._request.sampling.max_output_tokens
        default = self._quirks.default_max_tokens
        if self._family != "claude":
            return default if limit is None else limit
        if limit is None and default is not None:
            # The plan has put a manual budget on top of its own default.
            return plan.max_tokens - self._quirks.claude.default_max_tokens + default
        return plan.max_tokens

    def _sample_claude(self, plan: ThinkingPlan, found: dict[str, Any]) -> None:
        if is_among(self._model, self._quirks.claude.fixed_sampling_models):
            return
        sampling = self._request.sampling
        if sampling.temperature is not None and not plan.is_on:
            found["temperature"] = min(max(sampling.temperature, 0.0), 1.0)
        elif sampling.top_p is not None and (not plan.is_on or sampling.top_p >= _LEAST_TOP_P):
            found["topP"] = sampling.top_p
        if sampling.top_k is not None and sampling.top_k > 0 and not plan.is_on:
            self._additional["top_k"] = sampling.top_k

    # --- the shape of the text ----------------------------------------------------------------

    def _output_config(self, plan: ThinkingPlan) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if (shape := self._format(self._request.response_format)) is not None:
            config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": shape}}
        if plan.effort:
            config["effort"] = plan.effort
        return config

    def _format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        schema = answer_schema(wanted, self._quirks.refuses, self._provider)
        if wanted is None or schema is None:
            return None
        shape = {"schema": orjson.dumps(schema).decode()}  # this one wants a text
        if wanted.name:
            shape["name"] = wanted.name
        if wanted.description:
            shape["description"] = wanted.description
        return shape

    # --- tools --------------------------------------------------------------------------------

    def _tools(self, talk: Conversation) -> list[Block]:
        request = self._request
        is_banned = (
            request.tool_choice is not None and request.tool_choice.mode is ToolChoiceMode.NONE
        )
        if talk.has_tools and not request.tools:
            raise UnsupportedFeature("calls in the conversation without tools", self._provider)
        if is_banned and request.tools:
            if talk.has_tools:
                raise UnsupportedFeature("tool_choice none beside earlier calls", self._provider)
            return []
        tools: list[Block] = []
        for at, given in enumerate(request.tools):
            tool = readable_tool(given, WIRE, self._provider)
            tools.append(self._tool(tool, f"tools[{at}].parameters"))
            if tool.cache_control:
                self._has_marks = True
                if "tools" in self._cache_places:
                    tools.append(cache_point(tool.cache_control))
        return tools

    def _tool(self, tool: Tool, field: str) -> Block:
        if tool.opaque is not None:
            return self._opaque_tool(tool.opaque, field)
        schema = read_object(tool.parameters_json or b'{"properties":{}}', field)
        return self._spec(tool.name, tool.description, schema, field, is_strict=bool(tool.strict))

    def _opaque_tool(self, given: Mapping[str, Any], field: str) -> Block:
        inner = given.get("function")
        if given.get("type") == "function" and isinstance(inner, Mapping):
            # A chat body's function with further fields.
            schema = inner.get("parameters")
            described = inner.get("description")
            return self._spec(
                str(inner.get("name")),
                described if isinstance(described, str) else "",
                schema if isinstance(schema, Mapping) else {"properties": {}},
                field,
                is_strict=bool(inner.get("strict")),
            )
        if len(given) == 1 and given.keys() <= {"toolSpec", "systemTool", "cachePoint"}:
            return dict(given)
        raise UnsupportedFeature(f"a tool of type {str(given.get('type'))[:100]}", self._provider)

    def _spec(
        self,
        name: str,
        description: str,
        schema: Mapping[str, Any],
        field: str,
        *,
        is_strict: bool,
    ) -> Block:
        spec: Block = {"name": name}
        if description:
            spec["description"] = description
        full: Mapping[str, Any] = schema if "type" in schema else {"type": "object", **schema}
        if is_strict:
            full = closed(full, field, self._provider)
            spec["strict"] = True
        spec["inputSchema"] = {"json": full}
        return {"toolSpec": spec}

    def _tool_choice(self) -> dict[str, Any] | None:
        """The choice, None for a free one; whether one call at a time may be made with it."""
        request = self._request
        choice = request.tool_choice
        mode = ToolChoiceMode.AUTO if choice is None else choice.mode
        said: dict[str, Any] | None = None
        if choice is not None and mode is ToolChoiceMode.REQUIRED:
            said = {"any": {}}
        elif choice is not None and mode is ToolChoiceMode.NAMED:
            said = {"tool": {"name": choice.name}}
        elif choice is not None and mode is ToolChoiceMode.OPAQUE:
            given = choice.opaque or {}
            if len(given) != 1 or not given.keys() <= {"auto", "any", "tool"}:
                raise UnsupportedFeature(
                    f"tool_choice {str(given.get('type'))[:100]}", self._provider
                )
            said = dict(given)
        can_say_one = self._family == "claude" and said is None
        if request.parallel_tool_calls is False and not can_say_one:
            raise UnsupportedFeature("parallel_tool_calls: false", self._provider)
        if can_say_one and (
            request.parallel_tool_calls is False
            or (request.parallel_tool_calls is None and request.prefers_one_call)
        ):
            self._additional["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        return said

    # --- prompt caching -----------------------------------------------------------------------

    def _place_cache_points(self, tools: list[Block], talk: Conversation) -> None:
        mode = self._request.policy.prompt_cache or self._quirks.cache
        if mode != "auto" or self._has_marks:
            return
        if "tools" in self._cache_places and tools:
            tools.append(cache_point({}))
        if "system" in self._cache_places and talk.system:
            talk.system.append(cache_point({}))
        if "messages" in self._cache_places:
            for turn in [turn for turn in talk.turns if turn.role == "user"][-_CACHED_TURNS:]:
                turn.blocks.append(cache_point({}))
