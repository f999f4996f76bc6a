"""What a worker does every few seconds, off any request's path.

- Figures that plans read of sketches are worked out anew, a few targets a turn of the loop.
- Targets that were ejected and that no request has tried again are asked one token, so that they
  come back without traffic, and without a copy of anybody's prompt.
- The log is told which targets were ejected and which came back.
- What was learnt is kept (`store.url`), and taken up at the start.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import structlog

from relay.attempt import Attempt
from relay.content import GenerateRequest, Message, Role, Sampling, TextPart
from relay.dispatch import Services
from relay.errors import RelayError, StreamStalled
from relay.outcome import AttemptRole
from relay.routing.route import Timeouts
from relay.routing.target import Target
from relay.store import learned
from relay.target_news import TargetNews
from relay.target_state import REFRESH_S, Kept

_log = structlog.get_logger("relay.upkeep")

TARGETS_A_TURN: Final = 8
"""Working out one target's figures takes some 0.3 ms; requests wait no longer than for these."""
SAVE_S: Final = 60.0
PROBE_GRACE_S: Final = 5.0
"""How long a request may come first: it shows more than a word of ours."""
_PROBE_WORDS: Final = "Reply with OK."


class Upkeep:
    """One worker's upkeep; `start` it when requests are served, `aclose` it before the transport.

    Args:
        store: file that what was learnt is kept in; None to keep nothing.
        worker: number of this worker.
    """

    def __init__(self, services: Services, store: Path | None, worker: int) -> None:
        self._services = services
        self._store = store
        self._worker = worker
        self._news = TargetNews()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was kept, and begin. A store that cannot be read is logged, no more."""
        if self._store is not None:
            try:
                kept = await asyncio.to_thread(learned.load, self._store, self._worker)
            except learned.StoreError as error:
                _log.warning("learned_not_loaded", why=str(error))
            else:
                wall_s = time.time()
                self._services.planner.states.keep(
                    {
                        target: [
                            Kept(row.state, wall_s - row.saved_at_s, row.is_own) for row in rows
                        ]
                        for target, rows in kept.items()
                    },
                    self._services.clock(),
                )
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def aclose(self) -> None:
        """Stop, and keep what was learnt. Idempotent, bounded."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._save()

    async def _run(self) -> None:
        clock = self._services.clock
        saved_s = clock()
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
                self._news.tell(self._services.planner.states.items(), clock())
                self.probe()
                if clock() - saved_s >= SAVE_S:
                    saved_s = clock()
                    await self._save()
            except Exception as error:  # noqa: BLE001 - upkeep must go on
                _log.error("upkeep_bug", error=type(error).__name__, exc_info=error)

    async def refresh(self) -> None:
        """Work out the figures of every target that has news, and of `tail` aliases."""
        services = self._services
        planner = services.planner
        for done, (_, state) in enumerate(list(planner.states.items())):
            if state.has_news:
                state.refresh(services.clock())
                if done % TARGETS_A_TURN == TARGETS_A_TURN - 1:
                    await asyncio.sleep(0)
        for route in services.catalog.routes.values():
            planner.refresh_pair(route, services.clock())

    def probe(self) -> None:
        """Ask a few tokens of each ejected target whose time has come and whom nobody has asked."""
        services = self._services
        now_s = services.clock()
        seen: set[str] = set()
        for route in services.catalog.routes.values():
            for target in (*route.candidates, *route.fallbacks, *route.escalated.values()):
                if target.name in seen:
                    continue
                seen.add(target.name)
                breaker = services.planner.states.of(target, now_s).breaker
                due_s = breaker.retry_at_s
                if (
                    due_s is not None
                    and now_s >= due_s + PROBE_GRACE_S
                    and breaker.wants_probe(now_s)
                ):
                    limits = route.timeouts_for(_PROBE)
                    services.reaper.take(self._ask(target, limits))

    async def _ask(self, target: Target, limits: Timeouts) -> None:
        services = self._services
        attempt = Attempt(
            target,
            _PROBE,
            limits,
            transport=services.transport,
            reaper=services.reaper,
            clock=services.clock,
            received_s=services.clock(),
            state=services.planner.states.of(target, services.clock()),
            role=AttemptRole.PRIMARY,
        )
        try:
            await attempt.run_until_ready()
            await _read_to_the_end(attempt, limits)
        except RelayError as error:
            _log.info("probe_failed", target=target.name, reason=error.reason.name)
        else:
            _log.info("probe_answered", target=target.name)
        finally:
            attempt.abort()

    async def _save(self) -> None:
        if self._store is None:
            return
        services = self._services
        states = services.planner.states.to_dict(services.clock())
        try:
            await asyncio.to_thread(learned.save, self._store, self._worker, states, time.time())
        except learned.StoreError as error:
            _log.warning("learned_not_saved", why=str(error))


async def _read_to_the_end(attempt: Attempt, limits: Timeouts) -> None:
    """Read what is of no interest: nobody waits for a probe, so nothing else would end one whose
    provider falls silent or speaks for ever.

    Raises:
        RelayError: it failed, or took longer than any generation may.
    """
    try:
        async with asyncio.timeout(limits.total_s):
            while True:
                async with asyncio.timeout(limits.inter_token_s):
                    events = await attempt.read()
                if not events:
                    return
    except TimeoutError:
        error = StreamStalled(f"{attempt.name} did not end its answer to a probe")
        attempt.fail(error)
        raise error from None


_PROBE = GenerateRequest(
    model="",
    messages=(Message(Role.USER, (TextPart(_PROBE_WORDS),)),),
    sampling=Sampling(max_output_tokens=16),  # the least that the Responses API takes
)
