"""One turn of a call, as the agent lives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.calls.line import Answer, CancelReason, Line, Message, Piece, Request, Spoken, ToolCalled
from relay.calls.record import GenerationRecord, Role, TurnRecord
from relay.calls.script import Tool, Turn
from relay.calls.voice import CHARS_PER_S, Voice

RESUME_MS: Final = 2000
"""After a noise without words the agent goes on with what it was saying (LiveKit's default)."""


class Stage(Protocol):
    """What a script leaves open: who is asked, and in which words."""

    def model(self, turn: Turn) -> str:
        """The name that the line knows."""
        ...

    def words(self, turn: Turn, transcript: str, tag: str) -> str:
        """What the caller's message says for this transcript."""
        ...

    def expected(self, turn: Turn, words: str) -> str:
        """The text that the model has to answer to these words; empty if that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a call is held."""

    line: Line
    stage: Stage
    pace: float = 1.0
    """How much faster than in a real call people speak and tools run."""
    clock_ns: Callable[[], int] = time.monotonic_ns
    """Of all stamps."""


class _Generation:
    """One generation, and what of it may not be used yet."""

    def __init__(self, record: GenerationRecord, transcript: str) -> None:
        self.record = record
        self.transcript = transcript
        self.held: list[Piece] = []
        self.calls: list[ToolCalled] = []
        self.answer: Answer | None = None
        self.watch: asyncio.Task[None] | None = None


class PlayedTurn:
    """`listen`, `respond`, `aclose`; then `record` is complete."""

    def __init__(self, setting: Setting, turn: Turn, tag: str, history: Sequence[Message]) -> None:
        self.record = TurnRecord()
        self._setting = setting
        self._turn = turn
        self._tag = tag
        self._history = history
        self._clock_ns = setting.clock_ns
        self._loop = asyncio.get_running_loop()
        self._voice = Voice(CHARS_PER_S * setting.pace)
        self._generations: list[_Generation] = []
        self._guess: _Generation | None = None
        self._current: _Generation | None = None
        """What is spoken, or will be."""

    # --- the caller speaks --------------------------------------------------------------------

    async def listen(self) -> None:
        """From the caller's first sound until an answer that will be used is on its way."""
        turn, record = self._turn, self.record
        record.speech_from_ns = self._clock_ns()
        heard: list[tuple[int, str]] = [(each.at_ms, each.text) for each in turn.interims]
        began_s = self._loop.time()
        last_ms = turn.speech_ms + turn.final_ms
        for at_ms, transcript in sorted([*heard, (turn.speech_ms, ""), (last_ms, "")]):
            await self._until(began_s + at_ms / 1e3 / self._setting.pace)
            now_ns = self._clock_ns()
            if transcript:
                record.interims_ns.append((now_ns, transcript))
                self._speculate(transcript)
            elif at_ms < last_ms:
                record.speech_to_ns = now_ns
        record.final_ns = self._clock_ns()
        guess, self._guess = self._guess, None
        if guess is not None and guess.transcript == turn.says and guess.answer is not None:
            self._current = guess
            guess.answer.commit()
            self._want(guess)
            return
        if guess is not None:
            self._cancel(guess, "discarded")
        self._current = self._start("answer", turn.says)
        self._want(self._current)

    def _speculate(self, transcript: str) -> None:
        superseded, self._guess = self._guess, None
        self._guess = self._start("guess", transcript, superseded=superseded)

    # --- the agent answers --------------------------------------------------------------------

    async def respond(self) -> None:
        """Until the answer is there and nothing more happens in the turn."""
        turn = self._turn
        legs = asyncio.create_task(self._legs(), name="the legs of an answer")
        try:
            if turn.noise_after_chars is not None:
                await self._noise(turn.noise_after_chars)
            if turn.barge_in_after_ms is not None:
                await asyncio.sleep(turn.barge_in_after_ms / 1e3 / self._setting.pace)
                self._barge_in()
            elif (after_chars := turn.barge_in_after_chars) is not None:
                is_heard = await self._voice.until_heard(after_chars)
                if is_heard:
                    self._barge_in()
            if not self.record.barge_in_ns:
                await legs
                self._voice.finish()
        finally:
            legs.cancel()
            await asyncio.wait([legs])
            if not legs.cancelled():
                legs.result()
        self.record.ended_ns = self._clock_ns()
        self.record.heard = self._voice.text[: self._voice.heard_chars]

    async def _legs(self) -> None:
        """The answer, and where a tool is called what comes after its result."""
        try:
            leg = self._current
            while leg is not None and leg.watch is not None:
                await asyncio.wait([leg.watch])
                leg = await self._run_tool(leg) if leg.calls else None
        finally:
            self._voice.no_more()

    async def _run_tool(self, leg: _Generation) -> _Generation:
        tool = self._turn.tool
        if tool is None:
            raise LookupError("the model called a tool that the script does not know")
        began_ns = self._clock_ns()
        await asyncio.sleep(tool.takes_ms / 1e3 / self._setting.pace)
        self.record.tools_ns.append((began_ns, self._clock_ns()))
        result = _result(leg.calls, tool)
        self._current = self._start("after_tool", leg.transcript, result)
        self._want(self._current)
        return self._current

    async def _noise(self, after_chars: int) -> None:
        if not await self._voice.until_heard(after_chars):
            return
        began_ns = self._clock_ns()
        self._voice.pause()
        await asyncio.sleep(RESUME_MS / 1e3 / self._setting.pace)
        self._voice.resume()
        self.record.noise_ns.append((began_ns, self._clock_ns()))

    def _barge_in(self) -> None:
        self.record.barge_in_ns = self._clock_ns()
        if self._current is not None:
            self._cancel(self._current, "barge_in")
        self._voice.stop()

    def said(self) -> list[Message]:
        """What the turn adds to the conversation: of the answer, what was heard."""
        user: Message = {"role": "user", "content": self._turn.says}
        if not self.record.heard:
            return [user]
        return [user, {"role": "assistant", "content": self.record.heard}]

    # --- generations --------------------------------------------------------------------------

    def _start(
        self,
        role: Role,
        transcript: str,
        tool_result: Sequence[Message] = (),
        *,
        superseded: _Generation | None = None,
    ) -> _Generation:
        stage, turn = self._setting.stage, self._turn
        tag = f"{self._tag}.{len(self._generations) + 1}"
        words = stage.words(turn, transcript, tag)
        record = GenerationRecord(
            tag=tag,
            role=role,
            words=words,
            expected=stage.expected(turn, words),
            started_ns=self._clock_ns(),
        )
        generation = _Generation(record, transcript)
        self._generations.append(generation)
        self.record.generations.append(record)
        if superseded is not None:
            self._note_cancel(superseded, "superseded")
        wants_tool = turn.tool is not None and role != "after_tool"
        request = Request(
            model=stage.model(turn),
            messages=[*self._history, {"role": "user", "content": words}, *tool_result],
            turn_id=self._tag,
            tools=[_declared(turn.tool)] if turn.tool is not None and wants_tool else [],
            is_speculative=role == "guess",
        )
        answer = self._setting.line.start(
            request,
            lambda piece: self._took(generation, piece),
            None if superseded is None else superseded.answer,
        )
        generation.answer = answer
        generation.watch = asyncio.create_task(
            self._watch(record, answer), name=f"the end of {record.tag}"
        )
        return generation

    async def _watch(self, record: GenerationRecord, answer: Answer) -> None:
        record.end = await answer.ended()
        record.ended_ns = self._clock_ns()

    def _took(self, generation: _Generation, piece: Piece) -> None:
        record = generation.record
        if record.cancelled_ns:
            record.late_pieces += 1
            return
        if not record.first_piece_ns:
            record.first_piece_ns = self._clock_ns()
        if isinstance(piece, Spoken):
            record.text += piece.text
        if record.committed_ns:
            self._use(generation, piece)
        else:
            generation.held.append(piece)

    def _want(self, generation: _Generation) -> None:
        """It is certain that it is wanted: use what has come of it, and what will."""
        generation.record.committed_ns = self._clock_ns()
        held, generation.held = generation.held, []
        for piece in held:
            self._use(generation, piece)

    def _use(self, generation: _Generation, piece: Piece) -> None:
        if isinstance(piece, ToolCalled):
            generation.calls.append(piece)
            return
        if not self.record.first_segment_ns:
            self.record.first_segment_ns = self._clock_ns()
        self._voice.say(piece.text)

    def _cancel(self, generation: _Generation, reason: CancelReason) -> None:
        self._note_cancel(generation, reason)
        if generation.answer is not None:
            generation.answer.cancel(reason)

    def _note_cancel(self, generation: _Generation, reason: CancelReason) -> None:
        """What was over already has a reason why it was not used, and no time of a cancel."""
        record = generation.record
        generation.held.clear()
        if record.cancel_reason:
            return
        record.cancel_reason = reason
        if not record.ended_ns:
            record.cancelled_ns = self._clock_ns()

    async def _until(self, due_s: float) -> None:
        await asyncio.sleep(max(0.0, due_s - self._loop.time()))

    async def aclose(self, timeout_s: float) -> None:
        """Cancel what still runs and wait for the ends, at most so long.

        Raises:
            TimeoutError: some end did not come.
        """
        for generation in self._generations:
            if not generation.record.ended_ns:
                self._cancel(generation, "session_end")
        watches = {one.watch for one in self._generations if one.watch is not None}
        try:
            late = (await asyncio.wait(watches, timeout=timeout_s))[1] if watches else set()
        finally:
            for watch in watches:
                watch.cancel()
            if watches:
                await asyncio.wait(watches)
        offset_ns = self._clock_ns() - round(self._loop.time() * 1e9)
        self.record.spoken_ns = [
            (round(from_s * 1e9) + offset_ns, round(to_s * 1e9) + offset_ns)
            for from_s, to_s in self._voice.spans_s
        ]
        if late:
            raise TimeoutError(f"{len(late)} generations of {self._tag} did not end")


def _declared(tool: Tool) -> Message:
    parameters = {"type": "object", "properties": {"what": {"type": "string"}}}
    return {"type": "function", "function": {"name": tool.name, "parameters": parameters}}


def _result(calls: Sequence[ToolCalled], tool: Tool) -> list[Message]:
    called = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    results = [
        {"role": "tool", "tool_call_id": call.call_id, "content": tool.result} for call in calls
    ]
    return [{"role": "assistant", "tool_calls": called}, *results]
