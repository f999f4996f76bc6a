"""The messages of a Messages body: turns of blocks to neutral messages.

A user's turn becomes the results of tools in it, each a message of its own, and behind them what
the user says. An assistant's becomes one message, whose blocks stay beside it (`Message.native`)
where the neutral fields cannot hold all of them or their order: Claude gets the turn back as it
came, and others what they can read. Blocks that only this wire knows are opaque parts, which other
wires refuse by name; thinking is no such block, they leave it out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from relay.content import (
    FilePart,
    ImagePart,
    Message,
    NativeBlocks,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ToolCall,
)
from relay.errors import InvalidRequest
from relay.frontends import messages_state
from relay.frontends.body_fields import an_object, required, said, typed
from relay.frontends.chat_body import known_type
from relay.frontends.limits import Allowance

WIRE: Final = "anthropic_messages"
REASONING_FORMAT: Final = "anthropic-claude-v1"
"""Of this wire's entries in `reasoning_details`."""

KnownPart = TextPart | ImagePart | FilePart
Block = Mapping[str, Any]

_READ_OF_TEXT: Final = frozenset({"type", "text", "cache_control"})
_READ_OF_MEDIA: Final = frozenset({"type", "source", "title", "cache_control"})
_READ_OF_CALL: Final = frozenset({"type", "id", "name", "input", "cache_control"})

_PLACE: Final[Mapping[str, int]] = {"thinking": 0, "redacted_thinking": 0, "tool_use": 2}
"""In the order that the neutral fields imply; everything else stands between."""


def read_messages(messages: list[Any], allowance: Allowance) -> list[Message]:
    """
    Raises:
        InvalidRequest: something is missing or wrong; `field` is its path.
    """
    found: list[Message] = []
    for at, item in enumerate(messages):
        path = f"messages[{at}]"
        message = an_object(item, path)
        blocks = _blocks(message.get("content"), f"{path}.content", allowance)
        match message.get("role"):
            case "user":
                found += _user(blocks, f"{path}.content", allowance)
            case "assistant":
                found.append(_assistant(blocks, f"{path}.content", allowance))
            case "system":
                found.append(Message(Role.SYSTEM, _texts(blocks, f"{path}.content")))
            case _:
                field = f"{path}.role"
                raise InvalidRequest(f"{field} must be user or assistant", field=field)
    return found


def read_system(value: object, allowance: Allowance) -> list[Message]:
    """The `system` of a body.

    Raises:
        InvalidRequest: it is neither a string nor blocks of text.
    """
    if value is None or value == "":
        return []
    return [Message(Role.SYSTEM, _texts(_blocks(value, "system", allowance), "system"))]


def _texts(blocks: list[Block], path: str) -> tuple[TextPart, ...]:
    for at, block in enumerate(blocks):
        if block["type"] != "text":
            raise InvalidRequest(f"{path}[{at}].type must be text", field=f"{path}[{at}].type")
    return tuple(_text(block, f"{path}[{at}]") for at, block in enumerate(blocks))


def _blocks(content: object, path: str, allowance: Allowance) -> list[Block]:
    """Content as blocks, each an object with a type."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        what = "is required" if content is None else "must be a string or an array of blocks"
        raise InvalidRequest(f"{path} {what}", field=path)
    allowance.take_parts(len(content), path)
    for at, block in enumerate(content):
        required(an_object(block, f"{path}[{at}]"), "type", str, f"{path}[{at}]")
    return content


# --- the user's turn --------------------------------------------------------------------------


def _user(blocks: list[Block], path: str, allowance: Allowance) -> list[Message]:
    results: list[Message] = []
    parts: list[Part] = []
    for at, block in enumerate(blocks):
        if block["type"] == "tool_result":
            results.append(_result(block, f"{path}[{at}]", allowance))
        else:
            parts.append(_part(block, f"{path}[{at}]"))
    return [*results, Message(Role.USER, tuple(parts))] if parts or not results else results


def _result(block: Block, path: str, allowance: Allowance) -> Message:
    content = block.get("content")
    inner = [] if content is None else _blocks(content, f"{path}.content", allowance)
    extra: dict[str, Any] = {}
    if typed(block, "is_error", bool, path):
        extra["is_error"] = True
    if mark := _cache_mark(block, path):
        extra["cache_control"] = mark
    return Message(
        Role.TOOL,
        tuple(_part(part, f"{path}.content[{at}]") for at, part in enumerate(inner)),
        tool_call_id=required(block, "tool_use_id", str, path),
        extra=extra,
    )


# --- the assistant's turn ---------------------------------------------------------------------


def _assistant(blocks: list[Block], path: str, allowance: Allowance) -> Message:
    allowance.take_calls(sum(block["type"] == "tool_use" for block in blocks), path)
    parts: list[Part] = []
    calls: list[ToolCall] = []
    thoughts: list[str] = []
    details: list[dict[str, Any]] = []
    kept: list[Block] = []
    state: dict[str, Any] = {}
    of_calls: dict[str, dict[str, Any]] = {}
    for at, block in enumerate(blocks):
        here = f"{path}[{at}]"
        match block["type"]:
            case "thinking":
                thoughts.append(typed(block, "thinking", str, here) or "")
                details += _signed(block, at, here)
            case "redacted_thinking":
                data = typed(block, "data", str, here) or ""
                if messages_state.is_ours(data):
                    state, of_calls = messages_state.unpack(data, here, allowance)
                    continue
                if data:
                    details.append(_detail(at, type="reasoning.encrypted", data=data))
            case "tool_use":
                calls.append(_call(block, here))
            case _:
                parts.append(_part(block, here))
        kept.append(block)
    if details:
        state = {**state, "reasoning_details": [*details, *_list(state.get("reasoning_details"))]}
    return Message(
        Role.ASSISTANT,
        tuple(parts),
        tool_calls=tuple(
            replace(call, extra={**of_calls[call.call_id], **call.extra})
            if call.call_id in of_calls
            else call
            for call in calls
        ),
        reasoning="\n\n".join(filter(None, thoughts)),
        extra=state,
        native=None if _is_plain(kept) else NativeBlocks(WIRE, tuple(kept)),
    )


def _is_plain(blocks: list[Block]) -> bool:
    """Whether the neutral fields say all that these blocks say, in their order."""
    last = 0
    for block in blocks:
        kind = block["type"]
        place = _PLACE.get(kind, 1)
        if place < last:
            return False
        last = place
        if kind == "text" and said(block) - _READ_OF_TEXT:
            return False
        if kind == "tool_use" and said(block) - _READ_OF_CALL:
            return False
    return True


def _signed(block: Block, index: int, path: str) -> list[dict[str, Any]]:
    """The entry of a thinking block that can go back: none of one without a signature."""
    signature = typed(block, "signature", str, path)
    if not signature:
        return []
    text = typed(block, "thinking", str, path) or ""
    return [_detail(index, type="reasoning.text", text=text, signature=signature)]


def _detail(index: int, **entry: Any) -> dict[str, Any]:
    return {**entry, "format": REASONING_FORMAT, "index": index}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _call(block: Block, path: str) -> ToolCall:
    given = typed(block, "input", dict, path)
    mark = _cache_mark(block, path)
    return ToolCall(
        call_id=required(block, "id", str, path),
        name=required(block, "name", str, path),
        arguments=orjson.dumps(given or {}).decode(),
        extra={"cache_control": mark} if mark else {},
    )


# --- parts ------------------------------------------------------------------------------------


def _part(block: Block, path: str) -> Part:
    reader = _PART_READERS.get(block["type"])
    return reader(block, path) if reader is not None else OpaquePart(WIRE, block)


def _cache_mark(block: Block, path: str) -> Mapping[str, Any] | None:
    return typed(block, "cache_control", dict, path) or None


def _text(block: Block, path: str) -> TextPart:
    text = typed(block, "text", str, path)
    if text is None:
        raise InvalidRequest(f"{path}.text is required", field=f"{path}.text")
    return TextPart(text, _cache_mark(block, path))


def _image(block: Block, path: str) -> Part:
    source = an_object(block.get("source"), f"{path}.source")
    mark, path = _cache_mark(block, path), f"{path}.source"
    match source.get("type"):
        case "base64":
            return ImagePart(
                data_base64=required(source, "data", str, path),
                media_type=known_type(required(source, "media_type", str, path)),
                cache_control=mark,
            )
        case "url":
            url = required(source, "url", str, path)
            if not url.startswith(("https://", "http://")):
                raise InvalidRequest(f"{path}.url must be an http(s) URL", field=f"{path}.url")
            return ImagePart(url=url, cache_control=mark)
    return OpaquePart(WIRE, block)


def _document(block: Block, path: str) -> Part:
    source = an_object(block.get("source"), f"{path}.source")
    mark = _cache_mark(block, path)
    title = typed(block, "title", str, path) or ""
    path = f"{path}.source"
    if said(block) - _READ_OF_MEDIA:  # citations, context: what only this wire can do with it
        return OpaquePart(WIRE, block)
    match source.get("type"):
        case "base64":
            data = required(source, "data", str, path)
            media_type = known_type(required(source, "media_type", str, path))
        case "text":
            data = base64.b64encode(
                required(source, "data", str, path).encode("utf-8", "replace")
            ).decode()
            media_type = "text/plain"
        case "file":
            file_id = required(source, "file_id", str, path)
            return FilePart(file_id=file_id, filename=title, cache_control=mark)
        case _:
            return OpaquePart(WIRE, block)
    return FilePart(filename=title, data_base64=data, media_type=media_type, cache_control=mark)


_PART_READERS: Mapping[str, Callable[[Block, str], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
}
