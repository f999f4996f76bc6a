"""`rtrelay.v1.RelayService` over grpc.aio: bytes in, bytes out.

Request bytes are parsed here and not by grpc, so that undecodable ones are answered and do not
kill the session by accident. Frames are serialised by `proto_out`, so grpc copies bytes only.

In both RPCs the handler's own task reads (the client, or in `Generate` the generation) and one more
task writes; it is not cancelled while the RPC lives, because grpc.aio ends an RPC when a waiting
write is cancelled. So what a provider sends while a write is pending becomes one frame. A writer
that dies of a bug ends its RPC with INTERNAL; one whose client is gone is left to grpc, which
cancels the handler.

An RPC ends with what is left to write, for a client that reads. To one that takes nothing for
`slow_consumer_s` no more is written; but while grpc holds a message for it no status can be sent
and no stream reset, so the RPC stays, with that one message, until the client reads or goes.

Size: `max_request_bytes` is checked here, so that a message over it is refused with the field and
the limit, and costs a session nothing else. grpc itself takes up to `hard_limit_bytes` and refuses
what is over with RESOURCE_EXHAUSTED and a text of its own: it ends the RPC before any handler or
interceptor sees the message, and has sent its status by then, so no detail can be added.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeVar

import grpc
import structlog
from rtrelay.v1 import relay_pb2 as relay_pb

from relay import __version__
from relay.config import GrpcListener
from relay.deadline import Scope
from relay.dispatch import Services
from relay.errors import (
    CancelReason,
    Draining,
    InternalError,
    InvalidRequest,
    LimitReached,
    NotImplementedYet,
    Reason,
    RelayError,
    RequestTooLarge,
    SessionIdle,
    SlowConsumer,
    Unauthenticated,
)
from relay.frontends.caller import Caller, caller_of_rpc
from relay.frontends.grpc_noise import NoiseWatch
from relay.frontends.grpc_status import to_status, to_trailers
from relay.frontends.proto_in import (
    check_generation_id,
    check_labels,
    parse,
    to_generate_request,
    to_prewarm_request,
)
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.rate_headers import grpc_metadata
from relay.frontends.surfaces.feedback import feedback_message
from relay.generation import Generation
from relay.governance.gate import TooManyBadKeys
from relay.outbox import Outbox
from relay.outcome import refused
from relay.resilience.overload import RequestClass
from relay.session import Session, check_acceptable, log_refusal

_log = structlog.get_logger("relay.grpc")

SERVICE = "rtrelay.v1.RelayService"
CAPABILITIES = (
    "openai_chat_body",
    "segments",
    "hedge",
    "commit_on_first_segment",
    "speculation",
    "hold_until_commit",
    "prewarm_prompt",
)

HARD_LIMIT_FACTOR = 4
"""Of `max_request_bytes`: what grpc may hold of one message, so that it can be refused in words."""

LONG_REQUEST_BYTES = 64 * 1024
"""Between reading a request that is longer and encoding it for a provider, others have a turn."""

REQUEST_S = 60.0
"""For the message of a `Generate`, as for a body of HTTP."""

_OF_A_STRANGER: Final = (Unauthenticated, TooManyBadKeys, InvalidRequest, RequestTooLarge)
"""Refusals that are the client's own doing, whatever the relay has to do."""
MAX_SILENT: Final = 1000
"""Calls of one key whose message has not come: no limit of the key holds them yet, and the RPCs of
a worker, which all share, have an end."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Asked = TypeVar("Asked")
"""What a handler is given beside its context: a message, or an iterator of them."""
Told = TypeVar("Told")
"""What it returns: a message, or nothing where it writes them itself."""


def hard_limit_bytes(settings: GrpcListener) -> int:
    """`grpc.max_receive_message_length` of a server with this service; see the module."""
    return min(settings.max_request_bytes * HARD_LIMIT_FACTOR, 2**31 - 1)


class RelayService:
    """The servicer; one per worker."""

    def __init__(
        self, services: Services, settings: GrpcListener, noise: NoiseWatch | None = None
    ) -> None:
        """
        Args:
            noise: is told of RPCs and messages; its owner starts and closes it.
        """
        self._services = services
        self._settings = settings
        self._noise = noise or NoiseWatch()
        self._sessions: dict[_Conversation, asyncio.Task[object] | None] = {}
        self._silent: Counter[str] = Counter()
        """Calls whose message is waited for, by key."""

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers; (de)serialisation stays with us. No method is in it but
        behind `_let_in`."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Converse": grpc.stream_stream_rpc_method_handler(
                    self._let_in(self.converse, "converse")
                ),
                # Of a unary one grpc waits for the message itself, for ever, and where none comes
                # never ends the call. To clients both are one.
                "Generate": grpc.stream_stream_rpc_method_handler(
                    self._let_in(self._read_and_generate, "generate")
                ),
                "Feedback": grpc.unary_unary_rpc_method_handler(
                    self._let_in(self.feedback, "feedback", is_light=True)
                ),
            },
        )

    def _let_in(
        self,
        serve: Callable[[Asked, Context, Caller], Awaitable[Told]],
        surface: str,
        *,
        is_light: bool = False,
    ) -> Callable[[Asked, Context], Awaitable[Told]]:
        """The handler of an RPC whose caller is known before anything is read of it. A worker that
        has too much to do refuses it before that, unless it `is_light`: costs no more than to
        refuse it."""

        noise = self._noise

        async def handler(asked: Asked, context: Context) -> Told:
            overload = self._services.overload
            noise.arrived(context)
            try:
                try:
                    if not is_light:
                        overload.check(RequestClass.NEW)
                    caller = caller_of_rpc(self._services.gate, context)
                    if caller.is_batch and not is_light:
                        overload.check(RequestClass.BATCH)
                except RelayError as error:
                    await self._turn_away(context, error, surface)
                if isinstance(asked, bytes):
                    noise.began(context, len(asked))
                return await serve(asked, context, caller)
            finally:
                noise.left(context)

        return handler

    async def converse(
        self, requests: AsyncIterator[bytes], context: Context, caller: Caller
    ) -> None:
        """One session; see the contract for its rules."""
        services, overload = self._services, self._services.overload
        try:
            if services.is_draining:
                raise Draining("this relay is shutting down; connect again")
            overload.check_session(RequestClass.BATCH if caller.is_batch else RequestClass.NEW)
        except RelayError as error:
            await self._turn_away(context, error, "converse")
        overload.open_session()
        try:
            await self._converse(context, caller)
        finally:
            overload.close_session()

    async def _converse(self, context: Context, caller: Caller) -> None:
        try:
            leave = await self._services.ledger.enter(caller.tenant, caller.key_id)
        except RelayError as error:
            await self._turn_away(context, error, "converse")
        try:
            conversation = _Conversation(
                self._services, self._settings, context, caller, self._noise
            )
            self._sessions[conversation] = asyncio.current_task()
            try:
                await conversation.run()
            finally:
                del self._sessions[conversation]
        finally:
            leave()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    def notify_drain(self, time_left_s: float) -> None:
        """Tell every session that this worker stops."""
        for conversation in self._sessions:
            conversation.notify_drain(time_left_s)

    async def end_sessions(self, cause: RelayError, grace_s: float) -> None:
        """End every session with this status once its last frames are out.

        Returns when all have ended, or after `grace_s`: a client that does not read is left to
        the server's own stop.
        """
        for conversation in self._sessions:
            conversation.end(cause)
        tasks = [task for task in self._sessions.values() if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    async def _read_and_generate(
        self, _: AsyncIterator[bytes], context: Context, caller: Caller
    ) -> None:
        try:
            request = await self._request(context, caller.key_id)
        except RelayError as error:
            await self._turn_away(context, error, "generate")
        await self.generate(request, context, caller)

    async def generate(self, request: bytes, context: Context, caller: Caller) -> None:
        """One generation without a session."""
        self._services.overload.enter()
        try:
            await self._generate(request, context, caller)
        finally:
            self._services.overload.leave()

    async def _generate(self, request: bytes, context: Context, caller: Caller) -> None:
        services = self._services
        received_s = services.clock()
        request_id = _new_id("gen")
        try:
            max_bytes = self._settings.max_request_bytes
            start = parse(relay_pb.GenerateRequest, request, max_bytes).start
            generation_id = start.generation_id or request_id
            check_generation_id(generation_id)
        except RelayError as error:
            await self._turn_away(context, error, "generate")
        frames = FrameEncoder(generation_id, request_id, start.turn_id, start.output)
        try:
            _refuse_session_features(start)
            wanted = to_generate_request(start, None, caller)
            check_acceptable(services, wanted, request_id, "generate")
        except RelayError as error:
            log_refusal(error, request_id)
            await context.write(frames.end(refused(error), None))
            await self._turn_away(context, error, "generate")
        if len(request) > LONG_REQUEST_BYTES:  # in a session the generation has a task of its own
            await asyncio.sleep(0)
        generation = Generation(
            services,
            wanted,
            generation_id=request_id,
            client_id=generation_id,
            frontend="generate",
            received_s=received_s,
            total_s=context.time_remaining(),
        )
        outbox = Outbox(context.write, services.clock, services.slow_consumer_s)
        lane = outbox.lane(frames, services.lane_bytes, generation.released, generation.give_up)
        # A task that starts when the race first waits: the provider is asked, then this is written.
        writer = asyncio.get_running_loop().create_task(outbox.run(), name="generate writer")

        def on_writer_ended(writer: asyncio.Task[None]) -> None:
            bug = _bug_of(writer, request_id)
            if bug is not None:
                generation.cancel(bug)

        writer.add_done_callback(on_writer_ended)
        outbox.control(frames.started())
        try:
            async with generation:
                if await generation.commit():
                    generation.pour_text_into(lane.pour)
                    async for events in generation:
                        if lane.push(events):
                            await lane.drained()
            end = generation.end
            if end is None:
                raise RuntimeError("a generation that was left has its end")
            lane.finish(lambda: [*frames.rest(end), frames.end(end, generation)])
            slow = await _let_out(outbox, writer)
        finally:
            if not writer.done():
                writer.cancel()  # the RPC is over or ends with this
            await _ended(writer, request_id)
        failure = _bug_of(writer, request_id) or end.error or slow
        state = generation.rate_state
        standing = [] if state is None else grpc_metadata(state)
        if failure is not None:
            await abort(context, failure, standing)
        if standing:
            context.set_trailing_metadata(tuple(standing))

    async def _request(self, context: Context, key_id: str) -> bytes:
        """The one message of a call.

        Raises:
            InvalidRequest: there is none, or it does not come to an end within `REQUEST_S`.
            LimitReached: of very many others of the key it has not come either.
        """
        silent = self._silent
        if key_id and silent[key_id] >= MAX_SILENT:  # without keys nobody is told from others
            raise LimitReached(
                f"{MAX_SILENT} calls of this key have not sent their request", retry_after_s=1.0
            )
        silent[key_id] += 1
        try:
            return await self._message(context)
        finally:
            silent[key_id] -= 1
            if not silent[key_id]:
                del silent[key_id]

    async def _message(self, context: Context) -> bytes:
        """Raises as `_request`."""
        reading = asyncio.ensure_future(context.read())
        reading.add_done_callback(_look_away)
        try:
            await asyncio.wait([reading], timeout=REQUEST_S)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not reading.done():  # nor cancelled: grpc ends a call whose waiting read is, in silence
            raise InvalidRequest(f"the request took longer than {REQUEST_S:g} s")
        data = reading.result()
        if not isinstance(data, bytes):  # grpc.aio.EOF
            raise InvalidRequest("the call has no request, or not the whole of one")
        self._noise.began(context, len(data))
        return data

    async def feedback(self, request: bytes, context: Context, caller: Caller) -> bytes:
        """A word on an answer."""
        try:
            return await feedback_message(self._services, request, caller)
        except RelayError as error:
            await self._turn_away(context, error, "feedback")

    async def _turn_away(self, context: Context, error: RelayError, surface: str) -> NoReturn:
        self._services.turned_away(error, surface)
        try:
            await abort(context, error)
        except grpc.aio.AbortError:  # and not cancelled: who resets has not been refused
            if not isinstance(error, _OF_A_STRANGER):
                self._noise.refused(context)
            raise


class StrangeMethods(grpc.GenericRpcHandler):
    """Comes after all others of a server, and serves nothing: it hears of RPCs that none knows."""

    def __init__(self, noise: NoiseWatch) -> None:
        self._noise = noise

    def service(self, _: grpc.HandlerCallDetails) -> None:
        self._noise.strange()


def _refuse_session_features(start: relay_pb.Start) -> None:
    """
    Raises:
        NotImplementedYet: the start asks for what only a session can have.
    """
    for field in ("speculative", "hold_until_commit", "supersedes"):
        if getattr(start, field):
            raise NotImplementedYet(f"start.{field} is not served by Generate")


class _Conversation:
    """One Converse RPC: frames of the client to the session, the outbox to the client."""

    def __init__(
        self,
        services: Services,
        settings: GrpcListener,
        context: Context,
        caller: Caller,
        noise: NoiseWatch,
    ) -> None:
        self._noise = noise
        self._services = services
        self._settings = settings
        self._context = context
        self._id = _new_id("ses")
        self._setup: relay_pb.Setup | None = None
        self._caller = caller
        self._outbox = Outbox(context.write, services.clock, services.slow_consumer_s)
        kind = RequestClass.BATCH if caller.is_batch else RequestClass.LIVE
        self._session = Session(services, self._outbox, settings.max_live_generations, kind)
        self._scope = Scope()
        self._is_reading = True
        self._is_closed_by_client = False
        self._heard_s = services.clock()
        self._idle: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve to the end; see `_serve`.

        Raises:
            grpc.aio.AbortError: the session ended with an error, which was told.
        """
        outbox, session, scope = self._outbox, self._session, self._scope
        scope.enter()
        writer = asyncio.get_running_loop().create_task(outbox.run(), name="converse writer")

        def on_writer_ended(writer: asyncio.Task[None]) -> None:
            bug = _bug_of(writer, self._id)
            if bug is not None:
                scope.cancel(bug)  # whatever this task waits for, nothing can be told any more

        writer.add_done_callback(on_writer_ended)
        self._look_whether_idle()
        try:
            await self._serve(writer)
        except asyncio.CancelledError:
            cause = scope.caught()
            if cause is None:
                raise
            await self._end_with(cause, writer)
        finally:
            scope.leave()
            if self._idle is not None:
                self._idle.cancel()
            # Reached in passing, or because the RPC is gone: then nothing can be told any more,
            # a pending write fails by itself and the upstreams are reset here.
            session.end_prewarm()
            session.cancel_all(CancelReason.SESSION_END)
            outbox.close()
            if not writer.done():
                writer.cancel()
            await session.finished()
            await _ended(writer, self._id)

    async def _serve(self, writer: asyncio.Task[None]) -> None:
        """Read until the client is done, then let out what is pending."""
        try:
            await self._read_frames()
        except RelayError as fatal:
            await self._end_with(fatal, writer)
        finally:
            self._is_reading = False
        self._session.end_prewarm()
        if self._is_closed_by_client:
            self._session.cancel_all(CancelReason.SESSION_END)
        await self._session.finished()
        slow = await _let_out(self._outbox, writer)
        if slow is not None:
            await abort(self._context, slow)
        await writer

    async def _end_with(self, cause: RelayError, writer: asyncio.Task[None]) -> NoReturn:
        """Let out what is pending, then tell why the session ends.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._is_reading = False
        await self._session.aclose()
        await _let_out(self._outbox, writer)
        await abort(self._context, cause)

    def _look_whether_idle(self) -> None:
        """A timer for many frames: it looks at when the last one came."""
        limit_s = self._settings.session_idle_ms / 1000
        if limit_s <= 0 or not self._is_reading:
            return
        now_s = self._services.clock()
        if len(self._session):
            self._heard_s = now_s
        left_s = self._heard_s + limit_s - now_s
        if left_s <= 0:
            self.end(SessionIdle(f"the session had nothing to do for {limit_s:g} s"))
            return
        # While generations run it counts from their end, so it looks more often than once.
        self._idle = asyncio.get_running_loop().call_later(
            min(left_s, max(0.05, limit_s / 4)), self._look_whether_idle
        )

    def end(self, cause: RelayError) -> None:
        """End the session with this status. One that ends by itself already is left alone."""
        if self._is_reading:
            self._scope.cancel(cause)

    async def _read_frames(self) -> None:
        """
        Raises:
            RelayError: the session cannot go on.
        """
        read: Callable[[], Awaitable[object]] = self._context.read
        outbox, max_bytes = self._outbox, self._settings.max_request_bytes
        while True:
            if outbox.is_full:  # it asks and does not read: neither do we
                await outbox.room()
            data = frame = None  # between two turns nobody needs the last prompt
            data = await read()
            if not isinstance(data, bytes):  # grpc.aio.EOF: the client half-closed
                if self._setup is None:
                    raise InvalidRequest(
                        "the first frame must be setup", reason=Reason.SETUP_REQUIRED
                    )
                return
            self._heard_s = received_s = self._services.clock()
            if self._setup is None:
                self._noise.began(self._context, len(data))
            elif self._noise.is_counting:
                self._noise.heard(self._context.peer(), len(data))
            try:
                frame = parse(relay_pb.ConverseRequest, data, max_bytes)
            except (InvalidRequest, RequestTooLarge) as error:
                if self._setup is None:
                    raise
                self._reject(error, "")
                continue
            kind = frame.WhichOneof("frame")
            if self._setup is None:
                if kind != "setup":
                    raise InvalidRequest(
                        f"the first frame must be setup, not {kind or 'an empty one'}",
                        field="frame",
                        reason=Reason.SETUP_REQUIRED,
                    )
                self._on_setup(frame.setup)
            elif kind == "start":
                self._on_start(frame.start, received_s)
            elif kind == "cancel":
                self._on_cancel(frame.cancel, received_s)
            elif kind == "ping":
                pong = relay_pb.Pong(nonce=frame.ping.nonce)
                self._outbox.control(relay_pb.ConverseResponse(pong=pong).SerializeToString())
            elif kind == "close":
                self._is_closed_by_client = True
                return
            elif kind == "commit":
                self._on_commit(frame.commit)
            elif kind == "setup":
                self._reject(InvalidRequest("setup comes once, as the first frame", field="setup"))
            else:
                self._reject(InvalidRequest("the frame is empty or not known", field="frame"))

    def _on_setup(self, setup: relay_pb.Setup) -> None:
        check_labels(setup.labels, "setup.labels")
        self._setup = setup
        ready = relay_pb.Ready(
            session_id=self._id,
            relay_version=__version__,
            capabilities=CAPABILITIES,
            limits=relay_pb.Limits(
                max_concurrent_generations=self._settings.max_live_generations,
                max_frame_bytes=self._settings.max_request_bytes,
                idle_timeout_ms=self._settings.session_idle_ms,
                slow_consumer_ms=round(self._services.slow_consumer_s * 1000),
            ),
        )
        self._outbox.control(relay_pb.ConverseResponse(ready=ready).SerializeToString())
        prefix = to_prewarm_request(setup, self._caller, self._id)
        if prefix is not None:
            self._session.prewarm(prefix, _new_id("pre"))

    def _on_start(self, start: relay_pb.Start, received_s: float) -> None:
        generation_id = start.generation_id
        request_id = _new_id("gen")
        try:
            check_generation_id(generation_id)
            self._session.start(
                generation_id,
                request_id,
                FrameEncoder(generation_id, request_id, start.turn_id, start.output),
                lambda: to_generate_request(start, self._setup, self._caller, self._id),
                received_s,
                start.supersedes,
            )
        except RelayError as error:
            self._services.turned_away(error, "converse")
            self._reject(error, generation_id)

    def _on_commit(self, commit: relay_pb.Commit) -> None:
        try:
            check_generation_id(commit.generation_id, "commit.generation_id")
        except RelayError as error:
            self._reject(error)
        else:
            self._session.commit(commit.generation_id)

    def _on_cancel(self, cancel: relay_pb.Cancel, received_s: float) -> None:
        why = CancelReason.UNSPECIFIED
        if cancel.reason in CancelReason._value2member_map_:
            why = CancelReason(cancel.reason)
        target = cancel.WhichOneof("target")
        if target == "generation_id":
            self._session.cancel(cancel.generation_id, why, received_s)
        elif target == "all" and cancel.all:
            self._session.cancel_all(why, received_s)
        else:
            self._reject(
                InvalidRequest("cancel.generation_id or cancel.all is required", field="cancel")
            )

    def _reject(self, error: RelayError, generation_id: str = "") -> None:
        """A frame changed nothing; say why."""
        notice = relay_pb.Notice(
            kind=relay_pb.NOTICE_KIND_FRAME_REJECTED,
            error=to_status(error),
            generation_id=generation_id[:128],
            message=error.public_message,
        )
        self._outbox.control(relay_pb.ConverseResponse(notice=notice).SerializeToString())

    def notify_drain(self, time_left_s: float) -> None:
        """This worker stops; generations that run may finish."""
        notice = relay_pb.Notice(
            kind=relay_pb.NOTICE_KIND_DRAIN,
            time_left_ms=round(time_left_s * 1000),
            message="this relay is shutting down; open a new session",
        )
        self._outbox.control(relay_pb.ConverseResponse(notice=notice).SerializeToString())


def _look_away(reading: asyncio.Future[bytes]) -> None:
    """Of a read that ended with its call, or was left to: why is of no interest."""
    if not reading.cancelled():
        reading.exception()


async def _let_out(outbox: Outbox, writer: asyncio.Task[None]) -> SlowConsumer | None:
    """Close the outbox and wait until all is written.

    A client that takes nothing for too long loses what waits. The error says so, once grpc can send
    one; see the module.
    """
    outbox.close()
    slow: SlowConsumer | None = None
    while not writer.done():
        patience_s = outbox.patience_s()
        if patience_s == 0:
            slow = SlowConsumer("the client did not read the last frames")
            outbox.give_up()
            patience_s = None
        await asyncio.wait([writer], timeout=patience_s)
    return slow


async def _ended(writer: asyncio.Task[None], id_: str) -> None:
    """Wait for a writer, and log why it ended if nobody ended it."""
    await asyncio.wait([writer])
    if writer.cancelled() or (error := writer.exception()) is None:
        return
    if _bug_of(writer, id_) is not None:
        _log.error("writer_bug", id=id_, exc_info=error)
    else:
        _log.debug("writer_ended", id=id_, error=type(error).__name__)


def _bug_of(writer: asyncio.Task[None], id_: str) -> InternalError | None:
    """The bug that a writer which is done died of; None if it was let go, or its client is gone.

    Args:
        id_: of the session or the generation, to be found in the log.
    """
    if writer.cancelled():
        return None
    error = writer.exception()
    if error is None or isinstance(error, grpc.aio.BaseError):  # grpc's word for a client gone
        return None
    return InternalError(f"the relay failed; {id_} is in its log")


async def abort(
    context: Context, error: RelayError, metadata: Sequence[tuple[str, str]] = ()
) -> NoReturn:
    """End the RPC with the error's status; see `grpc_status` for what its trailers hold, beside
    `metadata`.

    Raises:
        grpc.aio.AbortError: always.
    """
    details, status = to_trailers(error)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status), *metadata]
    if error.retry_after_s is not None:  # also as gRPC's own retries and hedges read it (A6)
        trailers.append(("grpc-retry-pushback-ms", str(math.ceil(1000 * error.retry_after_s))))
    await context.abort(
        _GRPC_CODE[int(error.status_code)], details, trailing_metadata=tuple(trailers)
    )


_GRPC_CODE = {code.value[0]: code for code in grpc.StatusCode}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
