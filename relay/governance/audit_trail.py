"""What happens on the data path, on its way to the audit log; no request ever waits for it.

The loop folds repeats (`relay.governance.audit_fold`) and queues the rest, both bounded. A thread
of its own, since it waits for the disk and for other workers, makes entries of them, takes secrets
out and writes a batch at a time. What has no room while the database is down or slow is counted,
and an entry says so (`audit.lost`) as soon as there is one again.

Nothing here is acknowledged to anybody, so the last `linger_s` of a killed process are lost. What
an administrator does is not written here: it is written in its own transaction, or not done.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from relay.governance import audit_actions as actions
from relay.governance.audit_anchor import AnchorError
from relay.governance.audit_chain import Anchor, Entry, Head, entry
from relay.governance.audit_checkpoint import AnchorRefused
from relay.governance.audit_fold import Event, Fold
from relay.governance.known_secrets import KnownSecrets
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.audit")

MAX_WAITING: Final = 10_000
BATCH: Final = 500
FOLD_S: Final = 1.0
LINGER_S: Final = 0.05
"""What comes meanwhile is written together."""
RETRY_S: Final = (0.25, 5.0)
"""Of a database that is down: the first wait, and the longest."""
STOP_S: Final = 5.0
_IDLE_S: Final = 60.0
_MAX_TEXT_CHARS: Final = 1024
"""Of what a caller sent, while it waits."""


class Trail(Protocol):
    """Where the parts of a worker tell what is to be audited."""

    def learn(self, secrets: Iterable[str]) -> None:
        """Keep these out of the log as well, from the next `note` on: a reload brings others."""
        ...

    def note(
        self,
        action: str,
        *,
        at_us: int,
        actor: str,
        subject: str = "",
        organisation_id: str = "",
        outcome: str = actions.DONE,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Tell of one event. Never waits, never raises.

        Args:
            action: one of `relay.governance.audit_actions`; those of `FOLDED` are folded.
            detail: not to be changed afterwards; of repeats it is not looked at.
        """
        ...


class NoTrail:
    """Where nothing is audited."""

    def note(self, action: str, **_: object) -> None:
        """Forgets it."""

    def learn(self, secrets: Iterable[str]) -> None:
        """Likewise."""


class Writer(Protocol):
    """Writes entries, and raises StoreUnavailable where it cannot now; its attribute `head`, if
    any, is given back with the next try."""

    def __call__(self, entries: Sequence[Entry], *, unless: Head | None = None) -> Head: ...


class AuditTrail:
    """One worker's trail: `start` it, `note` from the loop, `aclose` it when requests are over.

    Args:
        write: blocking; `AuditStore.write`.
        known: secrets that are kept out of the log.
        checkpoint: anchors the log's end, blocking; None for none (another worker does it).
        checkpoint_s: how often.
        clock: seconds, monotonic; `now_us`: microseconds since 1970.
    """

    def __init__(
        self,
        write: Writer,
        *,
        known: KnownSecrets | None = None,
        checkpoint: Callable[[int], Anchor | None] | None = None,
        checkpoint_s: float = 60.0,
        max_waiting: int = MAX_WAITING,
        linger_s: float = LINGER_S,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._write = write
        self._known = known or KnownSecrets()
        self.learn = self._known.learn
        self._checkpoint = checkpoint
        self._checkpoint_s = checkpoint_s
        self._max_waiting = max_waiting
        self._linger_s = linger_s
        self._clock = clock
        self._now_us = now_us
        # Of the loop and the thread; held for as long as it takes to move a reference.
        self._news = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._fold = Fold()
        self._lost: dict[str, int] = {}
        self._lost_since_us = 0
        # Of the thread alone.
        self._batches: deque[list[Event]] = deque()
        self._unless: Head | None = None
        self._retry_s = 0.0
        self._retry_at_s = 0.0
        self._fold_at_s = self._checkpoint_at_s = clock()
        self._is_anchor_bad = False
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        # For `describe`.
        self._written = 0
        self._lost_ever = 0
        self._why_down = ""
        self._anchored = 0
        self._why_not_anchored = ""

    # --- the loop's side --------------------------------------------------------------------

    def note(
        self,
        action: str,
        *,
        at_us: int,
        actor: str,
        subject: str = "",
        organisation_id: str = "",
        outcome: str = actions.DONE,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """As of `Trail`; about a microsecond for a repeat, three for what is new."""
        with self._news:
            is_folded = action in actions.FOLDED
            if is_folded and self._fold.is_repeat(
                action, actor, organisation_id, outcome, subject, at_us
            ):
                return
            event = Event(
                at_us,
                actor[:_MAX_TEXT_CHARS],
                action,
                subject[:_MAX_TEXT_CHARS],
                organisation_id,
                outcome,
                dict(detail) if detail else {},
            )
            if is_folded:
                event = self._fold.take(event)
            if len(self._waiting) >= self._max_waiting:
                self._lose(action, 1, at_us)
                return
            self._waiting.append(event)
            if len(self._waiting) == 1:
                self._news.notify()

    def _lose(self, action: str, count: int, at_us: int) -> None:
        if not self._lost:
            self._lost_since_us = at_us
        self._lost[action] = self._lost.get(action, 0) + count
        self._lost_ever += count

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Write what waits and anchor the end, within `STOP_S`. Idempotent.

        Cancelled: the thread goes on until the process ends.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        with self._news:
            self._news.notify()
        await asyncio.to_thread(thread.join, STOP_S)
        if left := self._left():
            _log.error("audit_not_written", entries=left, why=self._why_down)

    def _left(self) -> int:
        with self._news:
            return sum(map(len, self._batches)) + len(self._waiting) + sum(self._lost.values())

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            "written": self._written,
            "waiting": self._left(),
            "lost": self._lost_ever,
            "down": self._why_down or None,
            "anchored": self._anchored or None,
            "not_anchored": self._why_not_anchored or None,
        }

    # --- the thread's side ------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            with self._news:
                if not self._waiting or self._batches:
                    self._news.wait(wait_s)
            if self._waiting and not self._batches:
                self._stopping.wait(self._linger_s)
            wait_s = self._round()
        self._round(is_last=True)

    def _round(self, *, is_last: bool = False) -> float:
        try:
            return self.step(is_last=is_last)
        except Exception as error:  # noqa: BLE001 - the thread must go on
            _log.error("audit_bug", error=type(error).__name__, exc_info=error)
            return RETRY_S[1]

    def step(self, *, is_last: bool = False) -> float:
        """Write what there is, anchor when it is time; returns seconds until it has to be called
        again. By the thread alone, or instead of it.

        Args:
            is_last: now or never: nothing is waited for.
        """
        now_s = self._clock()
        if is_last or now_s >= self._retry_at_s:
            self._collect(now_s, is_last=is_last)
            self._write_all(now_s)
        if self._checkpoint is not None and (is_last or now_s >= self._checkpoint_at_s):
            self._checkpoint_at_s = now_s + self._checkpoint_s
            self._anchor(self._checkpoint)
            if is_last:
                return 0.0
        due_s = now_s + _IDLE_S
        if self._batches:
            due_s = self._retry_at_s
        elif len(self._fold):
            due_s = self._fold_at_s
        if self._checkpoint is not None:
            due_s = min(due_s, self._checkpoint_at_s)
        return max(0.0, due_s - now_s)

    def _collect(self, now_s: float, *, is_last: bool) -> None:
        """Take over what waits; only once all that was taken over before is written, so that what
        is kept has a bound."""
        if self._batches and not is_last:
            return
        with self._news:
            waiting, self._waiting = self._waiting, deque()
            closed = None
            if is_last or now_s >= self._fold_at_s:
                self._fold_at_s = now_s + FOLD_S
                if len(self._fold):
                    closed, self._fold = self._fold, Fold()
            lost, self._lost = self._lost, {}
        events = list(waiting)
        if closed is not None:
            events += closed.close()
        if lost:
            detail: dict[str, object] = {"lost": lost, "since_us": self._lost_since_us}
            now_us = self._now_us()
            said = Event(now_us, actions.RELAY, actions.AUDIT_LOST, "", "", actions.FAILED, detail)
            events.append(said)
        self._batches += [events[at : at + BATCH] for at in range(0, len(events), BATCH)]

    def _write_all(self, now_s: float) -> None:
        while self._batches:
            batch = self._batches[0]
            try:
                self._write([self._entry(event) for event in batch], unless=self._unless)
            except StoreUnavailable as error:
                self._failed(error, now_s)
                return
            except Exception as error:  # noqa: BLE001 - told below, of the entry that it is about
                if len(batch) > 1:  # one of them is not to be written: find it
                    self._batches.popleft()
                    self._batches.extendleft([event] for event in reversed(batch))
                    continue
                _log.error("audit_entry_lost", action=batch[0].action, exc_info=error)
                with self._news:
                    self._lose(batch[0].action, 1, batch[0].at_us)
            else:
                self._written += len(batch)
                if self._why_down:
                    _log.warning("audit_written_again")
            self._batches.popleft()
            self._unless = None
            self._why_down = ""
            self._retry_s = self._retry_at_s = 0.0

    def _entry(self, event: Event) -> Entry:
        at_us, actor, action, subject, organisation_id, outcome, detail = event
        return entry(
            action,
            at_us=at_us,
            actor=actor,
            subject=subject,
            organisation_id=organisation_id,
            outcome=outcome,
            detail=detail,
            hide=self._known.hide,
        )

    def _failed(self, error: StoreUnavailable, now_s: float) -> None:
        head: Head | None = getattr(error, "head", None)
        self._unless = head or self._unless
        why = self._known.hide(str(error))
        if not self._why_down:
            _log.error("audit_not_writable", why=why)
        self._why_down = why
        self._retry_s = min(max(self._retry_s * 2, RETRY_S[0]), RETRY_S[1])
        self._retry_at_s = now_s + self._retry_s

    def _anchor(self, checkpoint: Callable[[int], Anchor | None]) -> None:
        try:
            anchor = checkpoint(self._now_us())
        except StoreUnavailable as error:
            self._why_not_anchored = self._known.hide(str(error))
        except (AnchorRefused, AnchorError) as error:
            self._why_not_anchored = why = str(error)
            _log.error("audit_not_anchored", why=why)
            if isinstance(error, AnchorRefused) and not self._is_anchor_bad:
                self._is_anchor_bad = True
                self.note(
                    actions.ANCHOR_REFUSED,
                    at_us=self._now_us(),
                    actor=actions.RELAY,
                    outcome=actions.FAILED,
                    detail={"why": why},
                )
        else:
            self._why_not_anchored = ""
            self._is_anchor_bad = False
            if anchor is not None:
                self._anchored = anchor.seq
