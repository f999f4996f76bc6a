"""`relay chat`: talk to a running relay over gRPC, as an agent would.

One `Converse` session, one generation a turn, the conversation kept here. Ctrl-C while an answer
comes is a barge-in: it cancels the generation and keeps the session; at the prompt it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import grpc
from rich.console import Console
from rich.markup import escape
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    ConverseRequest,
    ConverseResponse,
    End,
    Message,
    Outcome,
    OutputOptions,
    Part,
    Prompt,
    RelayServiceStub,
    Role,
    Setup,
    Start,
)

from relay import __version__
from relay.commands.client_tls import ClientTls, ClientTlsError
from relay.commands.leaving import leave_in_time
from relay.commands.timeline_view import print_end

CONNECT_TIMEOUT_S = 5.0
CLOSE_S = 2.0
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_http_proxy", 0),
]


NO_TLS = ClientTls()

KEY_VARIABLE = "RTRELAY_KEY"
"""Of the environment: what stands in an argument is seen by everybody on the machine."""

WAKE_S = 0.2
"""How soon Ctrl-C at the prompt is noticed, at the latest."""


class ChatError(Exception):
    """The relay cannot be talked to; the message says why."""


@dataclass(slots=True)
class Turn:
    """What came of one turn."""

    text: str = ""
    end: End | None = None
    notices: list[str] = field(default_factory=list)


class Conversation:
    """A session on a relay: `async with Conversation(address, model)`, then `say`.

    Args:
        credentials: of TLS; None for plain text.
        key: the virtual key that goes along, if any.
    """

    def __init__(
        self,
        address: str,
        model: str,
        credentials: grpc.ChannelCredentials | None = None,
        key: str | None = None,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._model = model
        self._messages: list[Message] = []
        self._turns = 0

    async def __aenter__(self) -> Conversation:
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(
                self._address, self._credentials, options=CHANNEL_OPTIONS
            )
        try:
            await asyncio.wait_for(self._channel.channel_ready(), CONNECT_TIMEOUT_S)
        except TimeoutError:
            why = await self._why_not()
            await self._close()
            raise ChatError(f"no relay answers at {self._address}{why}") from None
        self._call = RelayServiceStub(self._channel).Converse(metadata=self._metadata)
        setup = Setup(client_name="relay chat", client_version=__version__, model=self._model)
        try:
            await self._write(ConverseRequest(setup=setup))
            await self._read()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    async def _close(self) -> None:
        """Bounded in time: whoever leaves must not wait for a channel that does not end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._channel.close(), CLOSE_S)

    async def _why_not(self) -> str:
        """What stands in the way of a channel that does not get ready."""
        if self._credentials is None:
            return "; is `make run` up? A relay with TLS takes --tls or --ca-file"
        call = RelayServiceStub(self._channel).Converse(timeout=CONNECT_TIMEOUT_S)
        return f" over TLS: {await call.details()}"

    async def _read(self) -> ConverseResponse:
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError:
            raise await self._over() from None
        if not isinstance(frame, ConverseResponse):
            raise await self._over()
        return frame

    async def _write(self, frame: ConverseRequest) -> None:
        try:
            await self._call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the latter: it was over before
            raise await self._over() from None

    async def _over(self) -> ChatError:
        """Why the session is over, which it is."""
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK:
            return ChatError("the relay ended the session")
        if code is grpc.StatusCode.UNAVAILABLE:
            return ChatError(f"the relay at {self._address} is gone ({details})")
        if code is grpc.StatusCode.UNAUTHENTICATED and details:
            return ChatError(f"{details} ({KEY_VARIABLE} is where `relay chat` takes the key from)")
        return ChatError(details or code.name)

    @property
    def running(self) -> str:
        """Id of the latest turn's generation."""
        return f"t{self._turns}"

    async def barge_in(self) -> None:
        """Cancel the running generation; its end is still to come. Where the session is over,
        `say` tells."""
        cancel = Cancel(generation_id=self.running, reason=CancelReason.CANCEL_REASON_BARGE_IN)
        with contextlib.suppress(ChatError):
            await self._write(ConverseRequest(cancel=cancel))

    async def say(self, text: str, console: Console) -> Turn:
        """One turn: print the answer as it comes, and keep what was heard."""
        self._turns += 1
        self._messages.append(Message(role=Role.ROLE_USER, parts=[Part(text=text)]))
        start = Start(
            generation_id=self.running,
            turn_id=self.running,
            prompt=Prompt(messages=self._messages),
            output=OutputOptions(reasoning=True),
        )
        await self._write(ConverseRequest(start=start))
        turn = Turn()
        is_in_line = False
        while turn.end is None:
            frame = await self._read()
            kind = frame.WhichOneof("frame")
            if kind == "delta":
                if frame.delta.reasoning:
                    console.print(f"[dim]{escape(frame.delta.reasoning)}[/dim]", end="")
                turn.text += frame.delta.text
                console.print(escape(frame.delta.text), end="", highlight=False, soft_wrap=True)
                is_in_line = is_in_line or bool(frame.delta.text or frame.delta.reasoning)
            elif kind == "tool_call":
                call = frame.tool_call.call
                console.print(f"[yellow]{escape(call.name)}({escape(call.arguments)})[/yellow]")
            elif kind == "notice":
                console.print(f"[yellow]{escape(frame.notice.message)}[/yellow]")
            elif kind == "end" and frame.end.generation_id == self.running:
                turn.end = frame.end
        if is_in_line or turn.end.outcome == Outcome.OUTCOME_CANCELLED:  # the terminal shows a ^C
            console.print()
        if turn.text:
            heard = Message(role=Role.ROLE_ASSISTANT, parts=[Part(text=turn.text)])
            self._messages.append(heard)
        elif turn.end.outcome != Outcome.OUTCOME_COMPLETED:
            self._messages.pop()
        return turn


async def chat(
    console: Console,
    address: str,
    model: str,
    message: str | None,
    *,
    with_timeline: bool,
    tls: ClientTls = NO_TLS,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Talk until the person is done; returns an exit status.

    Args:
        message: say this once and leave; None to ask for lines.
        environment: may hold `KEY_VARIABLE`, for a relay that asks for keys.

    Raises:
        ChatError: the relay cannot be reached, or ended the session; or the key cannot be sent.
    """
    key = environment.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ChatError(f"{KEY_VARIABLE}: it has characters that cannot be sent (a line end?)")
    try:
        credentials = tls.credentials()
    except ClientTlsError as error:
        raise ChatError(str(error)) from error
    async with Conversation(address, model, credentials, key) as conversation:
        if message is not None:
            turn = await _interruptible(conversation, message, console)
            if with_timeline and turn.end is not None:
                print_end(console, turn.end)
            return int(turn.end is None or turn.end.outcome != Outcome.OUTCOME_COMPLETED)
        console.print("Ctrl-C interrupts an answer, Ctrl-D leaves.", style="dim")
        while True:
            try:
                text = await _ask(console)
            except EOFError:
                console.print()
                return 0
            except asyncio.CancelledError:  # Ctrl-C: the shell's prompt begins a line of its own
                console.print()
                leave_in_time(128 + signal.SIGINT)
                raise
            if text.strip():
                turn = await _interruptible(conversation, text, console)
                if with_timeline and turn.end is not None:
                    print_end(console, turn.end)


async def _ask(console: Console) -> str:
    """A line from the person.

    Raises:
        EOFError: there are no more.

    Cancelled (Ctrl-C): returns at once. The thread goes on reading and ends with the process: one
    of the loop's own would be waited for, until the person presses Enter.
    """
    line: Future[str] = Future()
    line.set_running_or_notify_cancel()  # who waits may leave; the reading itself goes on

    def read() -> None:
        try:
            line.set_result(console.input("[bold]you>[/bold] "))
        except BaseException as error:  # noqa: BLE001 - goes to who waits
            line.set_exception(error)

    threading.Thread(target=read, daemon=True, name="prompt").start()
    waited = asyncio.wrap_future(line)
    try:
        # Not one long wait: the kernel may give the signal to the thread that reads, and Python
        # handles it in this one, once it runs.
        while not waited.done():
            await asyncio.wait([waited], timeout=WAKE_S)
        return waited.result()
    finally:
        waited.cancel()


async def _interruptible(conversation: Conversation, text: str, console: Console) -> Turn:
    """A turn during which Ctrl-C is a barge-in."""
    loop = asyncio.get_running_loop()
    barging: set[asyncio.Task[None]] = set()

    def on_interrupt() -> None:
        task = loop.create_task(conversation.barge_in())
        barging.add(task)
        task.add_done_callback(barging.discard)

    # The loop would put Python's own handler back, which raises wherever the loop just is.
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        return await conversation.say(text, console)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
