"""What comes of one answer, pushed into the pipeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipecat.frames.frames import (
    FunctionCallFromLLM,
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
)

from rtrelay.events import (
    AudioDelta,
    Extra,
    ReasoningDelta,
    RefusalDelta,
    Retract,
    TextDelta,
    ToolCall,
)

if TYPE_CHECKING:
    from pipecat.processors.aggregators.llm_context import LLMContext

    from rtrelay.events import Event
    from rtrelay.pipecat.service import RelayLLMService
    from rtrelay.session import Generation


class Answer:
    """Of one generation; used once."""

    def __init__(self, service: RelayLLMService) -> None:
        self.calls: list[ToolCall] = []
        """Whole tool calls, in their order."""
        self.extras: list[Extra] = []
        self._service = service
        self._has_content = False
        self._is_thinking = False

    async def read(self, generation: Generation) -> None:
        """Push text and thoughts as they come, and keep the rest.

        Returns early if the generation is cancelled elsewhere. Cancelled here it is cancelled.

        Raises:
            RelayError: it failed, after all that came was pushed.
        """
        try:
            async for event in generation:
                if isinstance(event, TextDelta):
                    if event.choice == 0:
                        await self._push_text(event.text)
                else:
                    await self._take(event)
        finally:
            await self._end_thought()
            if not self._has_content:
                # Else the interruption that ends it, or a later one, would pass for the content.
                await self._service.cancel_ttfb_metrics()  # type: ignore[no-untyped-call]

    async def _take(self, event: Event) -> None:
        if event.choice:
            return
        match event:
            case RefusalDelta():
                await self._push_text(event.text)  # the person is to hear it
            case AudioDelta() if event.transcript:
                await self._push_text(event.transcript)
            case ReasoningDelta():
                await self._push_thought(event.text)
            case ToolCall():
                await self._begin()
                await self._service.stop_ttfat_metrics()
                self.calls.append(event)
            case Extra():
                self.extras.append(event)
            case Retract():  # Pipecat has no word for it: whoever handles errors may interrupt
                await self._service.push_error(
                    f"a guardrail withdraws text from character {event.from_chars} on"
                )

    async def _begin(self) -> None:
        if not self._has_content:
            self._has_content = True
            await self._service.stop_ttfb_metrics()

    async def _push_text(self, text: str) -> None:
        if not self._has_content:
            await self._begin()
        if self._is_thinking:
            await self._end_thought()
        await self._service._push_llm_text(text)  # noqa: SLF001 - meant for services

    async def _push_thought(self, text: str) -> None:
        await self._begin()
        if not self._is_thinking:
            self._is_thinking = True
            await self._service.push_frame(LLMThoughtStartFrame())
        await self._service.push_frame(LLMThoughtTextFrame(text=text))

    async def _end_thought(self) -> None:
        if self._is_thinking:
            self._is_thinking = False
            await self._service.push_frame(LLMThoughtEndFrame())

    async def function_calls(self, context: LLMContext) -> list[FunctionCallFromLLM]:
        """The calls as Pipecat runs them. One whose arguments are no JSON object (models may write
        anything, and a limit of tokens may cut them off) is told as an error instead."""
        found: list[FunctionCallFromLLM] = []
        for event in self.calls:
            call = event.call
            try:
                arguments = json.loads(call.arguments or "{}")
            except ValueError:
                arguments = None
            if isinstance(arguments, dict) and not event.is_partial:
                found.append(
                    FunctionCallFromLLM(
                        context=context,
                        tool_call_id=call.call_id,
                        function_name=call.name,
                        arguments=arguments,
                    )
                )
            else:
                why = "the limit of tokens cut it off" if event.is_partial else "no JSON object"
                await self._service.push_error(
                    f"tool call {call.name} was not run: bad arguments ({why})"
                )
        return found
