"""Protobuf to the neutral request: pure functions.

Fields of the contract that this version does not serve are refused by name, never ignored. JSON
that only passes through is checked to be JSON here, so that a provider never sees half a document.

What there may be many of is counted before it is read (`limits`, `proto_scan`): a frame of a few
megabytes never keeps the loop from everybody else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

import orjson
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from rtrelay.v1 import content_pb2 as content_pb
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import (
    AudioPart,
    Budgets,
    CacheWish,
    FilePart,
    GenerateRequest,
    HedgeWish,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Policy,
    PromptCache,
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
from relay.errors import InvalidRequest, RequestTooLarge
from relay.frontends.body_fields import further
from relay.frontends.caller import NOBODY, Caller
from relay.frontends.chat_body import (
    MAX_CHOICES,
    READ_HERE,
    SAMPLING_RANGES,
    check_depth,
    decode_json,
    known_type,
    to_request,
)
from relay.frontends.limits import (
    MAX_LABEL_CHARS,
    MAX_LABELS,
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TAGS,
    MAX_TOOLS,
    Allowance,
    check_count,
)
from relay.frontends.proto_scan import MAX_FIELDS, holds_too_many_fields
from relay.frontends.request_policy import POLICY_KEYS
from relay.trace_context import valid_traceparent

MAX_ID_BYTES = 128

P = TypeVar("P", bound=ProtoMessage)


def parse(kind: type[P], data: bytes, max_bytes: int) -> P:
    """The message in some bytes.

    Args:
        max_bytes: the most that are read.

    Raises:
        RequestTooLarge: there are more, or more than `MAX_FIELDS` fields in them; names the message
            and the limit.
        InvalidRequest: they are no such message; names it.
    """
    name = kind.DESCRIPTOR.full_name
    if len(data) > max_bytes:
        raise RequestTooLarge(
            f"the {name} has {len(data)} bytes, and {max_bytes} is the limit",
            metadata={
                "field": name,
                "limit_bytes": str(max_bytes),
                "size_bytes": str(len(data)),
            },
        )
    if holds_too_many_fields(kind, data):
        raise RequestTooLarge(
            f"the {name} holds more than {MAX_FIELDS} fields", metadata={"field": name}
        )
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"the bytes are not a valid {name}", field=name) from None


def check_generation_id(generation_id: str, field: str = "start.generation_id") -> None:
    """
    Raises:
        InvalidRequest: empty or too long.
    """
    if not generation_id:
        raise InvalidRequest(f"{field} is required", field=field)
    if len(generation_id.encode()) > MAX_ID_BYTES:
        raise InvalidRequest(f"{field} is longer than {MAX_ID_BYTES} bytes", field=field)


def to_generate_request(
    start: relay_pb.Start,
    setup: relay_pb.Setup | None,
    caller: Caller = NOBODY,
    session_id: str = "",
) -> GenerateRequest:
    """The neutral request of a start, with the session's defaults filled in.

    Args:
        caller: of the RPC; its trace is for starts that name none of their own.
        session_id: of the session, if there is one.

    Raises:
        InvalidRequest: a field is missing or wrong.
        NotImplementedYet: a field asks for what this version does not serve.
    """
    _check_form(start)
    policy = _policy(start, setup, caller, session_id)
    model = start.model
    kind = start.WhichOneof("input")
    if kind == "openai_chat_body":
        Allowance().take_json(start.openai_chat_body, "start.openai_chat_body")
        body = decode_json(start.openai_chat_body)
        for ignored in ("stream", "stream_options", *POLICY_KEYS):
            body.pop(ignored, None)
        body["model"] = model or body.get("model") or (setup.model if setup else "")
        request = to_request(body, policy)
        return _with_reasoning(request, start.output.reasoning)
    if kind != "prompt":
        raise InvalidRequest(
            "start.prompt or start.openai_chat_body is required", field="start.prompt"
        )
    model = model or (setup.model if setup else "")
    if not model:
        raise InvalidRequest(
            "start.model is required when the setup names none", field="start.model"
        )
    return _of_prompt(start.prompt, "start.prompt", model, policy, start.output.reasoning)


def to_prewarm_request(
    setup: relay_pb.Setup, caller: Caller, session_id: str
) -> GenerateRequest | None:
    """What warms the cache of a session's prompts, None where nothing is to be warmed.

    Raises:
        InvalidRequest: a field is missing or wrong.
    """
    if not setup.HasField("prewarm_prompt"):
        return None
    if not setup.model:
        raise InvalidRequest("setup.model is required with prewarm_prompt", field="setup.model")
    policy = _policy(relay_pb.Start(), setup, caller, session_id)
    if policy.prompt_cache == "off":
        field = "setup.prompt_cache"
        raise InvalidRequest(f"{field} is off, so there is nothing to prewarm", field=field)
    return _of_prompt(
        setup.prewarm_prompt, "setup.prewarm_prompt", setup.model, policy, want_reasoning=False
    )


def _of_prompt(
    prompt: content_pb.Prompt, path: str, model: str, policy: Policy, want_reasoning: bool
) -> GenerateRequest:
    if not prompt.messages:
        raise InvalidRequest(f"{path}.messages must not be empty", field=f"{path}.messages")
    check_count(len(prompt.messages), MAX_MESSAGES, f"{path}.messages")
    check_count(len(prompt.tools), MAX_TOOLS, f"{path}.tools")
    allowance = Allowance()
    return GenerateRequest(
        model=model,
        messages=tuple(
            _message(item, f"{path}.messages[{i}]", allowance)
            for i, item in enumerate(prompt.messages)
        ),
        tools=tuple(
            _tool(item, f"{path}.tools[{i}]", allowance) for i, item in enumerate(prompt.tools)
        ),
        tool_choice=_tool_choice(prompt.tool_choice, f"{path}.tool_choice", allowance)
        if prompt.HasField("tool_choice")
        else None,
        parallel_tool_calls=_optional(prompt, "parallel_tool_calls"),
        response_format=_response_format(
            prompt.response_format, f"{path}.response_format", allowance
        )
        if prompt.HasField("response_format")
        else None,
        sampling=_sampling(prompt.sampling, f"{path}.sampling"),
        reasoning=ReasoningOptions(
            effort=prompt.reasoning.effort,
            budget_tokens=_optional(prompt.reasoning, "budget_tokens"),
        ),
        service_tier=prompt.service_tier,
        user=prompt.user,
        prompt_cache_key=prompt.prompt_cache_key,
        want_reasoning=want_reasoning,
        extra=_further(prompt.extra_json, f"{path}.extra_json", allowance),
        policy=policy,
    )


_DECIDED_HERE = frozenset({"model", "messages", "stream", "stream_options"})
"""Never sent on, whatever is said of them."""


def _further(data: bytes, field: str, allowance: Allowance) -> Mapping[str, Any]:
    """Further fields of a chat body. What has a field of its own must stand there: scopes, limits
    and budgets go by that."""
    extra = _json_object(data, field, allowance)
    for name in extra.keys() & READ_HERE - _DECIDED_HERE:
        if extra[name] is not None:
            raise InvalidRequest(
                f"{field}.{name} has a field of its own in the prompt", field=f"{field}.{name}"
            )
    return {
        **further(extra, READ_HERE, field),
        **{name: extra[name] for name in extra.keys() & _DECIDED_HERE},
    }


def _with_reasoning(request: GenerateRequest, want_reasoning: bool) -> GenerateRequest:
    if request.want_reasoning == want_reasoning:
        return request
    return replace(request, want_reasoning=want_reasoning)


def _check_form(start: relay_pb.Start) -> None:
    output = start.output
    modes = relay_pb.TextMode.values()
    if output.text_mode not in modes:
        raise InvalidRequest("start.output.text_mode is not known", field="start.output.text_mode")
    if start.hold_until_commit and not start.speculative:
        raise InvalidRequest(
            "start.hold_until_commit is for a start that is speculative",
            field="start.hold_until_commit",
        )


def check_labels(labels: Mapping[str, str], field: str) -> None:
    """
    Raises:
        InvalidRequest: too many, or one that is too long for a log line.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"{field} holds more than {MAX_LABELS} labels", field=field)
    for name, value in labels.items():
        if len(name) > MAX_LABEL_CHARS or len(value) > MAX_LABEL_CHARS:
            raise InvalidRequest(
                f"{field} has a name or value longer than {MAX_LABEL_CHARS} characters",
                field=field,
            )


_HEDGE_MODES: Mapping[int, Literal["auto", "off", "race"]] = {
    relay_pb.HEDGE_MODE_UNSPECIFIED: "auto",
    relay_pb.HEDGE_MODE_AUTO: "auto",
    relay_pb.HEDGE_MODE_OFF: "off",
    relay_pb.HEDGE_MODE_RACE: "race",
}

_CACHE: Mapping[int, CacheWish] = {
    relay_pb.CACHE_MODE_OFF: "off",
    relay_pb.CACHE_MODE_REFRESH: "refresh",
    relay_pb.CACHE_MODE_ONLY: "only",
}
_PROMPT_CACHE: Mapping[int, PromptCache] = {
    relay_pb.PROMPT_CACHE_OFF: "off",
    relay_pb.PROMPT_CACHE_AUTO: "auto",
}
"""Unknown values say nothing, like the unspecified one."""


def _hedge_wish(wish: relay_pb.HedgePolicy) -> HedgeWish:
    mode = _HEDGE_MODES.get(wish.mode)
    if mode is None:
        raise InvalidRequest("start.hedge.mode is not known", field="start.hedge.mode")
    return HedgeWish(
        mode=mode,
        delay_s=wish.delay_ms / 1000 if wish.delay_ms else None,
        max_attempts=wish.max_attempts or None,
    )


def _policy(
    start: relay_pb.Start, setup: relay_pb.Setup | None, caller: Caller, session_id: str
) -> Policy:
    labels: dict[str, str] = dict(setup.labels) if setup else {}
    if start.labels:
        check_labels(start.labels, "start.labels")
        labels.update(start.labels)
    if len(start.turn_id) > MAX_LABEL_CHARS:
        raise InvalidRequest(
            f"start.turn_id is longer than {MAX_LABEL_CHARS} characters", field="start.turn_id"
        )
    if len(start.tags) > MAX_TAGS or any(len(tag) > MAX_LABEL_CHARS for tag in start.tags):
        raise InvalidRequest(
            f"start.tags holds more than {MAX_TAGS} tags, or one over {MAX_LABEL_CHARS} characters",
            field="start.tags",
        )
    client = ""
    if setup is not None and setup.client_name:
        client = f"{setup.client_name}/{setup.client_version}"[:MAX_LABEL_CHARS]
    return Policy(
        budgets=Budgets(
            first_token_s=_budget(start, setup, "first_token_ms"),
            first_segment_s=_budget(start, setup, "first_segment_ms"),
            inter_token_s=_budget(start, setup, "inter_token_ms"),
            total_s=_budget(start, setup, "total_ms"),
        ),
        turn_id=start.turn_id,
        tags=tuple(start.tags),
        timeline=True,
        labels=labels,
        client=client,
        speculative=start.speculative,
        hold_until_commit=start.hold_until_commit,
        hedge=_hedge_wish(start.hedge) if start.HasField("hedge") else HedgeWish(),
        commit_on="first_segment"
        if start.output.commit_on == relay_pb.COMMIT_ON_FIRST_SEGMENT
        else "first_content",
        traceparent=valid_traceparent(start.traceparent)
        if start.traceparent
        else caller.traceparent,
        tracestate="" if start.traceparent else caller.tracestate,
        prompt_cache=_PROMPT_CACHE.get(start.prompt_cache) or _session_cache(setup),
        cache=_CACHE.get(start.cache, ""),
        session_id=session_id,
        tenant=caller.tenant,
        key_id=caller.key_id,
    )


def _session_cache(setup: relay_pb.Setup | None) -> PromptCache:
    """What holds for the starts of a session; a prefix that was sent ahead must be asked for."""
    if setup is None:
        return ""
    unsaid: PromptCache = "auto" if setup.HasField("prewarm_prompt") else ""
    return _PROMPT_CACHE.get(setup.prompt_cache, unsaid)


def _budget(start: relay_pb.Start, setup: relay_pb.Setup | None, name: str) -> float | None:
    """The start's limit, else the setup's; 0 sets none."""
    value = _optional(start.budgets, name)
    if value is None and setup is not None:
        value = _optional(setup.budgets, name)
    return value / 1000 if value else None


def _optional(message: ProtoMessage, name: str) -> Any:
    """An `optional` scalar, None when it was not set."""
    return getattr(message, name) if message.HasField(name) else None


def _json_object(data: bytes, field: str, allowance: Allowance) -> Mapping[str, Any]:
    """A JSON object in bytes; empty bytes are an empty one."""
    if not data:
        return {}
    allowance.take_json(data, field)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{field} is not valid JSON", field=field) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field} must be a JSON object", field=field)
    check_depth(value, field, field)
    return value


# --- messages ---------------------------------------------------------------------------------

_ROLES = {
    content_pb.ROLE_SYSTEM: Role.SYSTEM,
    content_pb.ROLE_DEVELOPER: Role.DEVELOPER,
    content_pb.ROLE_USER: Role.USER,
    content_pb.ROLE_ASSISTANT: Role.ASSISTANT,
    content_pb.ROLE_TOOL: Role.TOOL,
}


def _message(item: content_pb.Message, path: str, allowance: Allowance) -> Message:
    role = _ROLES.get(item.role)
    if role is None:
        raise InvalidRequest(f"{path}.role is not set or not known", field=f"{path}.role")
    parts: tuple[Part, ...] = ()
    if given := item.parts:
        allowance.take_parts(len(given), f"{path}.parts")
        parts = tuple(_part(part, f"{path}.parts[{i}]", allowance) for i, part in enumerate(given))
    tool_calls: tuple[ToolCall, ...] = ()
    if calls := item.tool_calls:
        allowance.take_calls(len(calls), f"{path}.tool_calls")
        tool_calls = tuple(
            _tool_call(call, f"{path}.tool_calls[{i}]", allowance) for i, call in enumerate(calls)
        )
    return Message(
        role=role,
        parts=parts,
        name=item.name,
        tool_calls=tool_calls,
        tool_call_id=item.tool_call_id,
        reasoning=item.reasoning,
        extra=_json_object(extra, f"{path}.extra_json", allowance)
        if (extra := item.extra_json)
        else {},
    )


def _part(part: content_pb.Part, path: str, allowance: Allowance) -> Part:
    kind = part.WhichOneof("kind")
    if kind == "text":
        return TextPart(part.text)
    if kind == "refusal":
        return RefusalPart(part.refusal)
    if kind == "image":
        return _image(part.image, f"{path}.image")
    if kind == "audio":
        if not part.audio.data or not part.audio.format:
            raise InvalidRequest(f"{path}.audio needs data and format", field=f"{path}.audio")
        return AudioPart(base64.b64encode(part.audio.data).decode(), part.audio.format)
    if kind == "file":
        return _file(part.file, f"{path}.file")
    if kind == "opaque":
        return _opaque(part.opaque, f"{path}.opaque", allowance)
    raise InvalidRequest(f"{path} has no kind that is known", field=path)


def _image(image: content_pb.ImagePart, path: str) -> ImagePart:
    if image.WhichOneof("source") == "url":
        if not image.url.startswith(("https://", "http://")):
            raise InvalidRequest(f"{path}.url must be an http(s) URL", field=f"{path}.url")
        return ImagePart(url=image.url, detail=image.detail)
    if not image.data or not image.media_type:
        raise InvalidRequest(f"{path} needs a url, or data with its media_type", field=path)
    return ImagePart(
        data_base64=base64.b64encode(image.data).decode(),
        media_type=known_type(image.media_type),
        detail=image.detail,
    )


def _file(file: content_pb.FilePart, path: str) -> FilePart:
    if not file.file_id and not file.data:
        raise InvalidRequest(f"{path} needs a file_id, or data with its media_type", field=path)
    if file.data and not file.media_type:
        raise InvalidRequest(f"{path}.media_type is required with data", field=f"{path}.media_type")
    return FilePart(
        file_id=file.file_id,
        filename=file.filename,
        data_base64=base64.b64encode(file.data).decode(),
        media_type=known_type(file.media_type),
    )


def _opaque(part: content_pb.OpaquePart, path: str, allowance: Allowance) -> OpaquePart:
    if len(part.wire) > MAX_LABEL_CHARS:  # errors of other wires quote it
        raise InvalidRequest(
            f"{path}.wire is longer than {MAX_LABEL_CHARS} characters", field=f"{path}.wire"
        )
    return OpaquePart(part.wire, _json_object(part.value_json, f"{path}.value_json", allowance))


def _tool_call(call: content_pb.ToolCall, path: str, allowance: Allowance) -> ToolCall:
    if not call.name:
        raise InvalidRequest(f"{path}.name is required", field=f"{path}.name")
    return ToolCall(
        call_id=call.call_id,
        name=call.name,
        arguments=call.arguments,
        kind="custom" if call.kind == content_pb.TOOL_KIND_CUSTOM else "function",
        extra=_json_object(call.extra_json, f"{path}.extra_json", allowance),
    )


# --- tools and sampling -----------------------------------------------------------------------


def _tool(tool: content_pb.Tool, path: str, allowance: Allowance) -> Tool:
    if tool.opaque_json:
        opaque = _json_object(tool.opaque_json, f"{path}.opaque_json", allowance)
        return Tool(name=tool.name, opaque=opaque)
    if not tool.name:
        raise InvalidRequest(f"{path}.name is required", field=f"{path}.name")
    _json_object(tool.parameters_json, f"{path}.parameters_json", allowance)
    return Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=tool.parameters_json,
        strict=_optional(tool, "strict"),
    )


_TOOL_CHOICES = {
    content_pb.TOOL_CHOICE_MODE_AUTO: ToolChoiceMode.AUTO,
    content_pb.TOOL_CHOICE_MODE_NONE: ToolChoiceMode.NONE,
    content_pb.TOOL_CHOICE_MODE_REQUIRED: ToolChoiceMode.REQUIRED,
    content_pb.TOOL_CHOICE_MODE_NAMED: ToolChoiceMode.NAMED,
    content_pb.TOOL_CHOICE_MODE_OPAQUE: ToolChoiceMode.OPAQUE,
}


def _tool_choice(choice: content_pb.ToolChoice, path: str, allowance: Allowance) -> ToolChoice:
    mode = _TOOL_CHOICES.get(choice.mode)
    if mode is None:
        raise InvalidRequest(f"{path}.mode is not set or not known", field=f"{path}.mode")
    if mode is ToolChoiceMode.NAMED and not choice.name:
        raise InvalidRequest(f"{path}.name is required", field=f"{path}.name")
    opaque = None
    if mode is ToolChoiceMode.OPAQUE:
        opaque = _json_object(choice.opaque_json, f"{path}.opaque_json", allowance)
    return ToolChoice(mode, name=choice.name, opaque=opaque)


def _response_format(
    wanted: content_pb.ResponseFormat, path: str, allowance: Allowance
) -> ResponseFormat:
    if wanted.kind == content_pb.RESPONSE_FORMAT_KIND_TEXT:
        return ResponseFormat("text")
    if wanted.kind == content_pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        return ResponseFormat("json_object")
    if wanted.kind != content_pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        raise InvalidRequest(f"{path}.kind is not set or not known", field=f"{path}.kind")
    _json_object(wanted.schema_json, f"{path}.schema_json", allowance)
    return ResponseFormat(
        "json_schema",
        name=wanted.name,
        description=wanted.description,
        schema_json=wanted.schema_json,
        strict=_optional(wanted, "strict"),
    )


def _sampling(sampling: content_pb.Sampling, path: str) -> Sampling:
    for name, (low, high) in SAMPLING_RANGES.items():
        value = _optional(sampling, name)
        if value is not None and not low <= value <= high:  # NaN is not either
            field = f"{path}.{name}"
            raise InvalidRequest(f"{field} must be between {low} and {high}", field=field)
    check_count(len(sampling.stop), MAX_STOPS, f"{path}.stop")
    choices = _optional(sampling, "choices")
    if choices is not None and not 1 <= choices <= MAX_CHOICES:
        field = f"{path}.choices"
        raise InvalidRequest(f"{field} must be between 1 and {MAX_CHOICES}", field=field)
    limit = _optional(sampling, "max_output_tokens")
    if limit == 0:
        field = f"{path}.max_output_tokens"
        raise InvalidRequest(f"{field} must be at least 1", field=field)
    return Sampling(
        temperature=_optional(sampling, "temperature"),
        top_p=_optional(sampling, "top_p"),
        top_k=_optional(sampling, "top_k"),
        max_output_tokens=limit,
        stop=tuple(sampling.stop),
        seed=_optional(sampling, "seed"),
        choices=choices,
        presence_penalty=_optional(sampling, "presence_penalty"),
        frequency_penalty=_optional(sampling, "frequency_penalty"),
        logprobs=_optional(sampling, "logprobs"),
        top_logprobs=_optional(sampling, "top_logprobs"),
    )
