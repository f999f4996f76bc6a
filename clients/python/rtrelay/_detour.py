"""The way round the relay, for one session: when to take it, what runs on it, when to return.

A generation waits for the relay's `started` for as long as the client said, and for the next stream
as long when its stream broke before its first output. Who has waited in vain goes to the provider,
and the session with it (`Takeover`). A generation that the relay has is never taken from it as long
as the relay lives, however slow its provider is: a ping tells. Without an answer to that for a
second the relay counts as away, and what has no output yet goes to the provider.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Protocol

import grpc

from rtrelay._direct_call import DirectCall
from rtrelay._flow import Flow
from rtrelay._link import LATE_S, Link
from rtrelay._takeover import Takeover
from rtrelay.errors import STREAM_LOST, RelayError
from rtrelay.stats import PathChange
from rtrelay.v1 import CancelReason, ConverseRequest, Ping, Setup, Start

if TYPE_CHECKING:
    from rtrelay._standby import Standby

PING_AFTER_S = 1.0
"""A generation that the relay has, and that has no output after so long, asks whether the relay
lives; again each time that long has passed."""
PONG_WITHIN_S = 1.0
"""A relay that does not answer for so long is away."""
ABORT_AFTER_S = 3.0
"""And after so long its stream is given up, with what still runs on it."""


class DetourOwner(Protocol):
    """The switchboard."""

    def withdraw(self, flow: Flow) -> None:
        """Take a generation from where it waits or runs; the relay's word on it is not heard."""

    def next_id(self) -> str:
        """An id that the session has not used."""


class Detour:
    """See the module. Made and used by the switchboard of one session."""

    def __init__(self, standby: Standby, setup: Setup, owner: DetourOwner) -> None:
        self._standby = standby
        self._setup = setup
        self._owner = owner
        self._takeover = Takeover(standby.after_s, standby.return_within_s, is_away=standby.is_away)
        self.left = asyncio.Event()
        """Set while the session is away from the relay."""
        if standby.is_away:
            self.left.set()
        self._return: asyncio.TimerHandle | None = None
        self._calls: dict[Flow, DirectCall] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """Of what runs here."""
        self._pings: dict[Link, tuple[int, asyncio.TimerHandle]] = {}
        self._nonces = count(1)
        self._session_id = ""
        self._was_refused = False
        standby.begin()

    @property
    def after_s(self) -> float:
        """How long the relay may take."""
        return self._takeover.after_s

    @property
    def is_direct(self) -> bool:
        """What is started now goes to the provider."""
        return self._takeover.via(_now_s()) == "direct"

    # --- generations ------------------------------------------------------------------------

    def takes(self, flow: Flow) -> bool:
        """A generation is started, or to be started again. Whether it went to the provider; else it
        is the relay's for as long as its patience lasts."""
        if self.is_direct:
            self.take(flow, "stream_lost" if flow.restarts else "relay_away")
            return True
        if flow.patience is None:
            loop = asyncio.get_running_loop()
            flow.patience = loop.call_later(self._takeover.after_s, self._lost_patience, flow)
        return False

    def take(self, flow: Flow, reason: str) -> None:
        """Give a generation that no stream has to the provider."""
        flow.drop_patience()
        flow.link = None
        flow.via = "direct"
        del flow.start.supersedes[:]
        flow.start.generation_id = self._owner.next_id()
        self._standby.counts.reasons[reason] += 1
        call = DirectCall(
            flow, self._effective(flow.start), self._standby.provider, flow.asked_at_s, self._ended
        )
        self._calls[flow] = call
        self.tasks.add(call.begin())
        if flow.is_committed:
            call.commit()

    def has(self, flow: Flow, link: Link) -> None:
        """The relay said that it has the generation."""
        flow.drop_patience()
        flow.patience = asyncio.get_running_loop().call_later(
            PING_AFTER_S, self._still_silent, flow, link
        )

    def cancel(self, flow: Flow, reason: CancelReason.ValueType) -> None:
        """Stop a generation that runs here; nothing happens for others."""
        call = self._calls.get(flow)
        if call is not None:
            call.cancel(reason)

    def commit(self, flow: Flow) -> None:
        """The same for a commit."""
        call = self._calls.get(flow)
        if call is not None:
            call.commit()

    def stop(self) -> None:
        """Cancel what runs here and leave no timer. Idempotent; `tasks` end a moment later."""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        for _, timer in self._pings.values():
            timer.cancel()
        self._pings.clear()
        for flow, call in list(self._calls.items()):
            flow.drop_unread()
            call.cancel(CancelReason.CANCEL_REASON_SESSION_END)

    def _effective(self, start: Start) -> Start:
        """What holds for it, with the session's defaults."""
        found = Start(model=self._setup.model, labels=self._setup.labels)
        found.budgets.CopyFrom(self._setup.budgets)
        found.MergeFrom(start)
        return found

    def _ended(self, call: DirectCall, was_cut: bool) -> None:
        self._calls.pop(call.flow, None)
        self.tasks = {task for task in self.tasks if not task.done()}
        if was_cut:  # and its connection closed
            self._standby.warm_soon()

    # --- is the relay there? ----------------------------------------------------------------

    def away(self, reason: str) -> None:
        """The relay did not answer."""
        self._was_refused = False
        if not self._takeover.failed():
            return
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if not self.left.is_set():
            self.left.set()
            self._standby.changed(PathChange("direct", reason, self._session_id))

    def answered(self, session_id: str = "") -> None:
        """It did: a stream is ready, or a ping came back."""
        self._was_refused = False
        self._session_id = session_id or self._session_id
        if self._takeover.answered(_now_s()):
            at_s = self._takeover.return_at_s or _now_s()
            self._return = asyncio.get_running_loop().call_at(at_s, self._returned)

    def refused(self) -> None:
        """It refused the session for a reason that lasts: callers are to hear it."""
        self._was_refused = True
        self._takeover.settled()
        self._returned("relay_refused")

    def lost(self, link: Link, *, was_current: bool) -> None:
        """A stream is over."""
        _, timer = self._pings.pop(link, (0, None))
        if timer is not None:
            timer.cancel()
        if was_current and self.left.is_set():
            self._takeover.failed()  # what was to return does not
            if self._return is not None:
                self._return.cancel()
                self._return = None

    def pong(self, link: Link, nonce: int) -> None:
        """The relay answered a ping."""
        asked, timer = self._pings.get(link, (0, None))
        if nonce == asked and timer is not None:
            timer.cancel()
            del self._pings[link]
            self.answered()

    def _returned(self, reason: str = "relay_back") -> None:
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if self.left.is_set():
            self.left.clear()
            self._takeover.settled()
            self._standby.changed(PathChange("relay", reason, self._session_id))

    def _lost_patience(self, flow: Flow) -> None:
        """Nobody has said that he has it."""
        timer, flow.patience = flow.patience, None
        if flow.is_cancelled:
            return
        if _is_late(timer):
            loop = asyncio.get_running_loop()
            flow.patience = loop.call_later(LATE_S, self._lost_patience, flow)
            return
        link = flow.link
        is_connected = link is not None and link.ready is not None
        if self._was_refused and not is_connected:  # who was refused waits for the next word
            loop = asyncio.get_running_loop()
            flow.patience = loop.call_later(self._takeover.after_s, self._lost_patience, flow)
            return
        reason = "no_answer" if is_connected else "no_connection"
        if flow.restarts:
            reason = "stream_lost"
        self.away(reason)
        self._owner.withdraw(flow)
        self.take(flow, reason)
        if link is not None and is_connected:
            self._ask(link)

    def _still_silent(self, flow: Flow, link: Link) -> None:
        """The relay has it, and nothing has come: does it live?"""
        flow.patience = None
        if flow.has_output or flow.is_cancelled or flow.link is not link:
            return
        self._ask(link)
        self.has(flow, link)

    def _ask(self, link: Link) -> None:
        if link in self._pings or link.error is not None:
            return
        nonce = next(self._nonces)
        link.send(ConverseRequest(ping=Ping(nonce=nonce)))
        timer = asyncio.get_running_loop().call_later(PONG_WITHIN_S, self._no_pong, link, nonce)
        self._pings[link] = (nonce, timer)

    def _no_pong(self, link: Link, nonce: int) -> None:
        if _is_late(self._pings[link][1]):
            timer = asyncio.get_running_loop().call_later(LATE_S, self._no_pong, link, nonce)
            self._pings[link] = (nonce, timer)
            return
        self.away("no_answer")
        for flow in list(link.flows.values()):
            if not flow.has_output and not flow.is_cancelled:
                self._owner.withdraw(flow)
                self.take(flow, "no_answer")
        timer = asyncio.get_running_loop().call_later(
            ABORT_AFTER_S - PONG_WITHIN_S, self._give_up, link
        )
        self._pings[link] = (nonce, timer)

    def _give_up(self, link: Link) -> None:
        self._pings.pop(link, None)
        message = f"{link.address} does not answer"
        link.abort(RelayError(STREAM_LOST, grpc.StatusCode.UNAVAILABLE, message))


def _is_late(timer: asyncio.TimerHandle | None) -> bool:
    """It fires long after its time: the loop was blocked, and what the relay has said meanwhile is
    still to be read."""
    return timer is not None and _now_s() - timer.when() > LATE_S


def _now_s() -> float:
    return asyncio.get_running_loop().time()
