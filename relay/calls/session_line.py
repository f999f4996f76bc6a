"""The line of an agent that uses the Python SDK: one session of a relay for the whole call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rtrelay import Generation, RelayError, Segment, Session, ToolCall
from rtrelay.v1 import CancelReason, End, Outcome, OutputOptions, TextMode

from relay.calls import line
from relay.calls.line import Answer, Ended, Piece, Request, Spoken, ToolCalled

_REASONS: Final[dict[line.CancelReason, CancelReason.ValueType]] = {
    "barge_in": CancelReason.CANCEL_REASON_BARGE_IN,
    "superseded": CancelReason.CANCEL_REASON_SUPERSEDED,
    "discarded": CancelReason.CANCEL_REASON_SPECULATION_DISCARDED,
    "session_end": CancelReason.CANCEL_REASON_SESSION_END,
}
_OUTPUT: Final = OutputOptions(text_mode=TextMode.TEXT_MODE_SEGMENTS)


class SessionLine:
    """Sentences come as the relay cuts them; speculations are held by it until the commit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(
        self, request: Request, on_piece: Callable[[Piece], None], supersedes: Answer | None = None
    ) -> SessionAnswer:
        """See `Line.start`."""

        def took(event: object) -> None:
            if isinstance(event, Segment):
                if event.text:
                    on_piece(Spoken(event.text))
            elif isinstance(event, ToolCall):
                call = event.call
                on_piece(ToolCalled(call.call_id, call.name, call.arguments))

        body: dict[str, object] = {"messages": list(request.messages)}
        if request.tools:
            body["tools"] = list(request.tools)
            body["tool_choice"] = "required"
        generation = self._session.start(
            body,
            model=request.model,
            turn_id=request.turn_id,
            output=_OUTPUT,
            speculative=request.is_speculative,
            hold_until_commit=request.is_speculative,
            supersedes=[supersedes.generation] if isinstance(supersedes, SessionAnswer) else [],
            on_event=took,
        )
        return SessionAnswer(generation)


class SessionAnswer:
    """One generation of the session."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation

    def commit(self) -> None:
        """See `Answer.commit`."""
        self.generation.commit()

    def cancel(self, reason: line.CancelReason) -> None:
        """See `Answer.cancel`."""
        self.generation.cancel(_REASONS[reason])

    async def ended(self) -> Ended:
        """See `Answer.ended`."""
        try:
            end = await self.generation.ended()
        except RelayError as error:
            return Ended("failed", error.reason)
        return _ended(end)


def _ended(end: End) -> Ended:
    winner = next((f"{one.provider}/{one.model}" for one in end.attempts if one.is_winner), "")
    if end.outcome == Outcome.OUTCOME_COMPLETED:
        return Ended("completed", "", winner, len(end.attempts), end)
    if end.outcome == Outcome.OUTCOME_CANCELLED:
        return Ended("cancelled", "", winner, len(end.attempts), end)
    return Ended("failed", end.error.message, winner, len(end.attempts), end)
