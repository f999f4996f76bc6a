"""What rules ask of a request: each fact is found when it is first asked for, and once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    Role,
    TextPart,
)
from relay.policy.language import MAX_CHARS, languages_of
from relay.policy.surroundings import Surroundings

IMAGES: Final = 1
AUDIO: Final = 2
FILES: Final = 4

_KINDS: Final[Mapping[type, int]] = {ImagePart: IMAGES, AudioPart: AUDIO, FilePart: FILES}
_LITTLE_EFFORT: Final = frozenset({"", "none", "minimal"})


class Facts:
    """Of one request; see the module."""

    __slots__ = ("_languages", "_media", "request", "surroundings")

    def __init__(self, request: GenerateRequest, surroundings: Surroundings) -> None:
        self.request = request
        self.surroundings = surroundings
        self._media = -1
        self._languages: frozenset[str] | None = None

    @property
    def media(self) -> int:
        """Which of `IMAGES`, `AUDIO` and `FILES` there are in any message, added up."""
        if self._media < 0:
            found = 0
            for message in self.request.messages:
                for part in message.parts:
                    if type(part) is not TextPart:
                        found |= _KINDS.get(type(part), 0)
            self._media = found
        return self._media

    @property
    def languages(self) -> frozenset[str]:
        """That the last user turn may be in, mostly one; empty where it cannot be told."""
        if self._languages is None:
            self._languages = frozenset(languages_of(_last_said(self.request.messages)))
        return self._languages

    @property
    def asks_for_reasoning(self) -> bool:
        """An effort above minimal, or a budget to think."""
        reasoning = self.request.reasoning
        return reasoning.effort not in _LITTLE_EFFORT or bool(reasoning.budget_tokens)

    @property
    def json_wanted(self) -> str:
        """`object`, `schema`, or empty."""
        wanted = self.request.response_format
        if wanted is None or wanted.kind == "text":
            return ""
        return "schema" if wanted.kind == "json_schema" else "object"

    def label(self, name: str) -> str | None:
        """Of the request's labels, or else of its body's `metadata`; None for none."""
        found = self.request.policy.labels.get(name)
        if found is not None:
            return found
        metadata = self.request.extra.get("metadata")
        value: Any = metadata.get(name) if isinstance(metadata, Mapping) else None
        return value if isinstance(value, str) else None

    def has_tool(self, fits: Callable[[str], bool]) -> bool:
        """Whether a tool that may be called has such a name."""
        return any(fits(tool.name) for tool in self.request.tools)


def _last_said(messages: tuple[Message, ...]) -> str:
    """The beginning of the last message of a user."""
    for message in reversed(messages):
        if message.role is not Role.USER:
            continue
        said = ""
        for part in message.parts:
            if isinstance(part, TextPart):
                said = f"{said} {part.text[:MAX_CHARS]}" if said else part.text[:MAX_CHARS]
                if len(said) >= MAX_CHARS:
                    break
        return said
    return ""
