"""The one thread that makes spans and sends them.

A collector that is down, slow or hung costs spans and nothing else: what waits is bounded, what is
over is dropped and counted, and that is logged once for each time that it begins.

It gives the interpreter away after half a millisecond's work. Otherwise the loop, whenever it comes
back from waiting, would have to wait for up to the interpreter's switch interval, 5 ms, while spans
are made. To give it away costs both sides tens of microseconds, too much for each generation.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from relay.observability.side_thread import SideThread
from relay.observability.tracing.collector import Sender, Verdict
from relay.observability.tracing.encoding import Batch
from relay.observability.tracing.shapes import Shape
from relay.observability.tracing.taken import Taken

_log = structlog.get_logger("relay.traces")

MAX_BATCH_SPANS: Final = 512
"""What the SDKs of OpenTelemetry send at most, so what collectors are used to."""
MAX_TRIES: Final = 5
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
SLICE_S: Final = 0.0005


class Exporter:
    """Started by `start`, ended by `aclose`.

    Args:
        shapes_of: makes the spans of one generation; in the thread.
        make_sender: in the thread.
        resource: attributes of this process.
        state_of: of a client's `tracestate`, what may be told of it.
        max_waiting: generations.
        interval_s: from one look at what waits to the next.
    """

    def __init__(
        self,
        shapes_of: Callable[[Taken], list[Shape]],
        make_sender: Callable[[], Sender],
        resource: Mapping[str, str],
        *,
        state_of: Callable[[str], str] = str,
        max_waiting: int,
        interval_s: float,
    ) -> None:
        self._shapes_of = shapes_of
        self._state_of = state_of
        self._make_sender = make_sender
        self._resource = resource
        self._max_waiting = max_waiting
        self._interval_s = interval_s
        self._waiting: deque[Taken] = deque()
        self._gives_up = False
        self._side = SideThread("traces", self._run)
        self._is_failing = False
        self.sent_spans = 0
        self.sent_generations = 0
        self.dropped_generations = 0
        """Found no room, or were in a batch that nobody took."""
        self.rejected_spans = 0
        self.failed_sends = 0

    # --- the loop's side ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look at what waits."""
        self._side.start()

    def put(self, taken: Taken) -> None:
        """Never blocks; drops what there is no room for."""
        if len(self._waiting) >= self._max_waiting:
            self.dropped_generations += 1
            return
        self._waiting.append(taken)

    async def aclose(self, within_s: float) -> None:
        """Send what waits, for no longer than that; what is left then is dropped. Idempotent.

        Cancelled: what is left is dropped.
        """
        try:
            if not await self._side.aclose(within_s):
                _log.warning("traces_left_at_the_end", generations=len(self._waiting))
        finally:
            self._gives_up = True
            self._side.wake.set()

    def describe(self) -> dict[str, Any]:
        """For the state of the worker."""
        return {
            "waiting": len(self._waiting),
            "sent_generations": self.sent_generations,
            "sent_spans": self.sent_spans,
            "dropped_generations": self.dropped_generations,
            "rejected_spans": self.rejected_spans,
            "failed_sends": self.failed_sends,
            "failing": self._is_failing,
        }

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            sender = self._make_sender()
            try:
                while not self._gives_up:
                    if not self._side.is_stopping:
                        self._side.wake.wait(self._interval_s)
                    while self._waiting and not self._gives_up:
                        self._send(sender, self._batch())
                    if self._side.is_stopping:
                        return
            finally:
                sender.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the relay goes on without
            _log.error("traces_ended", error=type(error).__name__, exc_info=error)
            self._max_waiting = 0

    def _batch(self) -> Batch:
        batch = Batch(self._resource)
        begun_s = time.perf_counter()
        while self._waiting and batch.spans < MAX_BATCH_SPANS:
            taken = self._waiting.popleft()
            try:
                state = self._state_of(taken.policy.tracestate)
                batch.add(taken.trace, state, self._shapes_of(taken))
            except Exception as error:  # noqa: BLE001 - one that cannot be told costs no other
                self.dropped_generations += 1
                _log.error("trace_bug", generation_id=taken.generation_id, exc_info=error)
            if time.perf_counter() - begun_s > SLICE_S:
                time.sleep(0)
                begun_s = time.perf_counter()
        return batch

    def _send(self, sender: Sender, batch: Batch) -> None:
        if not batch.spans:
            return
        body = batch.encoded()
        wait_s = FIRST_WAIT_S
        for tried in range(1, MAX_TRIES + 1):
            sent = sender.send(body)
            if sent.verdict is Verdict.TAKEN:
                self.sent_generations += batch.generations
                rejected = min(max(0, sent.rejected), batch.spans)  # a collector may say anything
                self.sent_spans += batch.spans - rejected
                self.rejected_spans += rejected
                self._works()
                return
            self.failed_sends += 1
            self._fails(sent.why)
            if sent.verdict is Verdict.REFUSED or tried == MAX_TRIES or self._side.is_stopping:
                break
            self._side.wake.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            if self._gives_up:
                break
        self.dropped_generations += batch.generations

    def _fails(self, why: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.warning("traces_not_taken", why=why)

    def _works(self) -> None:
        if self._is_failing:
            self._is_failing = False
            _log.warning("traces_taken_again", dropped_generations=self.dropped_generations)
