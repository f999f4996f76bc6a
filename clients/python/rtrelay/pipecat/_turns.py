"""Ids of turns: all that is started for one turn (speculations, tool rounds) shares one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4


class Turns:
    """Of one service.

    A turn begins with `UserStartedSpeakingFrame`. In pipelines that have none (text) it begins with
    each context whose last message is not the result of a tool.
    """

    def __init__(self) -> None:
        self._prefix = uuid4().hex[:8]
        self._number = 0
        self._is_told = False

    def begin(self) -> None:
        """The person began to speak."""
        self._is_told = True
        self._number += 1

    def of(self, messages: Sequence[Any]) -> str:
        """The id of the turn that an answer to these messages belongs to."""
        if not self._is_told and not _ends_with_a_tool(messages):
            self._number += 1
        return f"{self._prefix}-{self._number}"


def _ends_with_a_tool(messages: Sequence[Any]) -> bool:
    last = messages[-1] if messages else None
    return isinstance(last, dict) and last.get("role") == "tool"
