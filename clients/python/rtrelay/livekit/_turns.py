"""Which turn a request belongs to, and whether LiveKit may yet discard it.

LiveKit starts answers while the caller still speaks (preemptive generation) and tells LLMs nothing
of it: the same `chat` comes, and a discard is a cancel. But the speech that an answer is for stands
in a context variable of the task that asks, and says whether it is scheduled, that is: wanted. So a
request for one that is not scheduled yet is speculative, and is committed to when it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from livekit.agents.voice import SpeechHandle

from rtrelay.livekit._plugin import logger
from rtrelay.v1 import CancelReason


class Committable(Protocol):
    """What a speculation is here."""

    def commit(self) -> None: ...


class Turn:
    """The speech that a request is for; of no speech outside of an agent's turn."""

    def __init__(self, speech: SpeechHandle | None) -> None:
        self._speech = speech
        self.was_speculative = speech is not None and _scheduling(speech) is not None
        """It was not scheduled when the request was made."""

    @classmethod
    def current(cls) -> Turn:
        """Of the task that runs."""
        return cls(_current_speech())

    @property
    def turn_id(self) -> str:
        """LiveKit's id of the speech: tool rounds of one turn share it. Empty without one."""
        return self._speech.id if self._speech is not None else ""

    @contextmanager
    def committing(self, generation: Committable) -> Iterator[None]:
        """Commit when the speech is scheduled, also if it was since `was_speculative`."""
        scheduling = _scheduling(self._speech) if self._speech is not None else None
        if scheduling is None:
            if self.was_speculative:
                generation.commit()
            yield
            return

        def commit(_: object) -> None:
            generation.commit()

        scheduling.add_done_callback(commit)
        try:
            yield
        finally:
            scheduling.remove_done_callback(commit)

    @property
    def cancel_reason(self) -> CancelReason.ValueType:
        """Of a cancel that comes now."""
        if self._speech is not None and not self._speech.scheduled:
            return CancelReason.CANCEL_REASON_SPECULATION_DISCARDED
        return CancelReason.CANCEL_REASON_BARGE_IN


def _current_speech() -> SpeechHandle | None:
    """LiveKit has no public name for it."""
    try:
        from livekit.agents.voice.agent_activity import _SpeechHandleContextVar
    except ImportError:
        logger.warning("no speculation is seen: LiveKit keeps speeches elsewhere in this version")
        return None
    speech: SpeechHandle | None = _SpeechHandleContextVar.get(None)
    return speech


def _scheduling(speech: SpeechHandle) -> asyncio.Future[Any] | None:
    """What is done when the speech is scheduled; None if it is, or if that cannot be known."""
    if speech.scheduled:
        return None
    scheduling = getattr(speech, "_scheduled_fut", None)
    return scheduling if isinstance(scheduling, asyncio.Future) else None
