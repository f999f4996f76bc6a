"""Every text of a request, wherever it stands, changed where it must be.

What a request says more than once (neutral fields, and beside them the client's own blocks for its
own wire) is changed everywhere alike. What cannot be read is told. Left alone are ids of calls, the
model's name, the service tier, and what goes to nobody (`GenerateRequest.policy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from relay.content import (
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    NativeBlocks,
    OpaquePart,
    Part,
    RefusalPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from relay.guardrails.json_texts import (
    changed,
    changed_bytes,
    changed_file,
    changed_text,
)
from relay.guardrails.rail import NAME, REASONING, TEXT, TOOL, Kind


class Reader(Protocol):
    """Who looks at the texts."""

    def at(self, message: int, role: str) -> None:
        """What comes now is of this message; of none with -1."""
        ...

    def say(self, kind: Kind, text: str) -> str:
        """A text that is said by itself. Returns what becomes of it: the same object if nothing.

        Raises:
            GuardrailBlocked: it may not be asked.
        """
        ...

    def beside(self, kind: Kind, text: str) -> str:
        """A text within some JSON: a key, a name, or again what `say` is told. As `say`."""
        ...

    def knows(self, kind: Kind, data: bytes) -> bool:
        """Whether a JSON document was read before, and nothing was found."""
        ...

    def clean(self, kind: Kind, data: bytes) -> None:
        """Nothing was found in a JSON document."""
        ...

    def unread(self, what: str) -> None:
        """Something cannot be read. Raises as `say`."""
        ...


def read_request(request: GenerateRequest, reader: Reader) -> GenerateRequest:
    """The request as it may go on; the same object where nothing had to change.

    Raises:
        GuardrailBlocked: it may not.
    """
    new: dict[str, Any] = {}
    messages = tuple([_message(at, message, reader) for at, message in enumerate(request.messages)])
    if any(map(_is_other, messages, request.messages)):
        new["messages"] = messages
    reader.at(-1, "")
    if request.tools:
        tools = tuple([_tool(tool, reader) for tool in request.tools])
        if any(map(_is_other, tools, request.tools)):
            new["tools"] = tools
    if request.tool_choice is not None:
        _note(new, "tool_choice", request.tool_choice, _choice(request.tool_choice, reader))
    if request.response_format is not None:
        given = request.response_format
        _note(new, "response_format", given, _format(given, reader))
    if request.sampling.stop:
        stop = changed(request.sampling.stop, _Within(reader, TEXT), reader.unread)
        if stop is not request.sampling.stop:
            new["sampling"] = replace(request.sampling, stop=stop)
    for name in ("user", "prompt_cache_key"):
        if text := getattr(request, name):
            _note(new, name, text, reader.beside(TEXT, text))
    if request.embedding is not None:
        _note(new, "embedding", request.embedding, _embedding(request.embedding, reader))
    for name in ("extra", "native"):
        if value := getattr(request, name):
            _note(new, name, value, _json(value, TEXT, reader))
    return replace(request, **new) if new else request


class _Within:
    """Texts of some JSON."""

    __slots__ = ("_kind", "_reader")

    def __init__(self, reader: Reader, kind: Kind) -> None:
        self._reader = reader
        self._kind: Kind = kind

    def __call__(self, text: str) -> str:
        return self._reader.beside(self._kind, text)


def _json(value: Any, kind: Kind, reader: Reader) -> Any:
    return changed(value, _Within(reader, kind), reader.unread)


def _note(new: dict[str, Any], name: str, old: object, value: object) -> None:
    if value is not old:
        new[name] = value


def _is_other(one: object, other: object) -> bool:
    return one is not other


# --- messages ---------------------------------------------------------------------------------


def _message(at: int, message: Message, reader: Reader) -> Message:
    role = message.role
    reader.at(at, role.value)
    kind: Kind = TOOL if role is Role.TOOL else TEXT
    new: dict[str, Any] = {}
    if message.parts:
        _note(new, "parts", message.parts, _parts(message.parts, kind, reader))
    if message.name:
        _note(new, "name", message.name, reader.beside(TEXT, message.name))
    if message.reasoning:
        _note(new, "reasoning", message.reasoning, reader.say(REASONING, message.reasoning))
    if message.tool_calls:
        calls = tuple([_call(call, reader) for call in message.tool_calls])
        if any(map(_is_other, calls, message.tool_calls)):
            new["tool_calls"] = calls
    if message.extra:
        _note(new, "extra", message.extra, _json(message.extra, REASONING, reader))
    if message.native is not None:
        blocks = _blocks(message.native, kind, reader)
        if blocks is not message.native.blocks:
            new["native"] = replace(message.native, blocks=blocks)
        elif "parts" in new or "tool_calls" in new or "reasoning" in new:
            # Something runs over several of its blocks: the fields say what is left.
            new["native"] = None
    return replace(message, **new) if new else message


def _blocks(native: NativeBlocks, kind: Kind, reader: Reader) -> tuple[Mapping[str, Any], ...]:
    """Thinking that has to change has no signature then, and is left out."""
    found = []
    is_same = True
    for block in native.blocks:
        is_thought = "thinking" in str(block.get("type", ""))
        new = _json(block, REASONING if is_thought else kind, reader)
        if new is not block:
            is_same = False
            if is_thought or "signature" in block:
                continue
        found.append(new)
    return native.blocks if is_same else tuple(found)


def _parts(parts: tuple[Part, ...], kind: Kind, reader: Reader) -> tuple[Part, ...]:
    if len(parts) == 1 and type(part := parts[0]) is TextPart:
        text = reader.say(kind, part.text)
        return parts if text is part.text else (replace(part, text=text),)
    new = [_part(part, kind, reader) for part in parts]
    merged = _over_several(new, kind, reader)
    if len(merged) == len(parts) and not any(map(_is_other, merged, parts)):
        return parts
    return tuple(merged)


def _over_several(parts: list[Part], kind: Kind, reader: Reader) -> list[Part]:
    """What a model reads as one text is one: where something runs over parts that follow each
    other, one part stands in the place of all of them."""
    found: list[Part] = []
    run: list[TextPart] = []
    for part in [*parts, None]:
        if isinstance(part, TextPart):
            run.append(part)
            continue
        if len(run) > 1:
            joined = "".join(one.text for one in run)
            text = reader.beside(kind, joined)
            if text is not joined:
                run = [TextPart(text, run[-1].cache_control)]
        found += run
        run = []
        if part is not None:
            found.append(part)
    return found


def _part(part: Part, kind: Kind, reader: Reader) -> Part:
    match part:
        case TextPart() | RefusalPart():
            text = reader.say(kind, part.text)
            return part if text is part.text else replace(part, text=text)
        case ImagePart():
            reader.unread("image")
            url = reader.beside(kind, part.url) if part.url else part.url
            return part if url is part.url else replace(part, url=url)
        case FilePart():
            name = reader.beside(kind, part.filename) if part.filename else part.filename
            data = part.data_base64
            if data:
                say = _Saying(reader, kind)
                data = changed_file(data, part.media_type, say, reader.unread)
            else:
                reader.unread("file")
            if name is part.filename and data is part.data_base64:
                return part
            return replace(part, filename=name, data_base64=data)
        case OpaquePart():
            value = _json(part.value, kind, reader)
            return part if value is part.value else replace(part, value=value)
        case _:
            reader.unread("audio")
            return part


class _Saying:
    """As `_Within`, of a text that is said by itself."""

    __slots__ = ("_kind", "_reader")

    def __init__(self, reader: Reader, kind: Kind) -> None:
        self._reader = reader
        self._kind: Kind = kind

    def __call__(self, text: str) -> str:
        return self._reader.say(self._kind, text)


def _call(call: ToolCall, reader: Reader) -> ToolCall:
    new: dict[str, Any] = {}
    _note(new, "name", call.name, reader.beside(NAME, call.name))
    if call.arguments:
        say = _Saying(reader, TOOL)
        _note(new, "arguments", call.arguments, changed_text(call.arguments, say, reader.unread))
    if call.extra:
        _note(new, "extra", call.extra, _json(call.extra, TOOL, reader))
    return replace(call, **new) if new else call


# --- beside them --------------------------------------------------------------------------------


def _tool(tool: Tool, reader: Reader) -> Tool:
    new: dict[str, Any] = {}
    _note(new, "name", tool.name, reader.beside(NAME, tool.name))
    if tool.description:
        _note(new, "description", tool.description, reader.beside(TOOL, tool.description))
    if tool.parameters_json and not reader.knows(TOOL, tool.parameters_json):
        data = changed_bytes(tool.parameters_json, _Within(reader, TOOL), reader.unread)
        _note(new, "parameters_json", tool.parameters_json, data)
        if data is tool.parameters_json:
            reader.clean(TOOL, data)
    if tool.opaque is not None:
        _note(new, "opaque", tool.opaque, _json(tool.opaque, TOOL, reader))
    return replace(tool, **new) if new else tool


def _choice(choice: ToolChoice, reader: Reader) -> ToolChoice:
    if choice.name:
        reader.beside(NAME, choice.name)
    if choice.opaque is None:
        return choice
    opaque = _json(choice.opaque, TOOL, reader)
    return choice if opaque is choice.opaque else replace(choice, opaque=opaque)


def _format(wanted: ResponseFormat, reader: Reader) -> ResponseFormat:
    new: dict[str, Any] = {}
    if wanted.name:
        reader.beside(NAME, wanted.name)
    if wanted.description:
        _note(new, "description", wanted.description, reader.beside(TEXT, wanted.description))
    if wanted.schema_json and not reader.knows(TEXT, wanted.schema_json):
        data = changed_bytes(wanted.schema_json, _Within(reader, TEXT), reader.unread)
        _note(new, "schema_json", wanted.schema_json, data)
        if data is wanted.schema_json:
            reader.clean(TEXT, data)
    return replace(wanted, **new) if new else wanted


def _embedding(options: EmbeddingOptions, reader: Reader) -> EmbeddingOptions:
    if options.tokens:
        reader.unread("tokens")
    reader.at(-1, "user")
    texts = tuple([reader.say(TEXT, text) for text in options.texts])
    return replace(options, texts=texts) if any(map(_is_other, texts, options.texts)) else options
