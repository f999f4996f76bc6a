"""One try at one target: encode, open the stream, decode until the first content, then read on.

An attempt is *ready* when its first content event exists; until then nothing of it is visible
outside and another target may be tried. Afterwards its stream belongs to the generation, which
calls `read` until the stream is over. Between upstream bytes and `read`'s caller there is no
queue and no task, but for one thing: of a read that is out of all proportion no more than
`SLICE_BYTES` are decoded, and no more than `MAX_BATCH_EVENTS` handed on, before others have had
their turn of the loop.

It ends in one of three ways: at the end of its stream, by an error, or by `abort`; each releases
the stream at once and fills `record`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import structlog

from relay import __version__
from relay.answer import TextSource
from relay.answer_head import check_head
from relay.attempt_cost import ANY_OUTPUT, AttemptCost, is_free_to_retry
from relay.codecs.base import Codec, EndsInSteps
from relay.codecs.rate_limit_headers import read_rate_windows
from relay.content import (
    Events,
    GenerateRequest,
    ProviderFailed,
    ReasoningDelta,
    Usage,
)
from relay.credentials.refusals import is_credential_refused
from relay.deadline import Clock, Scope, Timer
from relay.errors import (
    AttemptTimeout,
    CredentialUnavailable,
    FirstTokenTimeout,
    LocalProtocolError,
    OutsideZones,
    Reason,
    RelayError,
    RemoteProtocolError,
    Retry,
    StreamReset,
)
from relay.first_segment import FirstSegment
from relay.governance.ledger import LedgerEntry
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole
from relay.prelude import MAX_PRELUDE_BYTES, Prelude
from relay.prices import OutputTokens
from relay.reaper import Reaper
from relay.redaction import redact
from relay.routing.route import Timeouts
from relay.routing.target import Target
from relay.target_state import TargetState, Ticket, looks_dead
from relay.timeline import AttemptMarks
from relay.transport.base import (
    Headers,
    Transport,
    UpstreamRequest,
    UpstreamStream,
    UsedConnection,
)

_log = structlog.get_logger("relay.attempt")

_USER_AGENT = ("user-agent", f"rtrelay/{__version__}")

TAIL_GRACE_S = 1.0
"""How long the last frames of a finished response may take before the stream is reset: over
HTTP/2 they are one empty DATA frame, over HTTP/1.1 reading them keeps the connection usable."""

LEARN_FROM_1_IN = 50
"""Losers that are stopped at once for each that runs on to its first content."""

SLICE_BYTES = 16 * 1024
"""Of the wire, decoded in one turn of the loop: an HTTP/2 frame. A chunk is mostly one event of
some hundred bytes; this is a few milliseconds of CPU at worst, but for one event that is larger."""

MAX_BATCH_EVENTS = 1024
"""Handed on in one turn. One event of the wire may hold as many as fit into a megabyte."""

_CHUNK_BYTES = 64
"""What a chunk that completes no event counts with beside its bytes."""

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
        state: TargetState,
        role: AttemptRole = AttemptRole.PRIMARY,
        estimated_prompt_tokens: int = 0,
        cached_tokens: int = 0,
        output: OutputTokens = ANY_OUTPUT,
        is_forced: bool = False,
        used: UsedConnection | None = None,
        apart_from: UsedConnection | None = None,
        entry: LedgerEntry | None = None,
        more_headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """
        Args:
            received_s: when the generation was received; the record counts from there.
            state: of the target; asked for a ticket before anything is sent.
            estimated_prompt_tokens: from bytes, not corrected for this target yet.
            cached_tokens: how many of them the provider is believed to have in its cache.
            output: how long the answer may become, for what it costs if it is left.
            is_forced: nobody else may be asked: the breaker does not keep it away.
            used, apart_from: see `Transport.open`.
            entry: the account that pays for it; None where nothing is booked.
            more_headers: beside the codec's and the row's own.
        """
        self.target = target
        self.timeouts = timeouts
        self._request = request
        self._transport = transport
        self._reaper = reaper
        self._clock = clock
        self._received_s = received_s
        self._state = state
        self._is_forced = is_forced
        self._used = used
        self._apart_from = apart_from
        self._entry = entry
        self._more_headers = more_headers
        self._ticket: Ticket | None = None
        self._runs_on = False
        self._usage: Usage | None = None
        self.marks = AttemptMarks(clock())
        self.record = AttemptRecord(
            provider=target.endpoint.provider,
            model=target.model,
            started_us=round((self.marks.started_s - received_s) * 1e6),
            role=role,
        )
        self._cost = AttemptCost(
            target, state, self.record, estimated_prompt_tokens, cached_tokens, output
        )
        self._codec: Codec = target.endpoint.codec_for(request)
        self._credential_headers: Headers = []  # of this request
        self._stream: UpstreamStream | None = None
        self._chunks: AsyncIterator[bytes | memoryview] | None = None
        self._is_over = False
        self._has_waiting = False  # `read` has one of these three to see to first
        self._queued: Events = ()  # of a large batch, not handed on yet
        self._is_queue_end = False  # the wire's end comes after them
        self._pending_error: RelayError | None = None
        self._rest: bytes | memoryview = b""  # of a large chunk, not decoded yet
        self._idle_bytes = 0  # decoded in vain since the loop's last turn
        self._held = Prelude(target.name)
        self.prelude = self._held.events
        """What came up to and with the first content; the owner takes it first. Reasoning that is
        not wanted is one event in it, for the count of tokens; of usage it holds the last word."""

    @property
    def provider(self) -> str:
        """The row that it asks."""
        return self.target.endpoint.provider

    @property
    def model(self) -> str:
        """As the provider calls it."""
        return self.target.model

    @property
    def name(self) -> str:
        """`provider/model`."""
        return self.target.name

    @property
    def output_bytes(self) -> None:
        """What `read` gives is all there is."""
        return None

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
            if self._runs_on:
                self._end_of_a_loser()
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

    def _end_of_a_loser(self) -> None:
        """It has shown its first content, which is all that was wanted of it."""
        if not self._is_over:
            self._is_over = True
            outcome = AttemptOutcome.SUCCESS if self._is_probe else AttemptOutcome.IGNORED
            self._close_record(outcome, None)
        self._release()

    @property
    def _is_probe(self) -> bool:
        return self._ticket is not None and self._ticket.is_probe

    def _first_token_timeout(self) -> RelayError:
        if self.timeouts.total_s <= self.timeouts.first_token_s:
            return AttemptTimeout(f"{self.target.name} took longer than its total limit")
        return FirstTokenTimeout(
            f"{self.target.name} sent no content within {self.timeouts.first_token_s:g} s"
        )

    async def _until_first_content(self) -> None:
        endpoint = self.target.endpoint
        codec = self._codec
        state = self._state
        self._check_zone()
        if self._entry is not None:
            self.record.prompt_tokens = self._cost.prompt_tokens()
            waiting = self._entry.started(self.record, self.target)
            if waiting is not None:
                await waiting
        now_s = self._clock()
        if endpoint.credential.wait_s(now_s) > 0.0:
            # It says why it has none, and what cannot be sent takes no ticket.
            endpoint.signed("POST", endpoint.base_path, [], b"", time.time())
        self._ticket = state.admit(
            now_s,
            name=self.target.name,
            prompt_tokens=self._cost.prompt_tokens(),
            cached_tokens=self._cost.cached_tokens,
            forced=self._is_forced,
        )
        encoded = codec.encode_request(self.target.asked(self._request), self.target.model)
        path = endpoint.base_path + encoded.path
        signed = endpoint.signed(
            "POST",
            path,
            [*encoded.headers, _USER_AGENT, *self._more_headers],
            encoded.body,
            time.time(),
            self._request.policy.session_id,
        )
        self._credential_headers = signed.credential
        self._stream = stream = await self._transport.open(
            endpoint.origin,
            UpstreamRequest("POST", path, signed.all, encoded.body),
            connect_timeout_s=self.timeouts.connect_s,
            mark=self._mark,
            used=self._used,
            apart_from=self._apart_from,
        )
        self._mark("response_headers")
        self.record.http_version = stream.http_version
        self.record.http_status = stream.status
        if stream.status < 400:
            self._tell_credential(stream)
        check_head(stream.status, stream.headers)
        try:
            codec.decode_headers(stream.status, stream.headers)
            windows = read_rate_windows(stream.headers)
        except RelayError:
            raise
        except Exception as error:  # noqa: BLE001 - see `_unreadable`
            raise self._unreadable(error) from None
        if windows:
            state.headroom.observe(windows, self._clock())
        self._chunks = stream.chunks()
        want_reasoning = self._request.want_reasoning
        while not self._is_over:
            events = await self.read()
            for event in events:
                if event.is_content or (want_reasoning and type(event) is ReasoningDelta):
                    self._mark("first_content")
                    self._ticket.ready(self.marks.at_s["first_content"])
                    self._held.close()
                    self.prelude += events
                    if self._request.policy.commit_on == "first_segment":
                        await self._until_first_segment(events)
                    return
            self._usage = self._held.hold(events) or self._usage
            if self._pending_error is not None:
                raise self._pending_error
        self._held.close()
        self._mark("first_content")

    def _check_zone(self) -> None:
        """The last line: whoever planned it has left out targets in other zones already.

        Raises:
            OutsideZones: it has not, which is a bug.
        """
        zones, target = self._request.policy.zones, self.target
        if zones is not None and target.zone not in zones:
            self._state.outside_zones += 1
            _log.error(
                "target_outside_zones",
                provider=target.endpoint.provider,
                model=target.model,
                zone=target.zone or None,
                zones=sorted(zones),
            )
            raise OutsideZones(f"{target.name} is outside the request's data zones")

    def _tell_credential(self, stream: UpstreamStream) -> bool:
        """The head of an answer, if it is none that refuses something else; see `Credential`."""
        return self.target.endpoint.credential.answered(
            stream.status, stream.headers, self._credential_headers, time.time(), self._clock()
        )

    async def _until_first_segment(self, events: Events) -> None:
        """Go on until there is something to say whole: a sentence, a tool call, the end.

        A stall or a reset inside the first sentence is then never heard: another attempt can
        still give the answer. What is held is bounded by the longest segment, and by
        `MAX_PRELUDE_BYTES` of reasoning beside it, after which it is handed over as it is.
        """
        segment = FirstSegment()
        held_chars = 0
        while not segment.is_in(events):
            held_chars += sum(len(e.text) for e in events if type(e) is ReasoningDelta)
            if self._pending_error is not None:
                raise self._pending_error
            if self._is_over or held_chars > MAX_PRELUDE_BYTES:
                break
            events = await self.read()
            self.prelude += events
        self._mark("first_content")

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
        chunks, codec = self._chunks, self._codec
        if chunks is None:
            raise LocalProtocolError("read before the response head")
        try:
            if self._has_waiting:
                events = await self._read_waiting()
                if events or self._is_over:
                    return events
            while True:
                chunk = await chunks.__anext__()
                if len(chunk) <= SLICE_BYTES:
                    events = codec.feed(chunk)
                else:
                    events = await self._feed_slices(memoryview(chunk))
                if events:
                    break
                if codec.is_finished:
                    return self._settle(codec.end(), is_end=True)
                self._idle_bytes += len(chunk) + _CHUNK_BYTES
                if self._idle_bytes > SLICE_BYTES:
                    self._idle_bytes = 0
                    await self._turn()
            if type(events[-1]) is ProviderFailed or len(events) > MAX_BATCH_EVENTS:
                return self._settle(events, is_end=False)
            if codec.is_finished:
                return self._settle([*events, *codec.end()], is_end=True)
        except StopAsyncIteration:
            return self._settle(await self._last_in_steps(), is_end=True)
        except RelayError as error:
            self._fail(error)
            raise
        except Exception as error:  # noqa: BLE001 - see `_unreadable`
            raise self._unreadable(error) from None
        if type(events[-1]) is Usage:
            self._usage = events[-1]
        return events

    def text_source(self) -> TextSource | None:
        """For who wants plain text as cheaply as can be: reads without `read`, until something
        else comes, which `read` then returns. None where engine, codec or what waits to be read
        do not allow it."""
        if self._is_over or self._has_waiting:
            return None
        stream = self._stream
        read_next = getattr(stream, "read_next", None)
        text_of = getattr(self._codec, "text_of", None)
        if read_next is None or text_of is None:
            return None
        return TextSource(read_next, text_of, stream.put_back)  # type: ignore[union-attr]

    async def _read_waiting(self) -> Events:
        """What has come already: the next events, or none if the rest completes no event."""
        if self._pending_error is not None:
            raise self._pending_error
        await self._turn()
        if self._queued:
            queued, self._queued = self._queued, ()
            self._has_waiting = bool(self._rest)
            return self._settle(queued, is_end=self._is_queue_end)
        events = await self._feed_slices(self._rest)
        if events or self._codec.is_finished:
            return self._settle(events, is_end=False)
        return ()

    async def _feed_slices(self, rest: bytes | memoryview) -> Events:
        """Decode a large chunk piece by piece until there are events; what is left has to wait."""
        codec = self._codec
        while True:
            events = codec.feed(rest[:SLICE_BYTES])
            self._rest = rest = rest[SLICE_BYTES:]
            self._has_waiting = bool(rest)
            if events or not rest or codec.is_finished:
                return events
            await self._turn()

    async def _turn(self) -> None:
        """Let everything else run that is ready.

        Raises:
            StreamReset: the attempt was left meanwhile.
        """
        await asyncio.sleep(0)
        if self._is_over:
            raise StreamReset("the attempt was left before its end", headers_received=True)

    async def _last_in_steps(self) -> Events:
        """What the codec has left at the end of the body; others have their turns in between
        where that takes long."""
        codec = self._codec
        if isinstance(codec, EndsInSteps):
            try:
                for _ in codec.steps():
                    await self._turn()
            except RelayError as error:
                self._fail(error)
                raise
            except Exception as error:  # noqa: BLE001 - see `_unreadable`
                raise self._unreadable(error) from None
        return self._last_events()

    def _last_events(self) -> Events:
        """What the codec has left at the end of the body, at once."""
        try:
            return self._codec.end()
        except RelayError as error:
            self._fail(error)
            raise
        except Exception as error:  # noqa: BLE001 - see `_unreadable`
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> RemoteProtocolError:
        """A codec has raised for what a provider sent, which it promises not to: a bug of ours.

        Only this provider's bytes bring it out, so that another one may well answer: the attempt
        fails as if they broke the format.
        """
        target = self.target
        _log.error(
            "answer_unreadable",
            provider=target.endpoint.provider,
            model=target.model,
            wire=self._codec.wire,
            error=type(error).__name__,
            exc_info=error,
        )
        failure = RemoteProtocolError(f"the answer of {target.name} could not be read")
        self._fail(failure)
        return failure

    def _settle(self, events: Events, *, is_end: bool) -> Events:
        """Hand on a batch that is large, that ends in a failure, or that ends the wire."""
        if len(events) > MAX_BATCH_EVENTS:
            self._queued, self._is_queue_end = events[MAX_BATCH_EVENTS:], is_end
            self._has_waiting = True
            return events[:MAX_BATCH_EVENTS]
        if events and type(events[-1]) is ProviderFailed:
            self._pending_error = error = events[-1].error
            self._has_waiting = True
            if len(events) > 1:
                return events[:-1]
            self._fail(error)
            raise error
        if is_end:
            for event in events:
                if type(event) is Usage:
                    self._usage = event
            self._finish()
        elif self._codec.is_finished:
            return self._settle([*events, *self._last_events()], is_end=True)
        return events

    def _finish(self) -> None:
        """The wire is at its end: note the outcome, let go of the stream."""
        self._is_over = True
        self._rest = b""
        self._close_record(AttemptOutcome.SUCCESS, None)
        if self._stream is not None and self._chunks is not None:
            self._reaper.take(_drain(self._stream, self._chunks))
            self._stream = None

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

    def lose(self) -> bool:
        """Another attempt won: book that, and stop. Idempotent, never waits.

        Returns whether it runs on to its first content: a probe, whose loss would say nothing of
        whether its target is well again; where the provider bills the whole answer anyhow; and one
        loser in `LEARN_FROM_1_IN`, since an age at a cancel is only a lower bound of the latency.
        """
        record = self.record
        if self._is_over or record.is_loser:
            record.is_loser = True
            return False
        record.is_loser = True
        ticket = self._ticket
        at_s = self.marks.at_s
        if (
            ticket is not None
            and ("request_sent" in at_s or ticket.is_probe)  # one that cannot connect has failed
            and "first_content" not in at_s
            and (
                ticket.is_probe
                or self.target.endpoint.cancel_billing == "full"
                or self._state.is_loser_to_learn_from(LEARN_FROM_1_IN)
            )
        ):
            self._runs_on = True
            self._estimate_cost(AttemptOutcome.IGNORED, None, self._clock())
            record.ended_us = round((self._clock() - self._received_s) * 1e6)
            return True
        self.abort()
        return False

    def overdue(self) -> None:
        """A further attempt is due beside it."""
        if self._ticket is not None:
            self._ticket.overdue(self._clock())

    def fail(self, error: RelayError) -> None:
        """Stop now because of an error that its owner found (a stall, a limit)."""
        self._fail(error)

    def _fail(self, error: RelayError) -> None:
        redact(error, [*self.target.endpoint.secrets(), *self._credential_headers])
        if not self._is_over:
            self._is_over = True
            stream = self._stream
            if (
                stream is not None
                and is_credential_refused(error, stream.status, stream.headers)
                and self._tell_credential(stream)
                and self.record.role is not AttemptRole.RETRY
            ):
                error.retry = Retry.IF_REUSED
            is_overload = error.reason in _OVERLOADED
            is_failure = not is_overload or looks_dead(error)
            if is_failure and self._runs_on and not self._is_probe:
                # The good ends of losers do not count for the breaker, so the bad ones do not.
                self._close_record(AttemptOutcome.IGNORED, None)
            elif is_overload:
                self._close_record(AttemptOutcome.OVERLOAD, error)
            else:
                self._close_record(AttemptOutcome.FAILURE, error)
        self._release()

    def spent(self, usage: Usage) -> None:
        """What the attempt cost, as far as it is known; once, when it is over."""
        self._cost.spent(usage, self._clock())

    def _release(self) -> None:
        self._rest, self._queued = b"", ()  # whoever waits for his turn with them finds it over
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
            self._reaper.take(stream.aclose())

    def _close_record(self, outcome: AttemptOutcome, error: RelayError | None) -> None:
        record = self.record
        record.outcome = outcome
        record.error = error
        record.mended_events = self._codec.mended_events
        now_s = self._clock()
        self._estimate_cost(outcome, error, now_s)
        record.ended_us = round((now_s - self._received_s) * 1e6)
        if self._ticket is not None:
            usage = self._cost.believed(self._usage)
            if isinstance(error, CredentialUnavailable) or (
                is_free_to_retry(error) and record.role is not AttemptRole.RETRY
            ):
                # Nothing was asked; or over a stale connection of ours, which the provider never
                # saw, or with a credential that is another one now: the retry will tell.
                self._ticket.withdraw(now_s)
            else:
                self._ticket.end(
                    outcome,
                    now_s,
                    error=error,
                    prompt_tokens=usage.prompt_tokens if usage else None,
                    cached_tokens=usage.cached_tokens if usage else None,
                )
            counted = usage.cached_tokens if usage else None
            record.cached_tokens = self._cost.cached_tokens if counted is None else counted
        begin_s = self.marks.started_s
        for phase, at_s in self.marks.at_s.items():
            record.phases_us[phase] = round((at_s - begin_s) * 1e6)
            begin_s = at_s

    def _estimate_cost(
        self, outcome: AttemptOutcome, error: RelayError | None, now_s: float
    ) -> None:
        self._cost.estimate(outcome, error, at_s=self.marks.at_s, now_s=now_s, prelude=self.prelude)


async def _drain(stream: UpstreamStream, chunks: AsyncIterator[bytes | memoryview]) -> None:
    """Read what is left of a finished response, for a bounded time, and close it.

    What comes after the wire's end marker is ignored by definition, errors included.
    """
    late = asyncio.get_running_loop().call_later(TAIL_GRACE_S, stream.abort)  # ends the reading
    try:
        async for _ in chunks:
            pass
    except RelayError:
        stream.abort()
    finally:
        late.cancel()
        await stream.aclose()
