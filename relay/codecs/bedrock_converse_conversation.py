"""The messages of a request as Converse's turns.

The turns follow the rules of `anthropic_conversation`, which Bedrock has for all its models: user
and assistant one after the other, the user first, no blank text, the results of all calls of a turn
at the head of the user turn behind it. Instructions of any place go to `system`.

What a turn of an assistant is made of: reasoning with its signature and encrypted reasoning, as
`reasoning_details` holds them; text; the blocks of `converse_blocks`; tool calls. Claude's signed
thinking is taken from Anthropic's own door as well, since its signatures hold at every door;
encrypted reasoning goes back where it came from only.

A client's `cache_control` becomes a cache point behind its block where the model takes one there,
and is left out elsewhere, being a hint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.codecs.anthropic_conversation import CHAT_WIRE, OPENING_TEXT
from relay.codecs.bedrock_converse_quirks import ConverseQuirks
from relay.codecs.block_turns import Block, Turn, turn_of
from relay.codecs.block_values import mappings, text_of, unread_blocks
from relay.codecs.request_json import past_arguments
from relay.content import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ToolCall,
)
from relay.errors import UnsupportedFeature

WIRE: Final = "bedrock_converse"

OWN_FORMAT: Final = "bedrock-converse-v1"
"""Of entries in `reasoning_details` that no other wire can take back."""

_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_INSTRUCTIONS: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})

_IMAGE_FORMATS: Final[Mapping[str, str]] = {
    "image/gif": "gif",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/png": "png",
    "image/webp": "webp",
}
_SUFFIX_FORMATS: Final[Mapping[str, str]] = {
    "gif": "gif",
    "jpeg": "jpeg",
    "jpg": "jpeg",
    "png": "png",
    "webp": "webp",
}
_FILE_FORMATS: Final[Mapping[str, str]] = {
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_AUDIO_FORMATS: Final = frozenset(
    {"aac", "flac", "m4a", "mp3", "mp4", "mpeg", "ogg", "opus", "pcm", "wav", "webm"}
)

_NO_NAME_CHARS: Final = re.compile(r"[^A-Za-z0-9()\[\]\- ]+")
_MAX_NAME_CHARS: Final = 100


class Conversation:
    """Builds the turns of one request.

    Args:
        cache_places: where cache points may stand.
        formats: of reasoning that the model takes back.

    Raises (on construction):
        UnsupportedFeature: something that this wire cannot say, named.
    """

    def __init__(
        self,
        messages: tuple[Message, ...],
        quirks: ConverseQuirks,
        provider: str,
        cache_places: frozenset[str],
        formats: frozenset[str],
    ) -> None:
        self._quirks = quirks
        self._provider = provider
        self._cache_places = cache_places
        self._formats = formats
        self._file_names: dict[str, int] = {}
        self.system: list[Block] = []
        self.turns: list[Turn] = []
        self.has_marks = False
        """The client set cache breakpoints itself."""
        self.has_tools = False
        """There are calls of tools, or results."""
        for message in messages:
            self._add(message)
        self._strip_prefill()
        if not self.turns or self.turns[0].role != "user":
            self.turns.insert(0, Turn("user", blocks=[{"text": OPENING_TEXT}]))

    @property
    def allows_manual_thinking(self) -> bool:
        """Whether the assistant's last turn is done with, or begins with reasoning."""
        last = self.turns[-1]
        if last.role == "user":
            if not last.results or len(self.turns) < 2:
                return True
            last = self.turns[-2]
        return bool(last.blocks) and "reasoningContent" in last.blocks[0]

    def _add(self, message: Message) -> None:
        if message.role is Role.TOOL:
            self.has_tools = True
            turn_of(self.turns, "user").results += self._result(message)
        elif message.role in _INSTRUCTIONS:
            blocks = self._parts(message.parts, "system")
            if any(not block.keys() <= {"text", "cachePoint"} for block in blocks):
                raise UnsupportedFeature("anything but text in instructions", self._provider)
            self.system += self._marked(blocks, message.extra, "system")
        elif message.role is Role.USER:
            blocks = self._parts(message.parts, "messages")
            self._say("user", self._marked(blocks, message.extra, "messages"))
        else:
            self._say("assistant", self._answer(message))

    def _answer(self, message: Message) -> list[Block]:
        self.has_tools = self.has_tools or bool(message.tool_calls)
        calls = [block for call in message.tool_calls for block in self._call(call)]
        said = [
            *unread_blocks(message.extra.get("converse_blocks")),
            *self._parts(message.parts, "messages"),
        ]
        thoughts = self._reasoning(message.extra.get("reasoning_details"))
        return [*thoughts, *self._marked([*said, *calls], message.extra, "messages")]

    def _say(self, role: str, blocks: list[Block]) -> None:
        if blocks:
            turn_of(self.turns, role).blocks += blocks

    def _strip_prefill(self) -> None:
        """Take the white space off the end of an answer that the model is to go on with."""
        if not self.turns or self.turns[-1].role != "assistant":
            return
        last = self.turns[-1].blocks[-1]
        if isinstance(last.get("text"), str):
            last["text"] = last["text"].rstrip()

    # --- cache points -------------------------------------------------------------------------

    def _marked(self, blocks: list[Block], given: Mapping[str, Any], place: str) -> list[Block]:
        """Blocks with the cache point behind them that a client wants there."""
        mark = given.get("cache_control")
        if not blocks or not isinstance(mark, Mapping):
            return blocks
        self.has_marks = True
        if place not in self._cache_places or "cachePoint" in blocks[-1]:
            return blocks
        return [*blocks, cache_point(mark)]

    # --- tool calls and results ---------------------------------------------------------------

    def _call(self, call: ToolCall) -> list[Block]:
        if call.kind == "custom":
            raise UnsupportedFeature("custom tool calls", self._provider)
        use = {
            "toolUseId": _tool_id(call.call_id),
            "name": call.name,
            "input": past_arguments(call.arguments),
        }
        return self._marked([{"toolUse": use}], call.extra, "messages")

    def _result(self, message: Message) -> list[Block]:
        content: list[Block] = []
        mark: Any = message.extra.get("cache_control")
        for part in message.parts:
            block = self._block(part)
            if block is None:
                continue
            if not block.keys() <= {"text", "json", "image", "document", "video"}:
                raise UnsupportedFeature("such a part in a tool's result", self._provider)
            content.append(block)
            # A cache point belongs to the result as a whole.
            mark = mark or _mark_of(part)
        result = {
            "toolUseId": _tool_id(message.tool_call_id),
            "content": content or [{"json": {}}],  # blank texts are answered with 400
        }
        if message.extra.get("is_error") is True:
            result["status"] = "error"
        return self._marked([{"toolResult": result}], {"cache_control": mark}, "messages")

    # --- reasoning ----------------------------------------------------------------------------

    def _reasoning(self, details: object) -> list[Block]:
        """The blocks of `reasoning_details` that the model takes back.

        Pieces of one entry, as they are streamed by some, have one index and are joined until their
        signature has come.
        """
        blocks: list[Block] = []
        open_text: dict[str, str] | None = None
        index: object = None
        for entry in mappings(details):
            kind = entry.get("format")
            if kind not in self._formats:
                continue
            if entry.get("type") == "reasoning.text":
                if open_text is None or entry.get("index") != index:
                    open_text, index = {"text": ""}, entry.get("index")
                    blocks.append({"reasoningContent": {"reasoningText": open_text}})
                open_text["text"] += text_of(entry.get("text"))
                if signature := text_of(entry.get("signature")):
                    open_text["signature"] = signature
                    open_text = None
            elif entry.get("type") == "reasoning.encrypted" and kind == OWN_FORMAT:
                data = {"redactedContent": text_of(entry.get("data"))}
                blocks.append({"reasoningContent": data})
        return [block for block in blocks if _can_go_back(block["reasoningContent"])]

    # --- parts --------------------------------------------------------------------------------

    def _parts(self, parts: tuple[Part, ...], place: str) -> list[Block]:
        return list(self._with_points(parts, place))

    def _with_points(self, parts: tuple[Part, ...], place: str) -> Iterator[Block]:
        for part in parts:
            if (block := self._block(part)) is not None:
                yield from self._marked([block], {"cache_control": _mark_of(part)}, place)

    def _block(self, part: Part) -> Block | None:
        """A block, None for a text that says nothing."""
        match part:
            case TextPart() | RefusalPart():
                return _text_block(part.text)
            case ImagePart():
                self._check("image parts")
                return {"image": self._image(part)}
            case AudioPart():
                self._check("audio parts")
                kind = "pcm" if part.format == "pcm16" else part.format
                if kind not in _AUDIO_FORMATS:
                    raise UnsupportedFeature(f"audio parts of type {kind}", self._provider)
                return {"audio": {"format": kind, "source": {"bytes": part.data_base64}}}
            case FilePart():
                self._check("file parts")
                return self._file(part)
            case OpaquePart():
                return self._opaque(part)

    def _image(self, part: ImagePart) -> Block:
        if part.data_base64:
            kind = _IMAGE_FORMATS.get(part.media_type.lower())
            if kind is None:
                raise UnsupportedFeature(f"images of type {part.media_type}", self._provider)
            return {"format": kind, "source": {"bytes": part.data_base64}}
        kind = _SUFFIX_FORMATS.get(part.url.rpartition(".")[2].lower())
        if kind is None or not part.url.startswith("s3://"):
            raise UnsupportedFeature("images by address", self._provider)
        return {"format": kind, "source": {"s3Location": {"uri": part.url}}}

    def _file(self, part: FilePart) -> Block:
        media_type = (part.media_type or "application/pdf").lower()
        if part.data_base64 and media_type.startswith("image/"):
            return {"image": self._image(ImagePart("", part.data_base64, media_type))}
        kind = _FILE_FORMATS.get(media_type)
        if kind is None:
            raise UnsupportedFeature(f"file parts of type {media_type}", self._provider)
        source: Block = {"bytes": part.data_base64}
        if part.file_id:
            if not part.file_id.startswith("s3://"):
                raise UnsupportedFeature("a file by an id that is no s3:// address", self._provider)
            source = {"s3Location": {"uri": part.file_id}}
        return {"document": {"format": kind, "name": self._name(part.filename), "source": source}}

    def _name(self, filename: str) -> str:
        """A document's name as Bedrock takes it: of few characters, each in a request once."""
        stem = filename.rpartition(".")[0] or filename
        name = " ".join(_NO_NAME_CHARS.sub(" ", stem).split())[:_MAX_NAME_CHARS] or "document"
        count = self._file_names[name] = self._file_names.get(name, 0) + 1
        return name if count == 1 else f"{name} [{count}]"

    def _opaque(self, part: OpaquePart) -> Block | None:
        value = part.value
        if part.wire == WIRE:
            return dict(value)
        if (
            part.wire == CHAT_WIRE
            and value.get("type") == "text"
            and isinstance(value.get("text"), str)
        ):
            return _text_block(value["text"])
        raise UnsupportedFeature(f"this {part.wire} content part", self._provider)

    def _check(self, feature: str) -> None:
        if feature in self._quirks.refuses:
            raise UnsupportedFeature(feature, self._provider)


def cache_point(mark: Mapping[str, Any]) -> Block:
    """The cache point of a client's `cache_control`; five minutes, the default, are not said."""
    point = {"type": "default"}
    if mark.get("ttl") == "1h":
        point["ttl"] = "1h"
    return {"cachePoint": point}


def _mark_of(part: Part) -> Any:
    return part.value.get("cache_control") if isinstance(part, OpaquePart) else part.cache_control


def _text_block(text: str) -> Block | None:
    """Bedrock answers 400 to texts of nothing but white space."""
    return {"text": text} if text and not text.isspace() else None


def _tool_id(call_id: str) -> str:
    """An id that the wire takes: others are mapped by a hash, in calls and results alike."""
    if _TOOL_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode("utf-8", "replace"), digest_size=12)
    return f"tooluse_{digest.hexdigest()}"


def _can_go_back(content: Mapping[str, Any]) -> bool:
    """A text must be signed, encrypted content must be there."""
    text = content.get("reasoningText")
    return bool(text.get("signature")) if text is not None else bool(content["redactedContent"])
