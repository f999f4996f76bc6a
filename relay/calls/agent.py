"""A voice agent that holds a scripted call: it hears, guesses, asks, speaks, and is interrupted.

It is to its line what an agent of a voice framework is: it starts an answer to an interim
transcript and supersedes it with the next one, wants it or gives it up when the transcript is
final, speaks what comes, stops for noise and goes on after two seconds, and stops for good when
the caller speaks. What will only be listened to is not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.calls.line import Message
from relay.calls.record import TurnRecord
from relay.calls.script import Call, Turn
from relay.calls.turn import PlayedTurn, Setting

END_TIMEOUT_S = 10.0
"""For the ends of generations that were given up; they come within milliseconds."""


async def play(
    call: Call,
    setting: Setting,
    *,
    name: str = "",
    on_turn: Callable[[Turn, TurnRecord], Awaitable[None]] | None = None,
) -> list[TurnRecord]:
    """Hold a call.

    Args:
        name: begins the tags of its generations.
        on_turn: told of each turn when it is over; the caller is silent meanwhile.

    Raises:
        TimeoutError: a generation did not end.

    Cancelled: what runs is cancelled too; no task is left.
    """
    history: list[Message] = []
    records: list[TurnRecord] = []
    for number, turn in enumerate(call.turns, 1):
        played = PlayedTurn(setting, turn, f"{name or call.name}.{number}", history)
        try:
            await played.listen()
            await played.respond()
        finally:
            await played.aclose(END_TIMEOUT_S)
        history += played.said()
        records.append(played.record)
        if on_turn is not None:
            await on_turn(turn, played.record)
    return records
