"""One try at one target: encode, open the stream, decode until the first content, then read on.

An attempt is *ready* when its first content event exists; until then nothing of it is visible
outside and another target may be tried. Afterwards its stream belongs to the generation, which
calls `read` until the stream is over. Between upstream bytes and `read`'s caller there is no
queue and no task.

It ends in one of three ways: at the end of its stream, by an error, or by `abort`; each releases
the stream at once and fills `record`.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

from relay import __version__
from relay.codecs.base import Codec
from relay.codecs.rate_limit_headers import read_rate_windows
from relay.content import (
    Events,
    GenerateRequest,
    OpaqueDelta,
    ProviderFailed,
    ReasoningDelta,
    StreamEvent,
    Usage,
)
from relay.deadline import Clock, Scope, Timer
from relay.errors import (
    AttemptTimeout,
    EventTooLarge,
    FirstTokenTimeout,
    LocalProtocolError,
    Reason,
    RelayError,
    TargetLimited,
)
from relay.outcome import AttemptOutcome, AttemptRecord
from relay.reaper import Reaper
from relay.redaction import redact
from relay.resilience.headroom import Headroom
from relay.routing.catalog import Target, Timeouts
from relay.timeline import AttemptMarks
from relay.transport.base import Transport, UpstreamRequest, UpstreamStream

_USER_AGENT = ("user-agent", f"rtrelay/{__version__}")

TAIL_GRACE_S = 1.0
"""How long the last frames of a finished response may take before the stream is reset: over
HTTP/2 they are one empty DATA frame, over HTTP/1.1 reading them keeps the connection usable."""

MAX_PRELUDE_BYTES = 16 * 1024 * 1024
"""What is held of an answer that has not begun: provider fields beside long reasoning, some hundred
bytes a token, are the most that is known."""

MAX_UNHEARD_CHARS = 256 * 1024
"""Of reasoning that nobody asked for and that is kept to be counted; what is over is dropped."""

EVENT_BYTES = 64
"""What a held event is counted with beside its content: the object and its place."""

_OVERLOADED = frozenset({Reason.UPSTREAM_RATE_LIMITED, Reason.UPSTREAM_OVERLOADED})


class Attempt:
    """One try. Created by the race's maker, started by `run_until_ready`, read by its owner."""

    def __init__(
        self,
        target: Target,
        request: GenerateRequest,
        timeouts: Timeouts,
        *,
        transport: Transport,
        reaper: Reaper,
        clock: Clock,
        received_s: float,
        headroom: Headroom,
    ) -> None:
        self.target = target
        self.timeouts = timeouts
        self._request = request
        self._transport = transport
        self._reaper = reaper
        self._clock = clock
        self._received_s = received_s
        self._headroom = headroom
        self.marks = AttemptMarks(clock())
        self.record = AttemptRecord(
            provider=target.endpoint.provider,
            model=target.model,
            started_us=round((self.marks.started_s - received_s) * 1e6),
        )
        self._codec: Codec = target.endpoint.make_codec()
        self._stream: UpstreamStream | None = None
        self._chunks: AsyncIterator[bytes | memoryview] | None = None
        self._pending_error: RelayError | None = None
        self._is_over = False
        self._held_bytes = 0
        self._unheard = io.StringIO()
        self._early_usage: Usage | None = None
        self.prelude: list[StreamEvent] = []
        """What came up to and with the first content; the owner takes it first. Reasoning that is
        not wanted is one event in it, for the count of tokens; of usage it holds the last word."""

    # --- before the commit ------------------------------------------------------------------

    async def run_until_ready(self) -> None:
        """Start, and return when the first content event (or a clean end) is in `prelude`.

        Raises:
            RelayError: the attempt failed; its stream is released and `record` says why.

        Cancelled: the request is withdrawn at once; the outcome is `ignored`.
        """
        limit_s = min(self.timeouts.first_token_s, self.timeouts.total_s)
        scope = Scope()
        scope.enter()
        timer = Timer(scope, limit_s, self._first_token_timeout)
        try:
            await self._until_first_content()
        except asyncio.CancelledError:
            cause = scope.caught()
            if cause is None:
                self.abort()
                raise
            self._fail(cause)
            raise cause from None
        except RelayError as error:
            self._fail(error)
            raise
        except BaseException:  # a bug of ours: no word on the provider, but its stream goes
            self.abort()
            raise
        finally:
            timer.stop()
            scope.leave()

    def _first_token_timeout(self) -> RelayError:
        if self.timeouts.total_s <= self.timeouts.first_token_s:
            return AttemptTimeout(f"{self.target.name} took longer than its total limit")
        return FirstTokenTimeout(
            f"{self.target.name} sent no content within {self.timeouts.first_token_s:g} s"
        )

    async def _until_first_content(self) -> None:
        endpoint = self.target.endpoint
        codec = self._codec
        wait_s = self._headroom.take(self._clock())
        if wait_s > 0:
            raise TargetLimited(
                f"{self.target.name} is held to the rpm and tpm of its row", retry_after_s=wait_s
            )
        encoded = codec.encode_request(self._request, self.target.model)
        self._stream = stream = await self._transport.open(
            endpoint.origin,
            UpstreamRequest(
                "POST",
                endpoint.base_path + encoded.path,
                [*encoded.headers, _USER_AGENT, *endpoint.headers],
                encoded.body,
            ),
            connect_timeout_s=self.timeouts.connect_s,
            mark=self._mark,
        )
        self._mark("response_headers")
        self.record.http_version = stream.http_version
        self.record.http_status = stream.status
        codec.decode_headers(stream.status, stream.headers)
        if windows := read_rate_windows(stream.headers):
            self._headroom.observe(windows, self._clock())
        self._chunks = stream.chunks()
        want_reasoning = self._request.want_reasoning
        while not self._is_over:
            events = await self.read()
            for event in events:
                if event.is_content or (want_reasoning and type(event) is ReasoningDelta):
                    self._mark("first_content")
                    self._hold_the_rest()
                    self.prelude += events
                    return
            self._hold(events)
            if self._pending_error is not None:
                raise self._pending_error
        self._hold_the_rest()
        self._mark("first_content")

    def _hold(self, events: Events) -> None:
        """Keep what came before the first content, as little of it as anybody will miss.

        Raises:
            EventTooLarge: it is over `MAX_PRELUDE_BYTES`.
        """
        for event in events:
            if type(event) is ReasoningDelta:
                room = MAX_UNHEARD_CHARS - self._unheard.tell()
                self._unheard.write(event.text[:room])
                continue
            if type(event) is Usage:  # some providers count in every chunk; the last word stands
                self._early_usage = event
                continue
            self._held_bytes += EVENT_BYTES
            if type(event) is OpaqueDelta:
                self._held_bytes += len(event.value_json)
            self.prelude.append(event)
        if self._held_bytes > MAX_PRELUDE_BYTES:
            raise EventTooLarge(
                f"{self.target.name} sent over {MAX_PRELUDE_BYTES} bytes and no content"
            )

    def _hold_the_rest(self) -> None:
        """What is kept only to be counted: reasoning that nobody asked for, and usage."""
        if text := self._unheard.getvalue():
            self.prelude.append(ReasoningDelta(text))
        if self._early_usage is not None:
            self.prelude.append(self._early_usage)
        self._unheard.close()

    def _mark(self, phase: str) -> None:
        self.marks.at_s[phase] = self._clock()

    # --- reading ----------------------------------------------------------------------------

    async def read(self) -> Events:
        """The next events, as many as one read of the wire completes; empty at the end.

        Bytes that complete no event (comments, keep-alives, half an event) are no progress:
        the call goes on waiting through them.

        Raises:
            RelayError: the provider failed or broke the format, after all events before it
                were returned; or the stream broke.
        """
        if self._is_over:
            return ()
        if self._pending_error is not None:
            self._fail(self._pending_error)
            raise self._pending_error
        chunks, codec = self._chunks, self._codec
        if chunks is None:
            raise LocalProtocolError("read before the response head")
        try:
            while True:
                events = codec.feed(await chunks.__anext__())
                if events:
                    break
                if codec.is_finished:
                    return self._finish(codec.end())
        except StopAsyncIteration:
            return self._finish(codec.end())
        except RelayError as error:
            self._fail(error)
            raise
        last = events[-1]
        if type(last) is ProviderFailed:
            self._pending_error = last.error
            return self._before_failure(events)
        if codec.is_finished:
            return self._finish([*events, *codec.end()])
        return events

    def _before_failure(self, events: Events) -> Events:
        """What came before the failure; with nothing before it, the failure itself now."""
        if len(events) == 1:
            error = self._pending_error
            if error is not None:
                self._fail(error)
                raise error
        return events[:-1]

    def _finish(self, events: Events) -> Events:
        """The wire is at its end: note the outcome, let go of the stream."""
        if events and type(events[-1]) is ProviderFailed:
            self._pending_error = events[-1].error
            return self._before_failure(events)
        self._is_over = True
        self._close_record(AttemptOutcome.SUCCESS, None)
        if self._stream is not None and self._chunks is not None:
            self._reaper.take(_drain(self._stream, self._chunks))
            self._stream = None
        return events

    @property
    def is_over(self) -> bool:
        """Whether `read` has nothing more."""
        return self._is_over

    # --- ends -------------------------------------------------------------------------------

    def abort(self) -> None:
        """Stop now; the provider sees a reset. Idempotent; nothing after a clean end."""
        if not self._is_over:
            self._is_over = True
            self._close_record(AttemptOutcome.IGNORED, None)
        self._release()

    def fail(self, error: RelayError) -> None:
        """Stop now because of an error that its owner found (a stall, a limit)."""
        self._fail(error)

    def _fail(self, error: RelayError) -> None:
        redact(error, self.target.endpoint.headers)
        if not self._is_over:
            self._is_over = True
            outcome = (
                AttemptOutcome.OVERLOAD if error.reason in _OVERLOADED else AttemptOutcome.FAILURE
            )
            self._close_record(outcome, error)
            if error.reason is Reason.UPSTREAM_RATE_LIMITED:
                self._headroom.refused(error.retry_after_s, self._clock())
        self._release()

    def spent(self, tokens: int) -> None:
        """What the attempt cost in tokens, as far as it is known; once, when it is over."""
        self._headroom.spend(tokens, self._clock())

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
            self._reaper.take(stream.aclose())

    def _close_record(self, outcome: AttemptOutcome, error: RelayError | None) -> None:
        record = self.record
        record.outcome = outcome
        record.error = error
        record.mended_events = self._codec.mended_events
        record.ended_us = round((self._clock() - self._received_s) * 1e6)
        begin_s = self.marks.started_s
        for phase, at_s in self.marks.at_s.items():
            record.phases_us[phase] = round((at_s - begin_s) * 1e6)
            begin_s = at_s


async def _drain(stream: UpstreamStream, chunks: AsyncIterator[bytes | memoryview]) -> None:
    """Read what is left of a finished response, for a bounded time, and close it.

    What comes after the wire's end marker is ignored by definition, errors included.
    """
    try:
        async with asyncio.timeout(TAIL_GRACE_S):
            async for _ in chunks:
                pass
    except (RelayError, TimeoutError):
        stream.abort()
    finally:
        await stream.aclose()
