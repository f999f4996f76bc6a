"""Generations that the playground asks for, in a worker: begun, looked at while they run, stopped.

A generation like any other: admitted, limited, booked, hedged and logged. Who asks looks at it
several times a second and is told what is new; whoever looks no more has gone, and it is cancelled.
So it works the same in the worker's own process and over a supervisor's socket.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from relay.content import (
    Events,
    GenerateRequest,
    HedgeWish,
    Message,
    Policy,
    ReasoningDelta,
    RefusalDelta,
    Role,
    Sampling,
    TextDelta,
    TextPart,
)
from relay.deadline import Clock
from relay.dispatch import Services
from relay.errors import ClientCancelled
from relay.generation import Generation
from relay.logs import hidden
from relay.observability.live.record import Record, attempt_of, hedge_of, record_of

_log = structlog.get_logger("relay.live")

MODELS, BEGIN, MORE, STOP = "play.models", "play.begin", "play.more", "play.stop"
"""The questions that `PlayDesk` answers."""
FRONTEND: Final = "playground"
TAG: Final = "playground"
"""Of every one, so that what it costs is found in the accounts."""
MAX_DIRECT: Final = 500
MAX_PLAYS: Final = 8
GONE_S: Final = 5.0
"""Who has not looked for so long has gone."""
MAX_CHARS: Final = 1_000_000
"""Of one answer: no page shows more, and no worker holds it."""
MAX_HELD_PIECES: Final = 20_000
"""Of an answer that nobody has fetched: they are larger than their text."""
MAX_KNOWN: Final = 256
"""Ids of plays that were begun or stopped, so that none begins again."""


def new_id() -> str:
    """Of a play, for whoever orders it: the generation has it too."""
    return f"gen_{secrets.token_hex(12)}"


class PlayDesk:
    """Of one worker; `aclose` it before the transport.

    Args:
        wall_clock: seconds since 1970, as whoever orders has it on the same machine.
    """

    def __init__(self, services: Services, wall_clock: Clock = time.time) -> None:
        self._services = services
        self._wall_clock = wall_clock
        self._plays: dict[str, Play] = {}
        self._known: dict[str, None] = {}
        """The last ids, oldest first."""
        self._ending: set[asyncio.Task[None]] = set()
        """Of plays that were stopped: nobody can ask for them any more."""

    @property
    def answers(self) -> Mapping[str, Callable[..., Any]]:
        """By question."""
        return {
            MODELS: self.models,
            BEGIN: self.begin,
            MORE: self.more,
            STOP: self.stop,
        }

    def models(self) -> dict[str, Any]:
        """What may be named: aliases, with where each may go, and models of providers."""
        routes = self._services.catalog.routes
        names = self._services.catalog.names()
        return {
            "aliases": {
                name: [target.name for target in (*route.candidates, *route.fallbacks)]
                for name, route in routes.items()
            },
            "direct": [name for name in names if name not in routes][:MAX_DIRECT],
        }

    def begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a generation. Once for an id, however often it is ordered: what runs is told
        again, and what is over or was stopped does not begin again.

        Args:
            order: `id` as `new_id` makes it; `by_s`, when nobody waits for it any more (seconds
                since 1970), since it may lie in the socket of a worker that was stuck; `model`,
                `prompt`, `system`, `hedge`, `max_tokens` (or None), and `key_id` and `tenant` of
                who pays ("" where there are no keys); looked at by who gives it.

        Returns:
            `id`, or `refused` in words.
        """
        play_id = str(order["id"])
        if play_id in self._plays:
            return {"id": play_id}
        if play_id in self._known:
            return {"refused": "it was begun before, and is over"}
        if self._wall_clock() > order["by_s"]:
            return {"refused": "it came too late"}
        if len(self._plays) + len(self._ending) >= MAX_PLAYS:
            return {"refused": f"{MAX_PLAYS} run already in this worker"}
        if self._services.is_draining:
            return {"refused": "this worker is shutting down"}
        self._know(play_id)
        play = Play(self._services, play_id, _request_of(order), on_gone=self.stop)
        self._plays[play_id] = play
        return {"id": play_id}

    def _know(self, play_id: str) -> None:
        self._known[play_id] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def more(self, play_id: str) -> dict[str, Any] | None:
        """What is new; None when there is no such play (any more): the end is told once."""
        play = self._plays.get(play_id)
        if play is None:
            return None
        told = play.more()
        if told["end"] is not None:
            self._forget(play_id)
        return told

    def stop(self, play_id: str) -> None:
        """Cancel it at the provider, and forget it; one that has not begun never will. So ends too
        what nobody has looked at for `GONE_S`, whether it runs or is over."""
        self._know(play_id)
        self._forget(play_id)

    def _forget(self, play_id: str) -> None:
        play = self._plays.pop(play_id, None)
        if play is None:
            return
        play.stop()
        if not play.task.done():
            self._ending.add(play.task)
            play.task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """Cancel what runs, within two seconds. Idempotent."""
        for play_id in list(self._plays):
            self._forget(play_id)
        if self._ending:
            await asyncio.wait(list(self._ending), timeout=2.0)


def _request_of(order: Mapping[str, Any]) -> GenerateRequest:
    messages = [Message(Role.USER, (TextPart(order["prompt"]),))]
    if order.get("system"):
        messages.insert(0, Message(Role.SYSTEM, (TextPart(order["system"]),)))
    policy = Policy(
        tags=(TAG,),
        client="rtrelay playground",
        hedge=HedgeWish(mode=order.get("hedge") or "auto"),
        key_id=order.get("key_id") or "",
        tenant=order.get("tenant") or "",
    )
    return GenerateRequest(
        model=order["model"],
        messages=tuple(messages),
        sampling=Sampling(max_output_tokens=order.get("max_tokens")),
        policy=policy,
    )


class Play:
    """One of them.

    Args:
        on_gone: is told its id when nobody has looked for `GONE_S`, once.
    """

    def __init__(
        self,
        services: Services,
        play_id: str,
        request: GenerateRequest,
        *,
        on_gone: Callable[[str], object],
    ) -> None:
        self.id = play_id
        self._clock = services.clock
        self._generation = Generation(services, request, generation_id=self.id, frontend=FRONTEND)
        self._begun_s = services.clock()
        self._pieces: list[list[Any]] = []
        self._chars = 0
        self._end: Record | None = None
        self._error = ""
        self._is_committed = False
        self._on_gone = on_gone
        self._watch = self._watched()
        self.task = asyncio.create_task(self._run(), name="playground")

    def stop(self) -> None:
        """Whoever asked wants no more of it; he is not waited for any longer."""
        self._watch.cancel()
        self._generation.cancel(ClientCancelled("the playground's stop, or its page has gone"))

    def more(self) -> dict[str, Any]:
        """What is new: pieces of text with their microseconds since receipt and their kind, and
        how the race stands."""
        self._watch.cancel()
        self._watch = self._watched()
        pieces, self._pieces = self._pieces, []
        generation, plan = self._generation, self._generation.plan
        return {
            "now_us": self._now_us(),
            "committed": self._is_committed,
            "pieces": pieces,
            "attempts": [attempt_of(record) for record in generation.attempts],
            "hedge": hedge_of(plan.hedge) if plan is not None else None,
            "end": self._end,
            "error": self._error,
        }

    def _watched(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(GONE_S, self._on_gone, self.id)

    def _now_us(self) -> int:
        return round((self._clock() - self._begun_s) * 1e6)

    async def _run(self) -> None:
        generation = self._generation
        try:
            async with generation:
                if await generation.commit():
                    self._is_committed = True
                    async for events in generation:
                        self._take(events)
                        generation.released()
        except ClientCancelled:
            pass  # our own bound: the generation has ended by it
        finally:
            self._over()

    def _take(self, events: Events) -> None:
        now_us = self._now_us()
        for event in events:
            kind, text = _text_of(event)
            kept = text[: MAX_CHARS - self._chars]
            if kept and len(self._pieces) < MAX_HELD_PIECES:
                self._pieces.append([now_us, kind, kept])
                self._chars += len(kept)
            if len(kept) < len(text) or len(self._pieces) >= MAX_HELD_PIECES:
                raise ClientCancelled("the answer is longer than the playground holds")

    def _over(self) -> None:
        generation, end = self._generation, self._generation.end
        if end is None:  # torn down before it began
            self._end = {"status": "CANCELLED", "reason": "CLIENT_CANCELLED", "attempts": []}
            return
        self._error = hidden(end.error.public_message) if end.error is not None else ""
        self._end = record_of(end, generation.request, self.id, FRONTEND, seq=0, ended_ms=0)


def _text_of(event: object) -> tuple[str, str]:
    if isinstance(event, TextDelta):
        return "text", event.text
    if isinstance(event, ReasoningDelta):
        return "reasoning", event.text
    if isinstance(event, RefusalDelta):
        return "refusal", event.text
    return "", ""
