"""One answer, as LiveKit reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError, llm, utils
from livekit.agents.llm.utils import ThinkingTokenFilter, strip_thinking_tokens
from livekit.agents.types import APIConnectOptions
from opentelemetry import trace

from rtrelay.errors import RelayError
from rtrelay.events import Event, Extra, RefusalDelta, Retract, TextDelta, ToolCall
from rtrelay.livekit._errors import to_api_error
from rtrelay.livekit._plugin import logger
from rtrelay.livekit._request import chat_body, first_token_limit_ms, start_arguments
from rtrelay.livekit._state import MessageState, call_extra
from rtrelay.livekit._turns import Turn
from rtrelay.livekit.llm import GenerationEnded
from rtrelay.v1 import CancelReason, End, Outcome

if TYPE_CHECKING:
    from rtrelay.livekit._transport import Call, Transport
    from rtrelay.livekit.llm import LLM

REPORT_S: Final = 0.25
"""How long a cancelled answer waits for the relay's word on its usage: a round trip, as a rule."""
GRACE_S: Final = 1.0
"""Beyond its limit for the first token a request waits so long for the relay to say so."""


class LLMStream(llm.LLMStream):
    """Made by `LLM.chat`. Closing it cancels the generation and with it the provider's stream.

    Events go from the session's reader into LiveKit's channel without a task in between; the task
    that LiveKit gives the stream waits for the end alone.
    """

    def __init__(
        self,
        owner: LLM,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        transport: Transport,
        fields: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self._owner = owner
        self._transport = transport
        self._fields = fields
        self._turn = Turn.current()
        self._options = self._with_turn(options)
        self._limit_ms = first_token_limit_ms(options, conn_options)
        if self._limit_ms is not None:
            self._options["first_token_ms"] = self._limit_ms
        self._chunk_id = utils.shortuuid("relay_")
        self._call: Call | None = None
        self._is_committed = False
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)

    def commit(self) -> None:
        """The answer is wanted: for requests that were made with `speculative`. Those of an agent
        session are committed to without it. Idempotent."""
        self._is_committed = True
        if self._call is not None:
            self._call.commit()

    def _with_turn(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, with what is known of the turn where they do not say."""
        found = dict(options)
        if self._turn.turn_id:
            found.setdefault("turn_id", self._turn.turn_id)
        if self._turn.was_speculative:
            found.setdefault("speculative", True)
        return found

    async def _run(self) -> None:
        # A stream is run again after some failures that came before any output.
        self._state, self._thinking = MessageState(), ThinkingTokenFilter()
        self._failure: APIError | None = None
        # Until the first event, for where not even the relay says that its time is over.
        patience_s = None if self._limit_ms is None else self._limit_ms / 1000 + GRACE_S
        self._patience = asyncio.timeout(patience_s)
        arguments = start_arguments({"traceparent": _traceparent(), **self._options})
        body = chat_body(self._chat_ctx, self._fields)
        call = self._call = self._transport.start(body, arguments, self._took)
        if self._is_committed:
            call.commit()
        try:
            with self._turn.committing(call):
                async with self._patience:
                    end = await call.ended()
        except asyncio.CancelledError:
            call.cancel(self._turn.cancel_reason)
            await self._report_cancelled(call)
            raise
        except TimeoutError:
            call.cancel(CancelReason.CANCEL_REASON_CLIENT_TIMEOUT)
            raise APITimeoutError("the relay did not answer in time", retryable=False) from None
        except RelayError as error:
            raise self._to_api_error(error) from error
        self._tell(end)
        if isinstance(call.error, RelayError):
            raise self._to_api_error(call.error) from call.error
        if self._failure is not None:
            raise self._failure
        if end.outcome == Outcome.OUTCOME_CANCELLED:
            raise APIConnectionError("the session with the relay was closed", retryable=False)
        self._finish(end)

    # --- events, in the session's reader ----------------------------------------------------

    def _took(self, event: Event) -> None:
        if self._patience.when() is not None:
            self._patience.reschedule(None)
        if isinstance(event, TextDelta):
            if event.choice == 0:
                self._send_text(strip_thinking_tokens(event.text, self._thinking))
        elif event.choice == 0:  # others were not asked for
            if isinstance(event, ToolCall):
                self._take_call(event)
            elif isinstance(event, Extra):
                self._state.add(event.key, event.value_json)
            elif isinstance(event, RefusalDelta):
                self._send_text(event.text)
            elif isinstance(event, Retract):  # LiveKit has no word for it: the agent hears of it
                logger.warning("a guardrail withdraws text that was given to be spoken")
                self._owner.emit("text_retracted", event)

    def _take_call(self, event: ToolCall) -> None:
        call = event.call
        if event.is_partial:
            self._failure = APIStatusError(
                f"the limit of tokens cut off the arguments of the tool call {call.name}",
                status_code=502,
                retryable=False,
            )
            return
        whole = llm.FunctionToolCall(
            name=call.name,
            arguments=call.arguments,
            call_id=call.call_id,
            extra=call_extra(call.extra_json, self._state.take()),
        )
        self._send(llm.ChoiceDelta(role="assistant", tool_calls=[whole]))

    def _send_text(self, text: str | None) -> None:
        if text:
            self._send(llm.ChoiceDelta(role="assistant", content=text))

    def _send(self, delta: llm.ChoiceDelta) -> None:
        if not self._event_ch.closed:
            self._event_ch.send_nowait(llm.ChatChunk(id=self._chunk_id, delta=delta))

    # --- the end ----------------------------------------------------------------------------

    def _finish(self, end: End) -> None:
        self._send_text(strip_thinking_tokens(None, self._thinking, final=True))
        if extra := self._state.take():
            self._send(llm.ChoiceDelta(role="assistant", extra=extra))
        self._send_usage(end)

    async def _report_cancelled(self, call: Call) -> None:
        """Bring the usage of what was generated until the cancel into LiveKit's metrics. Bounded,
        and given up if this is cancelled again."""
        try:
            async with asyncio.timeout(REPORT_S):
                end = await call.ended()
        except (TimeoutError, RelayError):
            return
        self._send_usage(end)
        self._tell(end, was_cancelled=True)

    def _send_usage(self, end: End) -> None:
        if not end.HasField("usage"):
            return
        usage = end.usage
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=end.request_id or self._chunk_id,
                usage=llm.CompletionUsage(
                    completion_tokens=usage.completion_tokens,
                    prompt_tokens=usage.prompt_tokens,
                    prompt_cached_tokens=usage.cached_tokens,
                    cache_creation_tokens=usage.cache_write_tokens,
                    cache_read_tokens=usage.cached_tokens,
                    reasoning_tokens=usage.reasoning_tokens,
                    total_tokens=usage.total_tokens,
                    service_tier=end.service_tier or None,
                ),
            )
        )

    def _to_api_error(self, error: RelayError) -> APIError:
        return to_api_error(error, has_output=self._event_ch.output_sent)

    def _tell(self, end: End, *, was_cancelled: bool = False) -> None:
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(
                {
                    "rtrelay.request_id": end.request_id,
                    "rtrelay.provider": end.provider,
                    "rtrelay.model": end.model,
                    "rtrelay.attempts": len(end.attempts),
                }
            )
        self._owner.emit(
            "generation_ended",
            GenerationEnded(end, was_cancelled, was_speculative=self._turn.was_speculative),
        )


def _traceparent() -> str:
    """Of LiveKit's span, where it records any."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
