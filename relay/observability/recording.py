"""What is kept of prompts and answers where somebody wants to see them: bounded, and as data.

Messages have the shape of OpenTelemetry's `gen_ai.input.messages` and `gen_ai.output.messages`
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/): `{"role", "parts": [{"type":
"text", "content"}, ...]}`. Of pictures, sound and files only kind and size are told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from relay.content import (
    AudioPart,
    ChoiceFinished,
    Events,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    ReasoningDelta,
    RefusalDelta,
    RefusalPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDone,
)
from relay.outcome import Recorder

Clean = Callable[[str], str]
"""Takes secrets out of a text."""


class Recording:
    """Of one answer; a `Recorder`.

    Args:
        max_chars: of all its texts together; what is over is left out, and `is_cut` says so.
    """

    __slots__ = ("_finish", "_left", "_max_chars", "_parts", "is_cut")

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._left = max_chars
        self._parts: dict[int, list[tuple[str, Any]]] = {}
        self._finish: dict[int, str] = {}
        self.is_cut = False

    def take(self, events: Events) -> None:
        """The next events, in order."""
        for event in events:
            if isinstance(event, TextDelta):
                self._add(event.choice, "text", event.text)
            elif isinstance(event, ReasoningDelta):
                self._add(event.choice, "reasoning", event.text)
            elif isinstance(event, RefusalDelta):
                self._add(event.choice, "refusal", event.text)
            elif isinstance(event, ToolCallDone):
                self._add_call(event)
            elif isinstance(event, ChoiceFinished):
                self._finish[event.choice] = event.reason.name.lower()

    def _add(self, choice: int, kind: str, text: str) -> None:
        if len(text) > self._left:
            text, self.is_cut = text[: self._left], True
        if not text:
            return
        self._left -= len(text)
        parts = self._parts.setdefault(choice, [])
        if parts and parts[-1][0] == kind:
            parts[-1][1].append(text)
        else:
            parts.append((kind, [text]))

    def _add_call(self, event: ToolCallDone) -> None:
        if len(event.arguments) > self._left:
            self.is_cut = True
            return
        self._left -= len(event.arguments)
        call = (event.call_id, event.name, event.arguments)
        self._parts.setdefault(event.choice, []).append(("tool_call", call))

    @property
    def size_chars(self) -> int:
        """Of all texts."""
        return self._max_chars - self._left

    def messages(self, clean: Clean) -> list[dict[str, Any]]:
        """One for each choice that began; of any thread, after the end.

        A secret that the provider has sent in several pieces is whole here, and found.
        """
        return [
            {
                "role": "assistant",
                "parts": [_answered(kind, what, clean) for kind, what in self._parts[choice]],
                "finish_reason": self._finish.get(choice, ""),
            }
            for choice in sorted(self._parts)
        ]


def _answered(kind: str, what: Any, clean: Clean) -> dict[str, Any]:
    if kind == "tool_call":
        call_id, name, arguments = what
        return _Part(kind, arguments, call_id, name).shown(clean)
    return _Part(kind, "".join(what)).shown(clean)


class Prompt:
    """What was asked, without the request that it was taken from: texts are the request's own, and
    of pictures, sound and files nothing is held.

    Args:
        max_chars: of all texts together; the last messages are kept, since they say what is new.
    """

    __slots__ = ("_messages", "is_cut", "size_chars")

    def __init__(self, request: GenerateRequest, max_chars: int) -> None:
        left, kept = max_chars, []
        for message in reversed(request.messages):
            left -= _size_of(message)
            if left < 0:
                break
            kept.append((message.role.value, _parts_of(message)))
        for text in request.embedding.texts if request.embedding is not None else ():
            left -= len(text)
            if left < 0:
                break
            kept.insert(0, (Role.USER.value, [_Part("text", text)]))
        self.is_cut = left < 0
        self.size_chars = max_chars - max(0, left)
        self._messages = kept[::-1]

    def messages(self, clean: Clean) -> list[dict[str, Any]]:
        """Of any thread."""
        return [
            {"role": role, "parts": [part.shown(clean) for part in parts]}
            for role, parts in self._messages
        ]


class _Part(NamedTuple):
    kind: str
    text: str = ""
    id: str = ""
    name: str = ""
    size_bytes: int = 0

    def shown(self, clean: Clean) -> dict[str, Any]:
        if self.kind == "tool_call":
            called = {"name": clean(self.name), "arguments": clean(self.text)}
            return {"type": self.kind, "id": clean(self.id), **called}
        if self.kind == "tool_call_response":
            return {"type": self.kind, "id": clean(self.id), "response": clean(self.text)}
        if self.kind in _BLOBS:
            return {"type": "blob", "modality": self.kind, "bytes": self.size_bytes}
        if self.kind == "file":
            return {"type": self.kind, "name": clean(self.name), "bytes": self.size_bytes}
        return {"type": self.kind, "content": clean(self.text)}


_BLOBS = ("image", "audio")


def _size_of(message: Message) -> int:
    """Characters of its texts, and about those of what is told in the place of others."""
    size = len(message.reasoning) + 32
    for part in message.parts:
        size += len(part.text) if isinstance(part, TextPart | RefusalPart) else 64
    return size + sum(len(call.arguments) + len(call.name) for call in message.tool_calls)


def _parts_of(message: Message) -> list[_Part]:
    parts = [_Part("reasoning", message.reasoning)] if message.reasoning else []
    for part in message.parts:
        if isinstance(part, TextPart):
            if message.role is Role.TOOL:
                parts.append(_Part("tool_call_response", part.text, message.tool_call_id))
            else:
                parts.append(_Part("text", part.text))
        elif isinstance(part, RefusalPart):
            parts.append(_Part("refusal", part.text))
        elif isinstance(part, ImagePart):
            parts.append(_Part("image", size_bytes=_decoded_bytes(part.data_base64)))
        elif isinstance(part, AudioPart):
            parts.append(_Part("audio", size_bytes=_decoded_bytes(part.data_base64)))
        elif isinstance(part, FilePart):
            size_bytes = _decoded_bytes(part.data_base64)
            parts.append(_Part("file", name=part.filename or part.file_id, size_bytes=size_bytes))
        else:
            parts.append(_Part("opaque", part.wire))
    return parts + [
        _Part("tool_call", call.arguments, call.call_id, call.name) for call in message.tool_calls
    ]


def _decoded_bytes(data_base64: str) -> int:
    return len(data_base64) * 3 // 4


def recording_of(recorder: Recorder | None) -> Recording | None:
    """What was kept for those who want to see an answer; also where another recorder kept
    something else beside it."""
    found = getattr(recorder, "beside", recorder)
    return found if isinstance(found, Recording) else None
