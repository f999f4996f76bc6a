"""A neutral request as the body of `streamGenerateContent`.

How a conversation is bent into Gemini's: instructions, wherever they stand, go to
`systemInstruction`; what is left has two roles, `user` (questions and results of functions) and
`model`, and neighbours of one role are merged into one content. The results of one turn's calls
stand together and in the order of the calls, since models without call ids know them by that.
What the wire cannot say is listed in `gemini`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.codecs import gemini_models
from relay.codecs.gemini_answer import REASONING_FORMAT
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.gemini_schema import to_openapi
from relay.codecs.request_json import (
    CHAT_ONLY,
    dump_body,
    read_object,
    readable_tool,
    refuse_asked,
    said_stops,
    without_marks,
)
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest, UnsupportedFeature

WIRE: Final = "gemini"

UNSIGNED: Final = "skip_thought_signature_validator"
"""What Google's documentation of thought signatures gives for calls that another model made."""

_NATIVE_FIELDS: Final = ("safetySettings", "cachedContent", "labels", "modelArmorConfig")

_API_DEFAULTS: Final[Mapping[str, object]] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "parallel_tool_calls": True,
}
"""Sending these says nothing, so they are left out even where the field is refused."""

_SERVER_TOOLS: Final = frozenset(
    {
        "codeExecution",
        "computerUse",
        "enterpriseWebSearch",
        "fileSearch",
        "googleMaps",
        "googleSearch",
        "googleSearchRetrieval",
        "retrieval",
        "urlContext",
    }
)

SERVICE_TIERS: Final[Mapping[str, str]] = {
    "flex": "flex",
    "priority": "priority",
    "standard": "standard",
}

_AUDIO_TYPES: Final[Mapping[str, str]] = {"mp3": "audio/mp3", "pcm16": "audio/pcm"}
_IMAGE_TYPES: Final[Mapping[str, str]] = {
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}

_MAX_SEED: Final = 0x7FFFFFFF

Json = dict[str, Any]


def encode_body(request: GenerateRequest, model: str, quirks: GeminiQuirks, provider: str) -> bytes:
    """The body of `POST .../{model}:streamGenerateContent`.

    Raises:
        UnsupportedFeature: something that the wire or the provider's row cannot say, named.
        InvalidRequest: a tool's result without its call, a schema that is not JSON.
    """
    return _BodyBuilder(request, model, quirks, provider).build()


class _BodyBuilder:
    """Collects the body of one request; every rule of the quirks is applied here."""

    def __init__(
        self, request: GenerateRequest, model: str, quirks: GeminiQuirks, provider: str
    ) -> None:
        self._request = request
        self._model = model
        self._quirks = quirks
        self._provider = provider
        self._thinking: gemini_models.Style = (
            gemini_models.thinking_style(model) if quirks.thinking == "auto" else quirks.thinking
        )
        self._instructions: list[Json] = []
        self._contents: list[Json] = []
        self._results: list[tuple[int, Json]] = []  # of the turn's calls, by the call's place
        self._beside_results: list[Json] = []  # images and the like that came with them
        self._calls: dict[str, tuple[int, str]] = {}  # place and name by id, of the last such id
        self._call_count = 0

    def build(self) -> bytes:
        request = self._request
        extra = request.extra_on(WIRE)
        refuse_asked(extra, CHAT_ONLY, self._provider)
        for at, message in enumerate(request.messages):
            self._add_message(message, f"messages[{at}]")
        self._flush_results()
        if not self._contents:
            # An agent that is to speak first: the wire wants somebody to have spoken before.
            self._add_content("user", [{"text": "."}])
        body: Json = {name: extra[name] for name in _NATIVE_FIELDS if name in extra}
        tools, declarations = self._tools()
        fields = {
            "contents": self._contents,
            "systemInstruction": {"parts": self._instructions} if self._instructions else None,
            "tools": tools,
            "toolConfig": self._tool_config(declarations),
            "generationConfig": self._generation_config(has_tools=bool(tools)),
            "serviceTier": self._field("service_tier", SERVICE_TIERS.get(request.service_tier)),
        }
        body.update((name, value) for name, value in fields.items() if value)
        return dump_body(body)

    # --- what is refused and left out --------------------------------------------------------

    def _field(self, name: str, value: Any) -> Any:
        """The value of a field unless it says nothing or the row leaves it out; None then.

        Raises:
            UnsupportedFeature: the row refuses it.
        """
        quirks = self._quirks
        says_nothing = value is None or (name in _API_DEFAULTS and value == _API_DEFAULTS[name])
        if says_nothing or name in quirks.leaves_out:
            return None
        self._check_refused(name)
        return value

    def _check_refused(self, name: str) -> None:
        if name in self._quirks.refuses:
            raise UnsupportedFeature(name, self._provider)

    def _native(self, name: str) -> Json:
        """An object that the caller gave in the wire's own words."""
        value = self._request.extra_on(WIRE).get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{name} must be an object", field=name)
        return dict(value)

    # --- messages ----------------------------------------------------------------------------

    def _add_message(self, message: Message, path: str) -> None:
        match message.role:
            case Role.SYSTEM | Role.DEVELOPER:
                self._add_instructions(message, path)
            case Role.TOOL:
                self._add_result(message, path)
            case Role.USER:
                self._flush_results()
                self._add_content("user", self._parts(message, path))
            case Role.ASSISTANT:
                self._flush_results()
                self._add_content("model", self._answer(message, path))

    def _add_instructions(self, message: Message, path: str) -> None:
        if not all(isinstance(part, TextPart | OpaquePart) for part in message.parts):
            raise UnsupportedFeature(f"{path}: instructions other than text", self._provider)
        self._instructions += self._parts(message, path)

    def _add_content(self, role: str, parts: list[Json]) -> None:
        if not parts:
            return  # answered with 400
        if self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    def _add_result(self, message: Message, path: str) -> None:
        call_id = message.tool_call_id
        if not call_id and message.name:
            raise UnsupportedFeature(f"{path}: a result of the older `functions`", self._provider)
        if call_id not in self._calls:
            # The wire wants the function's name, which only the call tells.
            field = f"{path}.tool_call_id"
            raise InvalidRequest(f"{field} names no earlier tool call", field=field)
        place, name = self._calls[call_id]
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        response: Json = {"name": name, "response": _object_or(text, "result")}
        if self._quirks.has_call_ids:
            response = {"id": call_id, **response}
        self._results.append((place, {"functionResponse": response}))
        self._beside_results += [
            self._part(part, f"{path}.content[{at}]")
            for at, part in enumerate(message.parts)
            if not isinstance(part, TextPart)
        ]

    def _flush_results(self) -> None:
        """The results since the last turn, as one content."""
        results = [result for _, result in sorted(self._results, key=lambda entry: entry[0])]
        self._add_content("user", results + self._beside_results)
        self._results.clear()
        self._beside_results.clear()

    def _answer(self, message: Message, path: str) -> list[Json]:
        """An earlier answer of the model, its signatures back where they were."""
        thoughts, of_calls, of_text = _signatures(message)
        signature = _signature(message.extra) or of_text
        texts = self._parts(message, path)
        calls = [
            self._past_call(call, of_calls.get(call.call_id, ""), is_first=at == 0)
            for at, call in enumerate(message.tool_calls)
        ]
        parts = [*thoughts, *_opaque_parts(message), *texts, *calls]
        if signature:
            signed = next((part for part in reversed(texts) if "text" in part), None)
            if signed is None:  # it came in an empty text at the end, and goes back there
                parts.append({"text": "", "thoughtSignature": signature})
            else:
                signed["thoughtSignature"] = signature
        return parts

    def _past_call(self, call: ToolCall, signature: str, *, is_first: bool) -> Json:
        if call.kind == "custom":
            raise UnsupportedFeature("custom tool calls", self._provider)
        self._calls[call.call_id] = (self._call_count, call.name)
        self._call_count += 1
        encoded: Json = {"name": call.name, "args": _object_or(call.arguments, "arguments")}
        if self._quirks.has_call_ids and call.call_id:
            encoded = {"id": call.call_id, **encoded}
        part: Json = {"functionCall": encoded}
        signature = _signature(call.extra) or signature
        if not signature and is_first and self._thinking == "level":
            # Of calls made in parallel only the first is signed, and it must be: 400 otherwise.
            signature = UNSIGNED
        if signature:
            part["thoughtSignature"] = signature
        return part

    def _parts(self, message: Message, path: str) -> list[Json]:
        return [
            self._part(part, f"{path}.content[{at}]")
            for at, part in enumerate(message.parts)
            if not (isinstance(part, TextPart | RefusalPart) and not part.text)
        ]

    def _part(self, part: Part, path: str) -> Json:
        match part:
            case TextPart() | RefusalPart():
                return {"text": part.text}
            case ImagePart():
                self._check_refused("image parts")
                if part.data_base64:
                    return _inline(part.media_type, part.data_base64)
                kind = part.media_type or _image_type(part.url)
                return {"fileData": {**({"mimeType": kind} if kind else {}), "fileUri": part.url}}
            case AudioPart():
                self._check_refused("audio parts")
                kind = _AUDIO_TYPES.get(part.format, f"audio/{part.format}")
                return _inline(kind, part.data_base64)
            case FilePart():
                self._check_refused("file parts")
                return self._file(part, path)
            case OpaquePart():
                if part.wire != WIRE:
                    raise UnsupportedFeature(f"a {part.wire} content part", self._provider)
                return dict(part.value)

    def _file(self, part: FilePart, path: str) -> Json:
        if part.data_base64:
            if not part.media_type:
                raise InvalidRequest(f"{path}: the type of the file is missing", field=path)
            return _inline(part.media_type, part.data_base64)
        if "://" not in part.file_id:
            raise UnsupportedFeature("a file by an id that is no URI", self._provider)
        kind = {"mimeType": part.media_type} if part.media_type else {}
        return {"fileData": {**kind, "fileUri": part.file_id}}

    # --- tools -------------------------------------------------------------------------------

    def _tools(self) -> tuple[list[Json], list[Json]]:
        """All tools, and the functions declared among them."""
        declarations: list[Json] = []
        others: list[Json] = []
        for at, given in enumerate(self._request.tools):
            tool = readable_tool(given, WIRE, self._provider)
            if tool.opaque is None:
                declarations.append(self._declaration(tool, f"tools[{at}]"))
            elif isinstance(function := tool.opaque.get("function"), Mapping):
                # A function with fields that only other wires know.
                parameters = function.get("parameters")
                description = function.get("description")
                known = Tool(
                    tool.name,
                    description if isinstance(description, str) else "",
                    b"" if parameters is None else orjson.dumps(parameters),
                )
                declarations.append(self._declaration(known, f"tools[{at}]"))
            elif (own := without_marks(tool.opaque)) and not own.keys() - _SERVER_TOOLS:
                others.append(own)
            else:
                kind = str(tool.opaque.get("type", "unknown"))[:100]
                raise UnsupportedFeature(f"a tool of type {kind}", self._provider)
        ours: list[Json] = [{"functionDeclarations": declarations}] if declarations else []
        return ours + others, declarations

    def _declaration(self, tool: Tool, path: str) -> Json:
        declaration: Json = {"name": tool.name}
        if tool.description:
            declaration["description"] = tool.description
        if tool.parameters_json:
            schema = read_object(tool.parameters_json, f"{path}.parameters")
            # An object without properties is refused by some models, and says nothing.
            if schema.get("properties") or schema.keys() - {"type", "properties", "required"}:
                if self._quirks.schemas == "openapi":
                    declaration["parameters"] = to_openapi(schema, self._provider)
                else:
                    declaration["parametersJsonSchema"] = orjson.Fragment(tool.parameters_json)
        return declaration

    def _tool_config(self, declarations: list[Json]) -> Json:
        config = self._native("toolConfig")
        if not declarations:
            return config
        if self._field("parallel_tool_calls", self._request.parallel_tool_calls) is not None:
            raise UnsupportedFeature("parallel_tool_calls: false", self._provider)
        calling = self._calling(self._request.tool_choice)
        if self._quirks.streams_arguments:
            calling = {"mode": "AUTO", **calling, "streamFunctionCallArguments": True}
        if calling:
            config["functionCallingConfig"] = {
                **(config.get("functionCallingConfig") or {}),
                **calling,
            }
        return config

    def _calling(self, choice: ToolChoice | None) -> Json:
        if choice is None:
            return {}
        match choice.mode:
            case ToolChoiceMode.AUTO:
                return {"mode": "AUTO"}
            case ToolChoiceMode.NONE:
                return {"mode": "NONE"}
            case ToolChoiceMode.REQUIRED:
                return {"mode": "ANY"}
            case ToolChoiceMode.NAMED:
                return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
            case ToolChoiceMode.OPAQUE:
                return self._allowed(choice.opaque or {})

    def _allowed(self, choice: Mapping[str, Any]) -> Json:
        """OpenAI's `allowed_tools`, when it allows functions."""
        inner = choice.get("allowed_tools", choice)
        tools = inner.get("tools") if isinstance(inner, Mapping) else None
        names = [_function_name(tool) for tool in tools] if isinstance(tools, list) else []
        if choice.get("type") != "allowed_tools" or not names or not all(names):
            raise UnsupportedFeature("this tool_choice", self._provider)
        # Under AUTO a list of names is not allowed.
        mode = "ANY" if inner.get("mode") == "required" else "VALIDATED"
        return {"mode": mode, "allowedFunctionNames": names}

    # --- how to generate ---------------------------------------------------------------------

    def _generation_config(self, *, has_tools: bool) -> Json:
        request, sampling = self._request, self._request.sampling
        config = self._native("generationConfig")
        wants_logprobs = self._field("logprobs", sampling.logprobs)
        seed, top_k = sampling.seed, sampling.top_k
        fields = {
            "temperature": sampling.temperature,
            "topP": sampling.top_p,
            "topK": self._field("top_k", top_k if top_k is None or top_k > 0 else None),
            "maxOutputTokens": sampling.max_output_tokens,
            "stopSequences": said_stops(sampling) or None,
            # An int32 here and 64 bits elsewhere: equal seeds stay equal.
            "seed": self._field("seed", None if seed is None else seed & _MAX_SEED),
            "candidateCount": self._field("n", sampling.choices),
            "presencePenalty": self._field("presence_penalty", sampling.presence_penalty),
            "frequencyPenalty": self._field("frequency_penalty", sampling.frequency_penalty),
            "responseLogprobs": wants_logprobs,
            "logprobs": sampling.top_logprobs if wants_logprobs else None,
            "thinkingConfig": gemini_models.thinking_config(
                self._model,
                self._thinking,
                request.reasoning,
                want_thoughts=request.want_reasoning,
            )
            or None,
        }
        config.update((name, value) for name, value in fields.items() if value is not None)
        self._put_format(config, has_tools=has_tools)
        return config

    def _put_format(self, config: Json, *, has_tools: bool) -> None:
        wanted = self._request.response_format
        if wanted is None or wanted.kind == "text":
            return
        if self._field("response_format", wanted) is None:
            return
        version = gemini_models.generation(self._model)
        if has_tools and version is not None and version < (3, 0):
            raise UnsupportedFeature("response_format together with tools", self._provider)
        config["responseMimeType"] = "application/json"
        if wanted.kind == "json_schema" and wanted.schema_json:
            field = "response_format.json_schema.schema"
            schema = read_object(wanted.schema_json, field)
            if self._quirks.schemas == "openapi":
                config["responseSchema"] = to_openapi(schema, self._provider)
            else:
                config["responseJsonSchema"] = orjson.Fragment(wanted.schema_json)


# --- state of earlier turns -----------------------------------------------------------------


def _signature(extra: Mapping[str, Any]) -> str:
    """The thought signature in the opaque fields of a call or a message, empty for none."""
    content = extra.get("extra_content")
    google = content.get("google") if isinstance(content, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    return signature if isinstance(signature, str) else ""


def _signatures(message: Message) -> tuple[list[Json], dict[str, str], str]:
    """What `reasoning_details` of this wire hold: signed thoughts, and (OpenRouter puts them
    there) the signatures of calls by their id, and of the text."""
    thoughts: list[Json] = []
    of_calls: dict[str, str] = {}
    of_text = ""
    details = message.extra.get("reasoning_details")
    for entry in details if isinstance(details, list) else ():
        if not isinstance(entry, Mapping) or entry.get("format") != REASONING_FORMAT:
            continue
        text, signature, data = entry.get("text"), entry.get("signature"), entry.get("data")
        if entry.get("type") == "reasoning.text" and isinstance(signature, str) and signature:
            thought = {"text": text if isinstance(text, str) else "", "thought": True}
            thoughts.append({**thought, "thoughtSignature": signature})
        elif entry.get("type") == "reasoning.encrypted" and isinstance(data, str) and data:
            call_id = entry.get("id")
            if isinstance(call_id, str) and call_id:
                of_calls[call_id] = data
            else:
                of_text = data
    return thoughts, of_calls, of_text


def _opaque_parts(message: Message) -> list[Json]:
    """Parts that chat has no place for, as `gemini_answer` gave them out."""
    listed = message.extra.get("gemini_parts")
    return [
        dict(entry["part"])
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("part"), Mapping)
    ]


# --- small shapes ---------------------------------------------------------------------------


def _object_or(text: str, name: str) -> orjson.Fragment | Json:
    """A text that is one JSON object as that object; none as an empty one; any other under a
    name, for fields that must be objects."""
    if not text.strip():
        return {}
    try:
        is_object = isinstance(orjson.loads(text), dict)
    except ValueError:
        is_object = False
    return orjson.Fragment(text) if is_object else {name: text}


def _inline(media_type: str, data_base64: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data_base64}}


def _image_type(url: str) -> str:
    """The type that the ending of a URL's path tells, empty if none."""
    path = url.partition("?")[0].partition("#")[0]
    return _IMAGE_TYPES.get(path.rpartition(".")[2].lower(), "")


def _function_name(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""
