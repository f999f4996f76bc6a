"""The race for the first content event.

The model is happy eyeballs (RFC 8305) as trio writes it: start an attempt, start the next when it
fails, commit to the first that is ready and move the ownership of its stream to the caller. A
failed attempt has released everything by the time it raises.

This version runs one attempt at a time: the next starts at once when one fails and never before.
Hedging adds the second trigger, a timer, at the place marked below; commit, order and the report
of failures stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.attempt import Attempt
from relay.errors import AllAttemptsFailed, RelayError, Retry, UnsupportedFeature
from relay.routing.plan import PlannedAttempt


async def run_race(
    planned: Sequence[PlannedAttempt], start: Callable[[PlannedAttempt], Attempt]
) -> Attempt:
    """Try the planned attempts in order until one is ready, and return it.

    An attempt on a reused connection that broke before any response byte is tried once more at
    the same target, free: the provider never saw the request.

    Args:
        planned: at least one, in the order to try.
        start: makes the attempt's object; called once for each attempt that starts.

    Raises:
        AllAttemptsFailed: every attempt failed, or one failed in a way that no other can mend.

    Cancelled: the running attempt is aborted; none is left behind.
    """
    failures: list[RelayError] = []
    for step in planned:
        is_free_retry = False
        while True:
            attempt = start(step)
            try:
                # A hedge would start the next step beside this await when its delay has passed.
                await attempt.run_until_ready()
            except UnsupportedFeature as error:
                failures.append(error)  # this wire cannot say it; the next one may
                break
            except RelayError as error:
                if error.retry is Retry.IF_REUSED and not is_free_retry:
                    is_free_retry = True
                    continue
                failures.append(error)
                if error.retry is Retry.NO:
                    raise AllAttemptsFailed(failures) from _group(failures)
                break
            attempt.record.is_winner = True
            return attempt
    raise AllAttemptsFailed(failures) from _group(failures)


def _group(failures: Sequence[RelayError]) -> BaseException:
    return failures[0] if len(failures) == 1 else ExceptionGroup("attempts", failures)
