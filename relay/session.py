"""One client stream: many generations at once, each in a task of its own.

The session only multiplexes. It knows ids, limits and cancels; what a generation does is
`generation.py`, how frames look is the frontend's, and when they are written is `outbox.py`.

Every start gets exactly one end, also when it is refused before it began; nothing of a generation
follows its end, because the end is the last thing its own task puts into its own lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from relay.content import Events, GenerateRequest
from relay.dispatch import Services, look
from relay.errors import (
    CancelReason,
    ClientCancelled,
    Draining,
    DuplicateGeneration,
    InternalError,
    Reason,
    RelayError,
    TooManyGenerations,
)
from relay.generation import Generation
from relay.outbox import Lane, Outbox
from relay.outcome import GenerationEnd, refused
from relay.prewarm import Prewarm
from relay.resilience.overload import RequestClass

_log = structlog.get_logger("relay.session")

REMEMBERED_IDS = 10_000
"""Ids of ended generations that are still known as used: a call of many hours."""


class GenerationFrames(Protocol):
    """One generation in the client's wire."""

    def started(self) -> bytes: ...

    def output(self, events: Events) -> Sequence[bytes]: ...

    def rest(self, end: GenerationEnd) -> Sequence[bytes]: ...

    def end(self, end: GenerationEnd, generation: Generation | None) -> bytes: ...


def check_acceptable(
    services: Services, request: GenerateRequest, request_id: str, surface: str
) -> None:
    """What can be told of a request without waiting, before it is said to have `started`. The
    generation looks again: much may change while it is being admitted.

    Args:
        request_id: the relay's own, and `surface` the frontend: for the audit log, which is told of
            what is refused.

    Raises:
        Draining: this worker takes nothing new.
        UnknownModel: no alias, provider or listed model has the name.
        PermissionDenied, Unauthenticated, StoreDown: as `relay.governance.grants.granted`.
    """
    if services.is_draining:
        raise Draining("this relay is shutting down; connect again")
    look(services, request, request_id, surface)


def log_refusal(error: RelayError, request_id: str) -> None:
    """The line of a generation that never began; others log their own end. Those that a worker
    refuses as it has too much to do are counted instead: they are many, and lines cost more."""
    if error.reason is Reason.OVERLOADED:
        return
    _log.info("start_refused", id=request_id, reason=error.reason.name, why=error.public_message)


class Session:
    """The generations of one client stream. Created and closed by the stream's handler."""

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        max_live: int,
        kind: RequestClass = RequestClass.LIVE,
    ) -> None:
        """
        Args:
            kind: what its generations are to a worker that has too much to do.
        """
        self._services = services
        self._kind = kind
        self._outbox = outbox
        self._max_live = max_live
        self._live: dict[str, Generation] = {}
        self._lanes: dict[str, Lane] = {}
        """Of generations that may yet be discarded, for what the commit lets go."""
        self._buried: dict[str, CancelReason] = {}
        """Cancelled before they began: a client's tasks may overtake one another."""
        self._used: dict[str, None] = {}  # a dict keeps the order in which ids are forgotten
        self._tasks: set[asyncio.Task[None]] = set()
        self._prewarm: Prewarm | None = None

    def start(
        self,
        generation_id: str,
        request_id: str,
        frames: GenerationFrames,
        make_request: Callable[[], GenerateRequest],
        received_s: float,
        supersedes: Sequence[str] = (),
    ) -> None:
        """Begin a generation, or end it at once when it is refused.

        Args:
            generation_id: the client's.
            request_id: the relay's own.
            make_request: reads the start; what it raises becomes the generation's end.
            supersedes: ids of generations that it replaces: they are cancelled first, whatever
                becomes of the start.

        Raises:
            DuplicateGeneration: the id was used; there is no generation to end.
        """
        if generation_id in self._used:
            raise DuplicateGeneration(f"the id {generation_id!r} was used before")
        self._used[generation_id] = None
        buried = self._buried.pop(generation_id, None)
        if len(self._used) > REMEMBERED_IDS + self._max_live:
            oldest = next(id_ for id_ in self._used if id_ not in self._live)
            del self._used[oldest]
        lane = self._outbox.lane(frames, self._services.lane_bytes, lambda: None)
        for name in supersedes:
            if name in self._live:  # an id that is yet to come is not what this one replaces
                self.cancel(name, CancelReason.SUPERSEDED, received_s)
        if buried is not None:
            cancelled = ClientCancelled("cancelled by the client before it began", buried)
            self._refuse(lane, frames, cancelled, request_id)
            return
        going = sum(name in self._live for name in set(supersedes))
        if len(self._live) - going >= self._max_live:
            error: RelayError = TooManyGenerations(
                f"{self._max_live} generations run on this session already"
            )
            self._refuse(lane, frames, error, request_id)
            return
        overload = self._services.overload
        try:
            overload.check(self._kind)
            request = make_request()
            check_acceptable(self._services, request, request_id, "converse")
        except RelayError as refusal:
            self._refuse(lane, frames, refusal, request_id)
            return
        except Exception as error:  # noqa: BLE001 - a bug must not take the other generations along
            _log.error("start_bug", generation_id=request_id, exc_info=error)
            bug = InternalError("the relay failed; the request id is in its log")
            self._refuse(lane, frames, bug, request_id)
            return
        generation = Generation(
            self._services,
            request,
            generation_id=request_id,
            client_id=generation_id,
            frontend="converse",
            received_s=received_s,
        )
        self._live[generation_id] = generation
        task = asyncio.get_running_loop().create_task(
            self._run(generation, frames), name=f"generation {generation_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        overload.enter()
        task.add_done_callback(overload.leave)
        # After the task: it runs first then, and the request leaves before this frame is written.
        self._outbox.control(frames.started())

    def _refuse(
        self, lane: Lane, frames: GenerationFrames, error: RelayError, request_id: str
    ) -> None:
        log_refusal(error, request_id)
        self._services.turned_away(error, "converse")
        lane.finish(lambda: [frames.end(refused(error), None)])

    async def _run(self, generation: Generation, frames: GenerationFrames) -> None:
        lane = self._outbox.lane(
            frames, self._services.lane_bytes, generation.released, generation.give_up
        )
        if generation.speculation is not None:
            self._lanes[generation.client_id] = lane
        try:
            async with generation:
                if await generation.commit():
                    speculation = generation.speculation
                    generation.pour_text_into(lane.pour)
                    async for events in generation:
                        if speculation is not None:
                            events = speculation.let_go(events)
                            if speculation.is_full and not await generation.until_committed():
                                break
                        if events and lane.push(events):
                            await lane.drained()
        finally:
            del self._live[generation.client_id]
            self._lanes.pop(generation.client_id, None)
            end = generation.end
            if end is not None:
                lane.finish(
                    lambda: [*frames.rest(end), frames.end(end, generation)],
                    drop_pending=isinstance(end.error, ClientCancelled),
                )

    def prewarm(self, request: GenerateRequest, request_id: str) -> None:
        """Have a provider cache the beginning of the session's prompts; once a session."""
        self._prewarm = Prewarm(self._services, request, request_id)
        if (task := self._prewarm.task) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end_prewarm(self) -> None:
        """No start will come any more. Idempotent."""
        if self._prewarm is not None:
            self._prewarm.stop()

    def cancel(self, generation_id: str, why: CancelReason, heard_s: float | None = None) -> None:
        """Stop one generation. Idempotent; ended ids do nothing, and a start of one that has not
        begun yet will end at once.

        Args:
            heard_s: when the frame was read that asks for it (`Generation.cancel`).
        """
        generation = self._live.get(generation_id)
        if generation is not None:
            generation.cancel(ClientCancelled("cancelled by the client", why), heard_s)
        elif generation_id not in self._used:
            self._buried.setdefault(generation_id, why)
            if len(self._buried) > REMEMBERED_IDS:
                del self._buried[next(iter(self._buried))]

    def commit(self, generation_id: str) -> None:
        """The client wants what it had started on speculation: release it, with its tools, and let
        it be hedged. Ids that are unknown, ended or no speculation do nothing."""
        generation = self._live.get(generation_id)
        if generation is None:
            return
        held, lane = generation.wanted(), self._lanes.pop(generation_id, None)
        if held and lane is not None:
            lane.push(held)

    def cancel_all(self, why: CancelReason, heard_s: float | None = None) -> None:
        """Stop all that run now; `heard_s` as in `cancel`."""
        for generation in list(self._live.values()):
            generation.cancel(ClientCancelled("cancelled by the client", why), heard_s)

    def __len__(self) -> int:
        """How many generations run."""
        return len(self._live)

    async def finished(self) -> None:
        """Return when no generation runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Stop everything and wait for it: for a client that is gone. Idempotent."""
        self.end_prewarm()
        self.cancel_all(CancelReason.SESSION_END)
        await self.finished()
