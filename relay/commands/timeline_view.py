"""A generation's end for people: phases as bars, attempts as lines."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rtrelay.v1 import Attempt, End, ErrorReason, Outcome

from relay.timeline import PHASES

BAR_CELLS = 44

_COLOURS = {
    "admission": "cyan",
    "route": "cyan",
    "race_wait": "yellow",
    "pool_wait": "cyan",
    "request_sent": "cyan",
    "response_headers": "magenta",
    "first_content": "magenta",
    "relay_out": "cyan",
    "stream": "green",
    "stalls": "red",
    "end": "cyan",
}
"""Cyan is the relay's own time, magenta the provider's thinking, green its streaming."""


def print_end(console: Console, end: End) -> None:
    """Outcome, phases with bars in proportion, attempts, tokens."""
    line = end.timeline
    outcome = Outcome.Name(end.outcome).removeprefix("OUTCOME_").lower()
    answered = ""
    if end.provider:  # else nobody answered, and there is nothing to count
        answered = f", {end.usage.prompt_tokens} in, {end.usage.completion_tokens} out"
        if end.usage.is_estimated:
            answered += " (estimated)"
        answered += f", {escape(f'{end.provider} {end.model}')}"
    console.print(
        f"  [bold]{outcome}[/bold] after {line.wall_us / 1000:.1f} ms{answered}", highlight=False
    )
    if end.error.message:
        console.print(f"  [red]{escape(end.error.message)}[/red]", highlight=False)
    for phase in PHASES:
        spent_us: int = getattr(line, f"{phase}_us")
        if not spent_us:
            continue
        cells = round(BAR_CELLS * spent_us / max(1, line.wall_us))
        bar = "█" * cells if cells else "▏"
        console.print(
            f"  {phase:<17}{spent_us / 1000:>9.2f} ms  [{_COLOURS[phase]}]{bar}[/]",
            highlight=False,
        )
    if len(end.attempts) > 1:
        for attempt in end.attempts:
            console.print(f"  attempt {_attempt(attempt)}", highlight=False)


def _attempt(attempt: Attempt) -> str:
    from_ms, to_ms = (
        attempt.start_us / 1000,
        (attempt.start_us + attempt.duration_us) / 1000,
    )
    what = "won" if attempt.is_winner else _reason_name(attempt)
    where = escape(f"{attempt.provider}/{attempt.model}")
    return f"{where}: {from_ms:.1f} to {to_ms:.1f} ms, {what}"


def _reason_name(attempt: Attempt) -> str:
    if not attempt.reason:
        return "stopped"
    return ErrorReason.Name(attempt.reason).removeprefix("ERROR_REASON_").lower()


def own_time_us(end: End) -> int:
    """What the relay itself added before the first output: every phase that is not waiting."""
    line = end.timeline
    return int(
        line.admission_us
        + line.route_us
        + line.pool_wait_us
        + line.request_sent_us
        + line.relay_out_us
    )
