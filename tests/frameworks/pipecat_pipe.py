"""A pipeline of Pipecat's own around what is tested, which says what came out of it.

async with Pipe(service) as pipe:
    await pipe.send(asks("Hello"))
    await pipe.until(pipe.has(LLMFullResponseEndFrame))
    assert pipe.text == "..."
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    StartFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage, LLMUsageMetricsData, TTFBMetricsData
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

WAIT_S = 10.0

FrameT = TypeVar("FrameT", bound=Frame)


def asks(text: str = "Hello", *, speculation: bool = False, **context: Any) -> LLMContextFrame:
    """A context with one question."""
    messages: Any = [{"role": "user", "content": text}]
    return LLMContextFrame(LLMContext(messages=messages, **context), speculation=speculation)


class _Recorder(FrameProcessor):
    """Keeps what goes by in one direction, and when."""

    def __init__(self, direction: FrameDirection, on_frame: Callable[[Frame], None]) -> None:
        super().__init__(enable_direct_mode=True)
        self._recorded = direction
        self._on_frame = on_frame

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self._recorded and not isinstance(frame, StartFrame):
            self._on_frame(frame)
        await self.push_frame(frame, direction)


class Pipe:
    """A running pipeline; leaving the block ends it, if it has not ended.

    Args:
        llm: what is tested.
        before: goes before it, such as the aggregator of what the person says.
        after: goes after it.
    """

    def __init__(
        self,
        llm: FrameProcessor,
        *,
        before: Sequence[FrameProcessor] = (),
        after: Sequence[FrameProcessor] = (),
    ) -> None:
        self.down: list[Frame] = []
        """What came out of the service, in order."""
        self.up: list[Frame] = []
        """What came back to the beginning."""
        self.at_s: dict[int, float] = {}
        """When a frame came out (`time.monotonic`), by its id."""
        self._changed = asyncio.Event()
        source = _Recorder(FrameDirection.UPSTREAM, lambda frame: self._took(self.up, frame))
        sink = _Recorder(FrameDirection.DOWNSTREAM, lambda frame: self._took(self.down, frame))
        self._worker = PipelineWorker(
            Pipeline([source, *before, llm, sink, *after]),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
            params=PipelineParams(
                enable_metrics=True, enable_usage_metrics=True, send_initial_empty_metrics=False
            ),
        )
        self._runner = WorkerRunner(handle_sigint=False)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        started = asyncio.Event()

        @self._worker.event_handler("on_pipeline_started")  # type: ignore[untyped-decorator]
        async def _(_worker: object, _frame: Frame) -> None:
            started.set()

        await self._runner.add_workers(self._worker)
        self._task = asyncio.create_task(self._runner.run())
        async with asyncio.timeout(WAIT_S):
            await started.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.end()
        else:
            await self.cancel()

    async def send(self, *frames: Frame) -> None:
        """Put frames in at the beginning."""
        for frame in frames:
            await self._worker.queue_frame(frame)

    async def end(self) -> None:
        """End the pipeline after what was sent. Idempotent."""
        assert self._task is not None
        if not self._task.done():
            await self._worker.queue_frame(EndFrame())
            async with asyncio.timeout(WAIT_S):
                await self._task

    async def cancel(self) -> None:
        """Cancel the pipeline. Idempotent."""
        assert self._task is not None
        if not self._task.done():
            await self._worker.cancel()
            async with asyncio.timeout(WAIT_S):
                await self._task

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it is true; asked again with each frame that comes out."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def answered(self, count: int = 1) -> None:
        """Wait until so many answers are over."""
        await self.until(lambda: len(self.all(LLMFullResponseEndFrame)) >= count)

    def all(self, kind: type[FrameT]) -> list[FrameT]:
        """The frames of a kind that came out at the end."""
        return [frame for frame in self.down if isinstance(frame, kind)]

    @property
    def text(self) -> str:
        """All text that came out."""
        return "".join(frame.text for frame in self.all(LLMTextFrame))

    @property
    def answers(self) -> list[str]:
        """The text of each answer.

        Raises:
            AssertionError: text outside of an answer, or answers that overlap.
        """
        found: list[str] = []
        is_open = False
        for frame in self.down:
            match frame:
                case LLMFullResponseStartFrame():
                    assert not is_open, "an answer began within another"
                    is_open = True
                    found.append("")
                case LLMTextFrame():
                    assert is_open, f"text outside of an answer: {frame.text!r}"
                    found[-1] += frame.text
                case LLMFullResponseEndFrame():
                    assert is_open, "an answer ended that had not begun"
                    is_open = False
        assert not is_open, "an answer has no end"
        return found

    @property
    def errors(self) -> list[ErrorFrame]:
        """What was told upstream."""
        return [frame for frame in self.up if isinstance(frame, ErrorFrame)]

    @property
    def usages(self) -> list[LLMTokenUsage]:
        """Tokens that were reported."""
        return [
            data.value
            for frame in self.all(MetricsFrame)
            for data in frame.data
            if isinstance(data, LLMUsageMetricsData)
        ]

    @property
    def ttfbs_s(self) -> list[float]:
        """Times to the first content that were reported, seconds."""
        return [
            data.value
            for frame in self.all(MetricsFrame)
            for data in frame.data
            if isinstance(data, TTFBMetricsData)
        ]

    def _took(self, frames: list[Frame], frame: Frame) -> None:
        frames.append(frame)
        self.at_s[frame.id] = time.monotonic()
        self._changed.set()
