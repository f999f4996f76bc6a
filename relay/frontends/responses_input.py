"""The items of a Responses `input` as messages of the neutral model.

What an assistant said and called in one go is one message there, as Chat has it: its text, then
its calls, which the results must follow. Reasoning and items that we do not read become opaque
fields of that message, in their places, so that a provider of this API gets them back in the order
of the input and others ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

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
from relay.errors import InvalidRequest, shown
from relay.frontends.body_fields import needed, text, typed, wrong
from relay.frontends.chat_body import known_type
from relay.frontends.limits import MAX_MESSAGES, Allowance, check_count
from relay.frontends.response_state import (
    DETAILS,
    FORMAT_KEY,
    ITEMS,
    OPENAI_FORMAT,
    merge,
    unpack,
)

WIRE: Final = "openai_responses"

_ROLES: Final = {
    role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)
}
_CALL_KEYS: Final = frozenset(
    {"type", "id", "call_id", "name", "arguments", "input", "status", "namespace"}
)


class InputReader:
    """Collects the messages of one request."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._messages: list[Message] = []
        self._turn: _Turn | None = None

    def say(self, role: Role, words: str) -> None:
        """Add a message of plain text."""
        self._end_turn()
        self._messages.append(Message(role, (TextPart(words),)))

    def read(self, items: Sequence[object], path: str) -> None:
        """Add the messages of these items.

        Args:
            path: of their array, for messages.

        Raises:
            InvalidRequest: an item is wrong, or cannot be had here; it is named.
        """
        check_count(len(items) + len(self._messages), MAX_MESSAGES, path)
        for at, item in enumerate(items):
            where = f"{path}[{at}]"
            if not isinstance(item, dict):
                raise wrong(where, "must be an object")
            kind = item.get("type", "message" if "role" in item else None)
            if not isinstance(kind, str):
                raise wrong(f"{where}.type", "must be a string")
            match kind:
                case "message":
                    self._on_message(item, where)
                case "function_call" | "custom_tool_call":
                    self._on_call(item, where)
                case "function_call_output" | "custom_tool_call_output":
                    self._on_output(item, where)
                case "reasoning":
                    self._on_reasoning(item, where)
                case "item_reference":
                    raise wrong(
                        where,
                        "is an item_reference, which needs items kept by the server: send the"
                        " item itself (for many clients: store: false)",
                    )
                case _:
                    self._on_unread(item)

    def messages(self) -> tuple[Message, ...]:
        """All of them."""
        self._end_turn()
        return tuple(self._messages)

    # --- items ------------------------------------------------------------------------------

    def _on_message(self, item: Mapping[str, Any], path: str) -> None:
        name = item.get("role")
        role = _ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            raise wrong(f"{path}.role", f"must be one of {', '.join(_ROLES)}")
        parts = _parts(item.get("content"), f"{path}.content", self._allowance)
        if role is not Role.ASSISTANT:
            self._end_turn()
            self._messages.append(Message(role, parts))
            return
        turn = self._turn_for_more()
        turn.parts += parts
        turn.position += 1
        if phase := text(item, "phase", path):
            merge(turn.state, "extra_content", {"openai": {"phase": phase}})

    def _on_call(self, item: Mapping[str, Any], path: str) -> None:
        is_custom = item["type"] == "custom_tool_call"
        self._allowance.take_calls(1, path)
        turn = self._turn or self._new_turn()
        turn.position += 1
        turn.calls.append(
            ToolCall(
                call_id=needed(item, "call_id", path),
                name=needed(item, "name", path),
                arguments=text(item, "input" if is_custom else "arguments", path),
                kind="custom" if is_custom else "function",
                extra={k: v for k, v in item.items() if k not in _CALL_KEYS and v is not None},
            )
        )

    def _on_output(self, item: Mapping[str, Any], path: str) -> None:
        call_id = needed(item, "call_id", path)
        output = item.get("output")
        if output is None:
            raise wrong(f"{path}.output", "is required")
        parts = _parts(output, f"{path}.output", self._allowance)
        self._end_turn()
        self._messages.append(Message(Role.TOOL, parts, tool_call_id=call_id))

    def _on_reasoning(self, item: Mapping[str, Any], path: str) -> None:
        summaries = _texts(item, "summary", path, self._allowance)
        thoughts = _texts(item, "content", path, self._allowance)
        secret = text(item, "encrypted_content", path)
        field = f"{path}.encrypted_content"
        if (ours := unpack(secret, field, self._allowance)) is not None:
            state, is_late = ours
        else:
            state, is_late = {DETAILS: _details(item, summaries, thoughts, secret)}, False
        turn = (self._turn or self._new_turn()) if is_late else self._turn_for_more()
        turn.reasoning += thoughts or summaries
        for key, value in state.items():
            if key == DETAILS and isinstance(value, list):
                value = [turn.placed(entry) for entry in value]
            merge(turn.state, key, value)

    def _on_unread(self, item: Mapping[str, Any]) -> None:
        turn = self._turn or self._new_turn()
        whose = item.get(FORMAT_KEY)
        item = {key: value for key, value in item.items() if key != FORMAT_KEY}
        entry = {"format": whose if isinstance(whose, str) else OPENAI_FORMAT, "item": item}
        merge(turn.state, ITEMS, [turn.placed(entry)])

    # --- an assistant's turn ----------------------------------------------------------------

    def _new_turn(self) -> _Turn:
        self._end_turn()
        self._turn = _Turn()
        return self._turn

    def _turn_for_more(self) -> _Turn:
        """The turn that a message or its reasoning belongs to: another one after a text, unless
        calls wait for their results, which nothing may part from them."""
        turn = self._turn
        if turn is None or (turn.parts and not turn.calls):
            return self._new_turn()
        return turn

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None or not (turn.parts or turn.calls or ITEMS in turn.state):
            return  # reasoning that led to nothing: providers refuse it
        self._messages.append(
            Message(
                Role.ASSISTANT,
                tuple(turn.parts),
                tool_calls=tuple(turn.calls),
                reasoning="\n\n".join(turn.reasoning),
                extra={key: value for key, value in turn.state.items() if value},
            )
        )


class _Turn:
    """One message of the assistant while its items are read."""

    __slots__ = ("calls", "parts", "position", "reasoning", "state")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[ToolCall] = []
        self.reasoning: list[str] = []
        self.state: dict[str, Any] = {}
        self.position = 0
        """Where the next entry stands among texts, calls and entries."""

    def placed(self, entry: object) -> object:
        """An entry of this API's state with its place in the turn; others keep their own."""
        if isinstance(entry, dict) and str(entry.get("format")).endswith("responses-v1"):
            entry = {**entry, "index": self.position}
            self.position += 1
        return entry


def _texts(item: Mapping[str, Any], key: str, path: str, allowance: Allowance) -> list[str]:
    """The texts of a reasoning item's parts."""
    parts = typed(item, key, list, path)
    if not parts:
        return []
    allowance.take_parts(len(parts), f"{path}.{key}")
    found = []
    for at, part in enumerate(parts):
        where = f"{path}.{key}[{at}]"
        if not isinstance(part, dict):
            raise wrong(where, "must be an object")
        if words := text(part, "text", where):
            found.append(words)
    return found


def _details(
    item: Mapping[str, Any], summaries: list[str], thoughts: list[str], secret: str
) -> list[dict[str, Any]]:
    """OpenAI's own state; nothing where there is nothing that it could use."""
    if not secret and not thoughts:
        return []
    entries: list[dict[str, Any]] = [
        *({"type": "reasoning.summary", "summary": one} for one in summaries),
        *({"type": "reasoning.text", "text": one} for one in thoughts),
    ]
    if secret:
        entries.append({"type": "reasoning.encrypted", "data": secret})
    item_id = item.get("id")
    for entry in entries:
        if isinstance(item_id, str) and item_id:
            entry["id"] = item_id
        entry["format"] = OPENAI_FORMAT
    return entries


# --- parts ------------------------------------------------------------------------------------


def _parts(content: object, path: str, allowance: Allowance) -> tuple[Part, ...]:
    if content is None:
        raise wrong(path, "is required")
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise wrong(path, "must be a string or an array of parts")
    allowance.take_parts(len(content), path)
    return tuple(_part(item, f"{path}[{at}]") for at, item in enumerate(content))


def _part(item: object, path: str) -> Part:
    if not isinstance(item, dict):
        raise wrong(path, "must be an object")
    kind = item.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{path}.type", "must be a string")
    reader = _PART_READERS.get(kind)
    return OpaquePart(WIRE, item) if reader is None else reader(item, path)


def _text_part(item: Mapping[str, Any], path: str) -> Part:
    words = item.get("text")
    if not isinstance(words, str):
        raise wrong(f"{path}.text", "must be a string")
    return TextPart(words)


def _refusal_part(item: Mapping[str, Any], path: str) -> Part:
    words = item.get("refusal")
    if not isinstance(words, str):
        raise wrong(f"{path}.refusal", "must be a string")
    return RefusalPart(words)


def _image_part(item: Mapping[str, Any], path: str) -> Part:
    url, detail = text(item, "image_url", path), text(item, "detail", path)
    if not url:
        if text(item, "file_id", path):
            return OpaquePart(WIRE, item)
        raise wrong(f"{path}.image_url", "is required")
    if url.startswith("data:"):
        media_type, data = _data_url(url, f"{path}.image_url")
        return ImagePart(data_base64=data, media_type=media_type, detail=detail)
    if not url.startswith(("https://", "http://")):
        raise wrong(f"{path}.image_url", "must be an http(s) or data URL")
    return ImagePart(url=url, detail=detail)


def _file_part(item: Mapping[str, Any], path: str) -> Part:
    if text(item, "file_url", path):
        return OpaquePart(WIRE, item)
    file_id, data = text(item, "file_id", path), text(item, "file_data", path)
    if not file_id and not data:
        raise wrong(path, "needs file_id, file_data or file_url")
    media_type = ""
    if data.startswith("data:"):
        media_type, data = _data_url(data, f"{path}.file_data")
    filename = text(item, "filename", path)
    return FilePart(file_id, filename, data, media_type)


def _audio_part(item: Mapping[str, Any], path: str) -> Part:
    inner = typed(item, "input_audio", dict, path)
    path = f"{path}.input_audio"
    if inner is None:
        raise wrong(path, "is required")
    return AudioPart(needed(inner, "data", path), needed(inner, "format", path))


def _data_url(url: str, field: str) -> tuple[str, str]:
    """Media type and base64 data."""
    head, separator, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not separator or not encoding.endswith("base64"):
        raise InvalidRequest(f"{field}: a data URL must be base64", field=shown(field))
    return known_type(media_type), data


_PART_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Part]]] = {
    "input_text": _text_part,
    "output_text": _text_part,
    "text": _text_part,
    "refusal": _refusal_part,
    "input_image": _image_part,
    "input_file": _file_part,
    "input_audio": _audio_part,
}
