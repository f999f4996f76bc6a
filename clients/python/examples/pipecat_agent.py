"""A Pipecat agent over the relay, without sound: questions go in as text, answers come out as text.

    python pipecat_agent.py "Tell me a long story." "And in one sentence?"

The first answer is cut as if the listener had spoken. `make run` in the repository starts a relay.
"""

import asyncio
import os
import sys

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from rtrelay.pipecat import RelayLLMService
from rtrelay.v1 import End

ADDRESS = os.environ.get("RTRELAY_ADDRESS", "127.0.0.1:50051")
MODEL = os.environ.get("RTRELAY_MODEL", "fast")
QUESTIONS = ["Tell me a long story about a lighthouse.", "How does it end?"]


class Screen(FrameProcessor):
    """Prints answers, where a voice agent would have its text-to-speech."""

    def __init__(self, cut_after_chars: int) -> None:
        super().__init__()
        self.is_over = asyncio.Event()
        self._chars_left = cut_after_chars

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            print(frame.text, end="", flush=True)
            self._chars_left -= len(frame.text)
            if self._chars_left <= 0:
                self._chars_left = 10**9
                await self.broadcast_interruption()  # the barge-in
        elif isinstance(frame, LLMFullResponseEndFrame | InterruptionFrame):
            self.is_over.set()


async def main(questions: list[str]) -> list[str]:
    """Returns what went wrong."""
    errors: list[str] = []
    settings = RelayLLMService.Settings(
        model=MODEL, system_instruction="Answer briefly.", first_token_ms=4000
    )
    llm = RelayLLMService(ADDRESS, settings=settings)
    screen = Screen(cut_after_chars=80)
    pair = LLMContextAggregatorPair(LLMContext())
    worker = PipelineWorker(
        Pipeline([pair.user(), llm, screen, pair.assistant()]), enable_rtvi=False
    )

    @llm.event_handler("on_answer_end")
    async def told(_: RelayLLMService, end: End) -> None:
        tokens, ms = end.usage.completion_tokens, end.timeline.wall_us // 1000
        print(f"\n[{end.provider or 'nobody'} {end.model}: {tokens} tokens in {ms} ms]")

    @llm.event_handler("on_error")
    async def failed(_: RelayLLMService, error: ErrorFrame) -> None:
        errors.append(error.error)

    async def asks() -> None:
        for question in questions:
            print(f"\n> {question}")
            screen.is_over.clear()
            message = {"role": "user", "content": question}
            await worker.queue_frame(LLMMessagesAppendFrame(messages=[message], run_llm=True))
            await screen.is_over.wait()
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), asks())
    return errors


if __name__ == "__main__":
    logger.remove()  # Pipecat tells much at first
    if problems := asyncio.run(main(sys.argv[1:] or QUESTIONS)):
        sys.exit("\n".join(problems))
