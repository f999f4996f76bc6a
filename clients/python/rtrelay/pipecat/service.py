"""The LLM service of a Pipecat pipeline that asks the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipecat.adapters.llm.base_llm_adapter import LLMContextConversionError
from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMAdapter
from pipecat.frames.frames import (
    CancelFrame,
    EagerEndOfTurnCancelFrame,
    EndFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMUpdateSettingsFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.tracing.service_decorators import traced_llm
from pipecat.utils.types import assert_given

from rtrelay.errors import RelayError
from rtrelay.pipecat._answer import Answer
from rtrelay.pipecat._connection import Answers, Connection
from rtrelay.pipecat._errors import category_of, is_timeout, message_of
from rtrelay.pipecat._reports import END_WAIT_S, Reports
from rtrelay.pipecat._request import ask_for_schema, chat_body, limit_tokens
from rtrelay.pipecat._tool_state import ToolState
from rtrelay.pipecat._turns import Turns
from rtrelay.pipecat.settings import RelayLLMSettings, complete
from rtrelay.v1 import CancelReason

if TYPE_CHECKING:
    from pipecat.frames.frames import Frame
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.frame_processor import FrameCallback, FrameProcessorSetup
    from pipecat.services.settings import LLMSettings

    from rtrelay.client import Client
    from rtrelay.session import Generation
    from rtrelay.v1 import End, Prompt

CANCEL_WAIT_S = 0.2
"""How long the ends of answers are waited for when the pipeline is cancelled, which is to be
quick."""


class RelayLLMService(LLMService[OpenAILLMAdapter]):
    """Answers `LLMContextFrame`s over one session with the relay, which it opens when the pipeline
    is set up and closes with it.

    Besides those of `LLMService` it has one event: `on_answer_end(service, end)`, with the relay's
    word on each answer (provider, usage, attempts, timeline; `rtrelay.v1.End`), also after a cancel
    or a failure. It is called in a task of its own.
    """

    adapter_class = OpenAILLMAdapter
    Settings = RelayLLMSettings
    _settings: RelayLLMSettings
    supports_response_schema = True

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:50051",
        *,
        client: Client | None = None,
        client_options: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        prewarm_prompt: Prompt | None = None,
        settings: RelayLLMSettings | None = None,
        answers: Callable[[], Answers] | None = None,
        **kwargs: Any,
    ) -> None:
        """Opens nothing.

        Args:
            addresses: of relays, `host:port` or `unix:/path`, in the order in which they are tried.
            client: a client that several services share, instead of addresses; whoever made it
                closes it.
            client_options: further arguments of `rtrelay.Client`: `key`, `credentials`, ...
            labels: of the session (call id, room), for the relay's logs and records.
            prewarm_prompt: what all prompts begin with, for the provider's prompt cache.
            settings: what can change while a call runs.
            answers: makes what answers are started on, instead of a session of the client.
            **kwargs: those of `LLMService`.

        Raises:
            ValueError: a setting has a value that the relay knows nothing of.
        """
        super().__init__(settings=complete(settings), **kwargs)
        self._connection = Connection(
            addresses,
            client,
            client_options or {},
            {"labels": labels, "prewarm_prompt": prewarm_prompt},
            answers,
        )
        self._running: Generation | None = None
        self._speculation: Generation | None = None
        """The same, if it was started as one."""
        self._is_guess = False
        """The context that is being answered is of a turn that had not ended when it was sent."""
        self._is_void = False
        """What the gate holds is superseded, and the answer that does so has not begun."""
        self._is_told = asyncio.Event()
        """No answer that was started is without its last frame."""
        self._is_told.set()
        self._turns = Turns()
        self._tool_state = ToolState()
        self._reports = Reports(self)
        self._register_event_handler("on_answer_end")

    def can_generate_metrics(self) -> bool:
        """Processing time, time to the first content, and tokens."""
        return True

    # --- life -------------------------------------------------------------------------------

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as Pipecat
        """Begin to open the session; the pipeline's start does not wait for it."""
        await super().setup(setup)
        self._connection.answers().prepare()

    async def stop(self, frame: EndFrame) -> None:
        """Let the ends of cancelled answers come first."""
        await super().stop(frame)
        await self._reports.told(END_WAIT_S)

    async def cancel(self, frame: CancelFrame) -> None:
        """The same, in less time."""
        await super().cancel(frame)
        await self._reports.told(CANCEL_WAIT_S)

    async def cleanup(self) -> None:
        """Close the session, and the client if it is the service's own. Idempotent."""
        self._leaves_for(CancelReason.CANCEL_REASON_SESSION_END)
        try:
            await super().cleanup()  # type: ignore[no-untyped-call]
        finally:
            await self._reports.aclose()
            await self._connection.aclose()

    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:  # type: ignore[override]
        if isinstance(delta, RelayLLMSettings):
            delta.check()
        return await super()._update_settings(delta)

    # --- frames -----------------------------------------------------------------------------

    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: FrameCallback | None = None,
    ) -> None:
        """A context voids a speculation that nobody has confirmed. It would wait in the queue for
        the end of that answer, which may be withholding a tool call until it is confirmed."""
        if isinstance(frame, LLMContextFrame | EndFrame) and self._speculation_gate.is_speculating:
            is_end = isinstance(frame, EndFrame)
            self._is_void = not is_end  # with the end of the pipeline the gate drops it itself
            if self._running is not None:
                self._running.cancel(
                    CancelReason.CANCEL_REASON_SESSION_END
                    if is_end
                    else CancelReason.CANCEL_REASON_SUPERSEDED
                )
        await super().queue_frame(frame, direction, callback)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer contexts, pass on the rest."""
        self._note(frame, direction)
        is_end_of_turn = isinstance(frame, UserStoppedSpeakingFrame) and _is_downstream(direction)
        if is_end_of_turn and self._is_void:
            await self._drop_held()
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(frame)
        elif not (isinstance(frame, LLMUpdateSettingsFrame) and frame.service not in (None, self)):
            await self.push_frame(frame, direction)  # settings of others were passed on above
        if is_end_of_turn and self._speculation is not None:
            # After the gate has let go: what starts from then on is no speculation.
            self._speculation.commit()

    def _note(self, frame: Frame, direction: FrameDirection) -> None:
        """What a frame says of the turn, and of why Pipecat is about to cancel the reading task."""
        match frame:
            case InterruptionFrame():
                self._leaves_for(CancelReason.CANCEL_REASON_BARGE_IN)
            case EagerEndOfTurnCancelFrame():
                self._leaves_for(CancelReason.CANCEL_REASON_SPECULATION_DISCARDED)
            case CancelFrame():
                self._leaves_for(CancelReason.CANCEL_REASON_SESSION_END)
            case UserStartedSpeakingFrame() if _is_downstream(direction):
                self._turns.begin()
            case LLMContextFrame():
                self._is_guess = frame.speculation
                self._is_void = False

    async def _answer(self, frame: LLMContextFrame) -> None:
        """One answer between its two frames, whatever happens."""
        try:
            await self.push_frame(LLMFullResponseStartFrame())
            await self.start_processing_metrics()
            await self._process_context(frame.context)
        except RelayError as error:
            await self._push_relay_error(error, frame.context)
        except LLMContextConversionError as error:
            await self.push_error(str(error), exception=error)
            frame.context.remove_invalid_file_message()
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on
            await self.push_error(f"LLM answer failed: {error}", exception=error)
        finally:
            await self.stop_processing_metrics()
            await self.push_frame(LLMFullResponseEndFrame())
            self._is_told.set()

    @traced_llm
    async def _process_context(self, context: LLMContext) -> None:
        """Ask, push what comes, run the tools that were called.

        Cancelled here exactly this answer is cancelled; the relay's word on it is reported once
        it comes, by a task of its own.

        Raises:
            RelayError: the answer failed; what came before was pushed.
        """
        self._log_llm_response(context)
        await self.start_ttfb_metrics()
        fields = self._settings.start_fields()
        body = await self._body(context, assert_given(self._settings.system_instruction))
        is_speculative = self._speculation_gate.is_speculating
        if self._is_void or (self._is_guess and self.has_queued_frame(LLMContextFrame)):
            await self.cancel_ttfb_metrics()  # type: ignore[no-untyped-call]
            return  # superseded before it began
        generation = self._connection.answers().start(
            body, speculative=is_speculative, turn_id=self._turns.of(context.messages), **fields
        )
        self._running = generation
        self._is_told.clear()
        self._speculation = generation if is_speculative else None
        answer = Answer(self)
        try:
            await answer.read(generation)
        finally:
            self._running = self._speculation = None
            await self._reports.tell(generation)
        if answer.calls and not generation.is_cancelled:
            self._tool_state.keep(answer.calls, answer.extras)
            await self.run_function_calls(await answer.function_calls(context))

    async def _body(self, context: LLMContext, system_instruction: str | None) -> dict[str, Any]:
        params = await self.get_llm_adapter().get_llm_invocation_params(
            context, system_instruction=system_instruction, convert_developer_to_user=False
        )
        params["messages"] = self._tool_state.restore(params["messages"])
        return chat_body(params, self._settings)

    async def run_inference(
        self,
        context: LLMContext,
        max_tokens: int | None = None,
        system_instruction: str | None = None,
        response_schema: dict[str, Any] | None = None,
    ) -> str | None:
        """One answer beside the pipeline, over the same session; see `LLMService`.

        Cancelled here it is cancelled.

        Raises:
            RelayError: it failed.
        """
        instruction = system_instruction or assert_given(self._settings.system_instruction)
        body = await self._body(context, instruction)
        if max_tokens is not None:
            limit_tokens(body, max_tokens)
        schema = self._check_response_schema(response_schema)
        if schema is not None:
            ask_for_schema(body, schema)
        fields = self._settings.start_fields()
        fields["output"].reasoning = False
        async with self._connection.answers().start(body, **fields) as generation:
            return await generation.text() or None

    # --- ends -------------------------------------------------------------------------------

    def _leaves_for(self, reason: CancelReason.ValueType) -> None:
        if self._running is not None:
            self._running.leave_reason = reason

    async def _drop_held(self) -> None:
        """Have the gate drop a void answer, which the end of the turn would release; whole, since
        it drops a tail that comes later only as long as no other verdict comes in between. The
        answer is cancelled, so that it is about to end."""
        await self._is_told.wait()
        if not self._is_void:  # the answer that supersedes it has begun, and the gate knows
            return
        withdrawal = EagerEndOfTurnCancelFrame()
        for frame, direction in self._speculation_gate.process(
            withdrawal, FrameDirection.DOWNSTREAM
        ):
            if frame is not withdrawal:
                await self.push_frame(frame, direction)

    async def tell_end(self, end: End) -> None:
        """For reports: call who wants to know."""
        await self._call_event_handler("on_answer_end", end)

    # --- errors -----------------------------------------------------------------------------

    def _classify_error(self, exception: Exception) -> ErrorCategory | None:
        return category_of(exception) if isinstance(exception, RelayError) else None

    async def _push_relay_error(self, error: RelayError, context: LLMContext) -> None:
        if is_timeout(error):
            await self._call_event_handler("on_completion_timeout")
        category = category_of(error)
        if category is ErrorCategory.INVALID_REQUEST and context.remove_invalid_file_message():
            category = ErrorCategory.APPLICATION  # the next prompt goes without that file
        await self.push_error(message_of(error), exception=error, category=category)


def _is_downstream(direction: FrameDirection) -> bool:
    return direction == FrameDirection.DOWNSTREAM
