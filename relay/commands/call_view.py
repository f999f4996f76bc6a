"""A turn of a call for people: who spoke, was asked and was stopped, along one line of time.

All of it is drawn from stamps: the agent's, and for the providers those of the emulator, which has
the same clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from relay.calls.record import GenerationRecord, TurnRecord

WIDTH: Final = 98
_INDENT, _LABEL = 2, 15
_STEPS_MS: Final = (100, 200, 250, 500, 1000, 2000, 5000)
_TICK_CELLS: Final = 9
"""Between two figures at least so much."""
_TAIL: Final = 0.06
"""What is shown after the last thing that happens, of all before it."""

LEGEND: Final = "░ a provider thinks  ▒ it writes  ● has written  × is reset  ◆ commit  █ speech"


@dataclass(frozen=True, slots=True)
class Stream:
    """A provider's stream, as the provider saw it; nanoseconds of CLOCK_MONOTONIC."""

    provider: str
    prompt_start: str
    start_ns: int
    first_token_ns: int
    """0: there was none."""
    end_ns: int
    is_reset: bool
    tokens: int


def stream_of(row: Mapping[str, Any], provider: str) -> Stream:
    """From the emulator's record."""
    return Stream(
        provider,
        str(row["prompt_start"]),
        int(row["start_ns"]),
        int(row["first_token_ns"]),
        int(row["end_ns"]),
        row["outcome"] == "abandoned",
        int(row["tokens"]),
    )


def by_generation(
    record: TurnRecord, streams: Iterable[Stream]
) -> list[tuple[GenerationRecord, list[Stream]]]:
    """The streams of each generation: of those with these words, the last that had begun."""
    found: list[tuple[GenerationRecord, list[Stream]]] = [(one, []) for one in record.generations]
    for stream in sorted(streams, key=lambda one: one.start_ns):
        for generation, own in reversed(found):
            has_words = bool(stream.prompt_start) and generation.words.startswith(
                stream.prompt_start
            )
            if has_words and generation.started_ns <= stream.start_ns:
                own.append(stream)
                break
    return found


class _Scale:
    """Times to cells. Zero is the caller's last sound."""

    def __init__(self, record: TurnRecord, streams: Sequence[Stream], cells: int) -> None:
        self.cells = cells
        self.zero_ns = record.speech_to_ns
        self.from_ns = record.speech_from_ns
        last_ns = max(
            [record.ended_ns, record.barge_in_ns, record.first_segment_ns]
            + [stream.end_ns for stream in streams]
        )
        self.to_ns = last_ns + round(_TAIL * (last_ns - self.from_ns))
        self.cell_ns = max(1.0, (self.to_ns - self.from_ns) / cells)

    def cell(self, at_ns: int) -> int:
        """The cell of a moment; those outside are at the edge."""
        return min(self.cells - 1, max(0, int((at_ns - self.from_ns) / self.cell_ns)))


class _Lane:
    """One line of the picture."""

    def __init__(self, label: str, scale: _Scale) -> None:
        self._label = label
        self._scale = scale
        self._cells = [(" ", "")] * scale.cells

    def bar(self, from_ns: int, to_ns: int, sign: str, style: str) -> None:
        """From one moment to another, at least a cell."""
        first, last = self._scale.cell(from_ns), self._scale.cell(to_ns)
        for cell in range(first, max(first + 1, last)):
            self._cells[cell] = (sign, style)
        if to_ns > self._scale.to_ns:
            self._cells[-1] = ("→", style)

    def mark(self, at_ns: int, sign: str, style: str = "bold") -> None:
        """At a moment."""
        self._cells[self._scale.cell(at_ns)] = (sign, style)

    def text(self) -> Text:
        """As a line."""
        line = Text(" " * _INDENT + self._label.ljust(_LABEL))
        for sign, style in self._cells:
            line.append(sign, style)
        line.rstrip()
        return line


def picture(record: TurnRecord, streams: Sequence[Stream], width: int = WIDTH) -> list[Text]:
    """The turn as lanes of at most so many characters."""
    scale = _Scale(record, streams, max(20, width - _INDENT - _LABEL))
    caller = _Lane("caller", scale)
    caller.bar(record.speech_from_ns, record.speech_to_ns, "█", "blue")
    if record.barge_in_ns:
        caller.bar(record.barge_in_ns, scale.to_ns + 1, "█", "blue")
    transcripts = _Lane("transcripts", scale)
    for number, (at_ns, _) in enumerate(record.interims_ns, 1):
        transcripts.mark(at_ns, str(number))
    transcripts.mark(record.final_ns, "F")
    lanes = [caller, transcripts]
    for generation, own in by_generation(record, streams):
        for stream in own:
            lane = _Lane(f"{_name(record, generation)} {stream.provider}", scale)
            _draw(lane, generation, stream)
            lanes.append(lane)
    if record.tools_ns:
        tools = _Lane("tool", scale)
        for from_ns, to_ns in record.tools_ns:
            tools.bar(from_ns, to_ns, "▓", "yellow")
        lanes.append(tools)
    agent = _Lane("agent", scale)
    for from_ns, to_ns in record.spoken_ns:
        agent.bar(from_ns, to_ns, "█", "cyan")
    lanes.append(agent)
    return [_axis(scale), *(lane.text() for lane in lanes)]


def _draw(lane: _Lane, generation: GenerationRecord, stream: Stream) -> None:
    lane.bar(stream.start_ns, stream.first_token_ns or stream.end_ns, "░", "magenta")
    if stream.first_token_ns:
        lane.bar(stream.first_token_ns, stream.end_ns, "▒", "green")
    lane.mark(stream.end_ns, "×" if stream.is_reset else "●", "red" if stream.is_reset else "green")
    if generation.role == "guess" and generation.committed_ns:
        lane.mark(generation.committed_ns, "◆", "bold yellow")


def _name(record: TurnRecord, generation: GenerationRecord) -> str:
    if generation.role != "guess":
        return "call" if record.tools_ns and generation.role == "answer" else "answer"
    guesses = [one for one in record.generations if one.role == "guess"]
    return f"guess {guesses.index(generation) + 1}"


def _axis(scale: _Scale) -> Text:
    """Milliseconds, 0 at the caller's last sound."""
    step_ms = next(
        (step for step in _STEPS_MS if step * 1e6 / scale.cell_ns >= _TICK_CELLS), _STEPS_MS[-1]
    )
    cells = [" "] * scale.cells
    first = -int((scale.zero_ns - scale.from_ns) / 1e6 // step_ms)
    last = int((scale.to_ns - scale.zero_ns) / 1e6 // step_ms)
    for tick in range(first, last + 1):
        figure = str(tick * step_ms)
        at = scale.cell(scale.zero_ns + round(tick * step_ms * 1e6))
        if at + len(figure) <= scale.cells:
            cells[at : at + len(figure)] = figure
    line = " " * _INDENT + "ms".ljust(_LABEL) + "".join(cells)
    return Text(line.rstrip(), style="dim")


def facts(record: TurnRecord, streams: Sequence[Stream]) -> list[str]:
    """What the picture is too coarse for, a sentence a line."""
    lines: list[str] = []
    answer = record.answer
    if record.first_segment_ns and answer is not None:
        waited_ms = _ms(record.speech_to_ns, record.first_segment_ns)
        line = f"first sentence {waited_ms:.0f} ms after the caller's last sound"
        if answer.role == "guess":
            was_there_ms = _ms(answer.started_ns, record.final_ns)
            line += f", begun {was_there_ms:.0f} ms before the turn was certain"
        lines.append(line)
    for generation, own in by_generation(record, streams):
        lines += _stops(record, generation, own)
    return lines


def _stops(record: TurnRecord, generation: GenerationRecord, own: Sequence[Stream]) -> list[str]:
    """How its streams were stopped, or what they wrote in vain."""
    lines = []
    why = generation.cancel_reason
    what = "barge-in" if why == "barge_in" else f"{_name(record, generation)} {why}"
    for stream in own:
        tokens = f"after {stream.tokens} tokens" if stream.tokens else "before its first token"
        reset = f"{stream.provider} noticed the reset"
        if generation.cancelled_ns and stream.is_reset:
            took_ms = _ms(generation.cancelled_ns, stream.end_ns)
            line = f"{what}: {reset} {took_ms:.1f} ms later, {tokens}"
        elif why:
            line = f"{what}: {stream.provider} had written all its {stream.tokens} tokens"
        elif stream.is_reset and (others := [one for one in own if one is not stream]):
            lines.append(_overtaken(stream, others[-1], f"{reset} %.1f ms after that, {tokens}"))
            continue
        else:
            continue
        lines.append(line if generation.first_piece_ns else f"{line}; nothing of it was released")
    return lines


def _overtaken(stream: Stream, other: Stream, reset: str) -> str:
    after_ms = _ms(stream.start_ns, other.start_ns)
    asked = f"{other.provider} was asked {after_ms:.0f} ms after {stream.provider}"
    # Not by who of them began or ended first: the reset and the next request go out together, on
    # connections of their own. A hedge's loser is stopped after the other's first word.
    if other.first_token_ns > stream.end_ns:
        return f"failover: {asked}, which had sent nothing and was reset"
    took_ms = _ms(other.first_token_ns, stream.end_ns)
    return f"hedge: {asked} and wrote first; {reset % took_ms}"


def _ms(from_ns: int, to_ns: int) -> float:
    return (to_ns - from_ns) / 1e6
