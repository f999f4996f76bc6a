"""The messages of a request as this wire's turns: a user's and an assistant's, one after the other.

The wire takes a conversation that begins with the user and has no empty text, and it wants the
results of all calls of one assistant turn at the head of the user turn that follows. So neighbours
of one side are joined into one turn, results first whatever stood between them (a user may have
spoken meanwhile), blank texts and messages without anything are left out, and a conversation that
an assistant opens (a greeting) gets an opening user turn. Instructions of any place go to `system`.

What a turn of an assistant is made of, in this order: thinking with its signature and redacted
thinking, as `reasoning_details` holds them; text; the blocks of `anthropic_blocks`; tool calls.
Thinking without a signature, or of another wire, is left out: the provider takes none back. A turn
that came in this wire's own format, with more than those can tell, goes back as it came.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.codecs.anthropic_message import REASONING_FORMAT
from relay.codecs.anthropic_quirks import AnthropicQuirks
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
from relay.errors import InvalidRequest, UnsupportedFeature

WIRE: Final = "anthropic_messages"
CHAT_WIRE: Final = "openai_chat"
"""Text of a chat body with unknown fields beside it comes as an opaque part of it."""

OPENING_TEXT: Final = "(The conversation begins.)"
"""What the user says when an assistant opens the conversation, or nobody has spoken."""

_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
_INSTRUCTIONS: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})


class Conversation:
    """Builds the turns of one request.

    Raises (on construction):
        UnsupportedFeature: something that this wire cannot say, named.
        InvalidRequest: a part that is broken.
    """

    def __init__(
        self, messages: tuple[Message, ...], quirks: AnthropicQuirks, provider: str
    ) -> None:
        self._quirks = quirks
        self._provider = provider
        self.system: list[Block] = []
        self.turns: list[Turn] = []
        self.has_marks = False
        """The client set cache breakpoints itself."""
        for message in messages:
            self._add(message)
        self._strip_prefill()
        if not self.turns or self.turns[0].role != "user":
            self.turns.insert(0, Turn("user", blocks=[{"type": "text", "text": OPENING_TEXT}]))

    @property
    def allows_manual_thinking(self) -> bool:
        """Whether the assistant's last turn is done with, or begins with thinking."""
        last = self.turns[-1]
        if last.role == "user":
            if not last.results or len(self.turns) < 2:
                return True
            last = self.turns[-2]
        return bool(last.blocks) and last.blocks[0].get("type") in _THINKING

    def _add(self, message: Message) -> None:
        if message.role is Role.TOOL:
            turn_of(self.turns, "user").results.append(self._result(message))
            return
        blocks = [block for part in message.parts if (block := self._part(part)) is not None]
        if message.role in _INSTRUCTIONS:
            if any(block.get("type") != "text" for block in blocks):
                raise UnsupportedFeature("anything but text in instructions", self._provider)
            self.system += blocks
        elif message.role is Role.USER:
            if blocks:
                turn_of(self.turns, "user").blocks += blocks
        elif message.native is not None and message.native.wire == WIRE:
            blocks = self._own(message.native.blocks)
            if blocks:
                turn_of(self.turns, "assistant").blocks += blocks
        else:
            calls = [self._call(call) for call in message.tool_calls]
            unread = unread_blocks(message.extra.get("anthropic_blocks"))
            blocks = [*_thinking(message.extra.get("reasoning_details")), *blocks, *unread, *calls]
            if blocks:
                turn_of(self.turns, "assistant").blocks += blocks
        if blocks and blocks[-1].get("type") not in _THINKING:
            self._mark(blocks[-1], message.extra)

    def _own(self, given: Sequence[Mapping[str, Any]]) -> list[Block]:
        """Blocks that came in this format, but for those that the wire does not take back."""
        blocks: list[Block] = []
        for value in given:
            block = dict(value)
            match block.get("type"):
                case "text":
                    if _text_block(text_of(block.get("text"))) is None:
                        continue
                case "thinking":
                    if not block.get("signature"):
                        continue
                case "redacted_thinking":
                    if not block.get("data"):
                        continue
                case "tool_use":
                    block["id"] = _tool_id(text_of(block.get("id")))
            self.has_marks = self.has_marks or bool(block.get("cache_control"))
            blocks.append(block)
        return blocks

    def _mark(self, block: Block, given: Mapping[str, Any]) -> None:
        """Put a client's own cache breakpoint on a block."""
        mark = given.get("cache_control")
        if isinstance(mark, Mapping):
            block["cache_control"] = mark
            self.has_marks = True

    def _strip_prefill(self) -> None:
        """Take the white space off the end of an answer that the model is to go on with."""
        if not self.turns or self.turns[-1].role != "assistant":
            return
        last = self.turns[-1].blocks[-1]
        if last.get("type") == "text" and isinstance(last.get("text"), str):
            last["text"] = last["text"].rstrip()

    # --- tool calls and results ---------------------------------------------------------------

    def _call(self, call: ToolCall) -> Block:
        if call.kind == "custom":
            raise UnsupportedFeature("custom tool calls", self._provider)
        block = {
            "type": "tool_use",
            "id": _tool_id(call.call_id),
            "name": call.name,
            "input": past_arguments(call.arguments),
        }
        self._mark(block, call.extra)
        return block

    def _result(self, message: Message) -> Block:
        result: Block = {"type": "tool_result", "tool_use_id": _tool_id(message.tool_call_id)}
        blocks = [block for part in message.parts if (block := self._part(part)) is not None]
        for block in blocks:
            # A breakpoint belongs to the result as a whole.
            self._mark(result, block)
            block.pop("cache_control", None)
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            result["content"] = blocks[0]["text"]
        elif blocks:
            result["content"] = blocks
        if message.extra.get("is_error") is True:
            result["is_error"] = True
        self._mark(result, message.extra)
        return result

    # --- parts --------------------------------------------------------------------------------

    def _part(self, part: Part) -> Block | None:
        """A block, None for a text that says nothing."""
        block = self._block(part)
        if block is not None and not isinstance(part, OpaquePart) and part.cache_control:
            block["cache_control"] = part.cache_control
            self.has_marks = True
        return block

    def _block(self, part: Part) -> Block | None:
        match part:
            case TextPart() | RefusalPart():
                return _text_block(part.text)
            case ImagePart():
                self._check("image parts")
                return {"type": "image", "source": _image_source(part)}
            case AudioPart():
                raise UnsupportedFeature("audio parts", self._provider)
            case FilePart():
                self._check("file parts")
                return self._file(part)
            case OpaquePart():
                return self._opaque(part)

    def _opaque(self, part: OpaquePart) -> Block | None:
        value = part.value
        if part.wire == WIRE:
            block: Block | None = dict(value)
        elif (
            part.wire == CHAT_WIRE
            and value.get("type") == "text"
            and isinstance(value.get("text"), str)
        ):
            block = _text_block(value["text"])
        else:
            raise UnsupportedFeature(f"this {part.wire} content part", self._provider)
        if block is not None:
            self._mark(block, value)
        return block

    def _file(self, part: FilePart) -> Block:
        media_type = part.media_type or "application/pdf"
        if part.file_id:
            source = {"type": "file", "file_id": part.file_id}
        elif media_type.startswith("image/"):
            return {"type": "image", "source": _base64_source(media_type, part.data_base64)}
        elif media_type == "text/plain":
            source = {"type": "text", "media_type": media_type, "data": _plain(part.data_base64)}
        elif media_type == "application/pdf":
            source = _base64_source(media_type, part.data_base64)
        else:
            raise UnsupportedFeature(f"file parts of type {media_type}", self._provider)
        block: Block = {"type": "document", "source": source}
        if part.filename:
            block["title"] = part.filename
        return block

    def _check(self, feature: str) -> None:
        if feature in self._quirks.refuses:
            raise UnsupportedFeature(feature, self._provider)


def _text_block(text: str) -> Block | None:
    """The wire answers 400 to texts of nothing but white space."""
    return {"type": "text", "text": text} if text and not text.isspace() else None


def _base64_source(media_type: str, data_base64: str) -> Block:
    return {"type": "base64", "media_type": media_type, "data": data_base64}


def _image_source(part: ImagePart) -> Block:
    if part.url:
        return {"type": "url", "url": part.url}
    return _base64_source(part.media_type, part.data_base64)


def _plain(data_base64: str) -> str:
    try:
        return base64.b64decode(data_base64, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequest("a file of type text/plain is not UTF-8 text in base64") from None


def _tool_id(call_id: str) -> str:
    """An id that the wire takes: others, of another provider's calls, are mapped by a hash, the
    same id always to the same one, in calls and results alike."""
    if _TOOL_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode("utf-8", "replace"), digest_size=12)
    return f"toolu_{digest.hexdigest()}"


def _thinking(details: object) -> list[Block]:
    """The blocks of `reasoning_details`, those of this wire.

    Pieces of one entry, as OpenRouter streams them, have one index and are joined until their
    signature has come.
    """
    blocks: list[Block] = []
    index: object = None
    for entry in mappings(details):
        is_ours = entry.get("format") == REASONING_FORMAT
        if is_ours and entry.get("type") == "reasoning.text":
            if not blocks or blocks[-1].get("signature") != "" or entry.get("index") != index:
                blocks.append({"type": "thinking", "thinking": "", "signature": ""})
                index = entry.get("index")
            blocks[-1]["thinking"] += text_of(entry.get("text"))
            blocks[-1]["signature"] = text_of(entry.get("signature"))
        elif is_ours and entry.get("type") == "reasoning.encrypted":
            blocks.append({"type": "redacted_thinking", "data": text_of(entry.get("data"))})
    return [block for block in blocks if block.get("signature") or block.get("data")]
