"""What is wrong now, in words: the most serious first.

Each rule says what it sees and what the relay does about it, in one sentence that can be read out
on a call. What needs somebody is `bad`; what the relay copes with, and what only costs, is `warn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from relay.commands.top_frame import AliasRow, Frame, TargetRow

Level = Literal["bad", "warn"]

ERROR_SHARE: Final = 0.10
"""Of a target's attempts, from which on it is told; of at least `LEAST_ERRORS`."""
LEAST_ERRORS: Final = 3
SILENT_S: Final = 2.0
"""Workers beat twice a second."""
FULL_SHARE: Final = 0.95

_REASONS: Final = {
    "consecutive": "it failed several times on end",
    "ratio": "too many of its requests failed",
    "slow": "its first tokens came too late",
    "hint": "other workers had seen it fail",
}


class Problem(NamedTuple):
    """One thing that is wrong."""

    level: Level
    words: str


def problems(frame: Frame) -> list[Problem]:
    """All of them; within a level in the order of the rules."""
    found = list(_found(frame))
    return sorted(found, key=lambda one: one.level != "bad")


def line(frame: Frame, found: list[Problem]) -> str:
    """The one line: what is worst, and how much more there is; or that all is well.

    Args:
        found: what `problems` found in the same frame.
    """
    if found:
        more = len(found) - 1
        return found[0].words + (f" (and {more} more below)" if more else "")
    if not frame.targets:
        return "All is well: nothing was asked yet."
    rate = frame.requests_per_s
    pace = "" if rate is None else f"{rate:,.1f} requests/s over "
    return f"All is well: {pace}{_many(len(frame.targets), 'target')}, all of them taken."


def _found(frame: Frame) -> Iterator[Problem]:
    yield from _process(frame)
    if len(frame.targets) > 1 and all(
        row.breaker in ("open", "half_open") for row in frame.targets
    ):
        yield Problem("bad", "Every target is out: nothing can be answered.")
    for target in frame.targets:
        yield from _target(target, workers=max(1, len(frame.workers)))
    for name, error in frame.credentials.items():
        yield Problem("bad", f"{name} has no good credential: {error}")
    if frame.audit_down:
        yield Problem("bad", f"The audit log is not written: {frame.audit_down}")
    for origin in frame.origins:
        if origin.waiting:
            yield Problem(
                "warn",
                f"{_many(origin.waiting, 'request')} wait for a connection to {origin.origin}"
                + (f": {origin.last_error}" if origin.last_error else "."),
            )
        elif origin.last_error and not origin.connections:
            yield Problem("bad", f"There is no connection to {origin.origin}: {origin.last_error}")
    if frame.suspended:
        yield Problem("warn", "Several providers are slow at once: no hedges are sent.")
    if frame.slow:
        yield Problem("warn", f"First tokens are slow now: {', '.join(frame.slow)}.")
    if frame.slow_connect:
        yield Problem("warn", f"Connecting is slow now: {', '.join(frame.slow_connect)}.")
    for alias in frame.aliases:
        yield from _alias(alias)


def _process(frame: Frame) -> Iterator[Problem]:
    if frame.is_draining:
        yield Problem("warn", "The relay is shutting down: it takes no new requests.")
    for worker in frame.workers:
        if worker.status in ("gone", "given_up"):
            yield Problem("bad", f"Worker {worker.number} is {worker.status.replace('_', ' ')}.")
        elif worker.silent_s is not None and worker.silent_s > SILENT_S:
            yield Problem(
                "bad", f"Worker {worker.number} has been silent for {worker.silent_s:.0f} s."
            )
        elif worker.why:
            yield Problem("warn", f"Worker {worker.number} does not answer: {worker.why}")


def _target(row: TargetRow, workers: int) -> Iterator[Problem]:
    out = row.breakers.get("open", 0) + row.breakers.get("half_open", 0)
    where = f" in {out} of {workers} workers" if workers > 1 and out < workers else ""
    why = _REASONS.get(row.reason, row.reason)
    if row.breaker in ("open", "half_open"):
        when = "it is being tried" if row.breaker == "half_open" else _retry(row)
        because = f", since {why}" if why else ""
        yield Problem("bad", f"{row.name} is out{where}{because}; {when}.")
    elif row.breaker == "ramp":
        yield Problem(
            "warn", f"{row.name} is coming back: {row.share:.0%} of its traffic goes there."
        )
    elif row.suspected:
        yield Problem("warn", f"{row.name} is suspected: others have seen it fail.")
    errors = row.failed + row.overloaded
    share = row.error_share
    is_out = row.breaker in ("open", "half_open")  # which says enough
    if not is_out and share is not None and share >= ERROR_SHARE and errors >= LEAST_ERRORS:
        what = "is too busy for" if row.overloaded > row.failed else "fails"
        yield Problem("bad", f"{row.name} {what} {share:.0%} of its requests.")
    if row.limit and row.in_flight >= FULL_SHARE * row.limit:
        yield Problem(
            "warn", f"{row.name} is full: {row.in_flight} of {row.limit} requests at once."
        )
    elif row.breaker == "closed" and row.wait_s > 0.01:
        yield Problem("warn", f"{row.name} is held back for {row.wait_s:.1f} s by its rate limits.")


def _retry(row: TargetRow) -> str:
    return f"tried again in {row.retry_in_s:.0f} s" if row.retry_in_s >= 1 else "tried again now"


def _alias(row: AliasRow) -> Iterator[Problem]:
    if row.throttled:
        yield Problem("warn", f"Hedges of {row.name} are held back, since too much fails.")
    if row.unpaid_now:
        yield Problem(
            "warn",
            f"{_many(row.unpaid_now, 'hedge')} of {row.name} did not start: their budget is spent.",
        )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
