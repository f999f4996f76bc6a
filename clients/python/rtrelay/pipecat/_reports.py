"""What answers cost, told once the relay has said it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rtrelay.errors import RelayError
from rtrelay.pipecat._usage import usage_of

if TYPE_CHECKING:
    from rtrelay.pipecat.service import RelayLLMService
    from rtrelay.session import Generation

END_WAIT_S = 1.0
"""How long the relay's end of a cancelled answer is waited for."""


class Reports:
    """Of one service. Nobody waits for an end but the end of the pipeline: whoever interrupts an
    answer waits for what its task does last."""

    def __init__(self, service: RelayLLMService) -> None:
        self._service = service
        self._waiting: set[asyncio.Task[None]] = set()

    async def tell(self, generation: Generation) -> None:
        """Tell it now if it is known, else by a task that waits for it."""
        if generation.is_over:
            await self._tell(generation)
            return
        task = self._service.create_task(self._tell_later(generation), f"{self._service}::report")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def told(self, timeout_s: float) -> None:
        """Wait until all is told, or for so long."""
        if self._waiting:
            await asyncio.wait(list(self._waiting), timeout=timeout_s)

    async def aclose(self) -> None:
        """Wait for nothing more; no task is left."""
        waiting = list(self._waiting)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=END_WAIT_S)

    async def _tell_later(self, generation: Generation) -> None:
        try:
            async with asyncio.timeout(END_WAIT_S):
                await generation.ended()
        except (RelayError, TimeoutError):  # no end will come
            return
        await self._tell(generation)

    async def _tell(self, generation: Generation) -> None:
        if generation.end is None:
            return
        usage = usage_of(generation.end)
        if usage is not None:
            await self._service.start_llm_usage_metrics(usage)
        await self._service.tell_end(generation.end)
