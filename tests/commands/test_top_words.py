"""What is wrong now, in words."""

from __future__ import annotations

from typing import Any

import pytest

from relay.commands.top_frame import Frame, frame
from relay.commands.top_words import line, problems
from tests.fakes.relay_states import alias, at, several, target, worker


def between(now: dict[str, Any], before: dict[str, Any] | None = None) -> Frame:
    earlier = at(0.0, worker(60, dict.fromkeys(("a/m", "b/m"), target()), {"fast": alias()}))
    return frame(earlier if before is None else at(0.0, before), at(2.0, now))


def told(found: Frame) -> str:
    return line(found, problems(found))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (worker(62, {}), "All is well: nothing was asked yet."),
        (
            worker(62, {"a/m": target(asked=10), "b/m": target()}),
            "All is well: 5.0 requests/s over 2 targets, all of them taken.",
        ),
        (
            worker(62, {"a/m": target(state="open", reason="slow", retry_in_s=4.2)}),
            "a/m is out, since its first tokens came too late; tried again in 4 s.",
        ),
        (
            worker(62, {"a/m": target(state="half_open", reason="consecutive")}),
            "a/m is out, since it failed several times on end; it is being tried.",
        ),
        (
            worker(62, {"a/m": target(state="ramp", share=0.25)}),
            "a/m is coming back: 25% of its traffic goes there.",
        ),
        (
            worker(62, {"a/m": target(suspected=True)}),
            "a/m is suspected: others have seen it fail.",
        ),
        (worker(62, {"a/m": target(asked=10, failed=4)}), "a/m fails 40% of its requests."),
        (
            worker(62, {"a/m": target(asked=10, failed=1, overloaded=4)}),
            "a/m is too busy for 50% of its requests.",
        ),
        (
            worker(62, {"a/m": target(limit=20, in_flight=20)}),
            "a/m is full: 20 of 20 requests at once.",
        ),
        (
            worker(62, {"a/m": target(wait_s=1.5)}),
            "a/m is held back for 1.5 s by its rate limits.",
        ),
        (
            worker(62, credentials={"a": {"last_error": "revoked"}}),
            "a has no good credential: revoked",
        ),
        (
            worker(62, accounts={"audit": {"down": "disk full"}}),
            "The audit log is not written: disk full",
        ),
        (
            worker(62, origins=[{"origin": "https://a", "connections": 1, "waiting": 2}]),
            "2 requests wait for a connection to https://a.",
        ),
        (
            worker(62, origins=[{"origin": "https://a", "last_error": "refused"}]),
            "There is no connection to https://a: refused",
        ),
        (
            worker(
                62, hedging={"common_mode": {"suspended": True, "slow_first_token": ["a", "b"]}}
            ),
            "Several providers are slow at once: no hedges are sent. (and 1 more below)",
        ),
        (
            worker(62, hedging={"common_mode": {"slow_connect": ["a"]}}),
            "Connecting is slow now: a.",
        ),
        (
            worker(62, {}, {"fast": alias(throttled=True)}),
            "Hedges of fast are held back, since too much fails.",
        ),
        (
            worker(62, {}, {"fast": alias(budget_exhausted=1)}),
            "1 hedge of fast did not start: their budget is spent.",
        ),
        (worker(62, draining=True), "The relay is shutting down: it takes no new requests."),
    ],
)
def test_one_line(state: dict[str, Any], words: str) -> None:
    assert told(between(state)) == words


def test_few_errors_are_no_outage() -> None:
    assert told(between(worker(62, {"a/m": target(asked=2, failed=2)}))).startswith("All is well")
    assert told(between(worker(62, {"a/m": target(asked=99, failed=9)}))).startswith("All is well")


def test_what_needs_somebody_comes_first() -> None:
    rows = {"a/m": target(state="ramp", share=0.1), "b/m": target(state="open")}
    found = problems(between(worker(62, rows)))
    assert [one.level for one in found] == ["bad", "warn"]
    assert found[0].words == "b/m is out; tried again now."


def test_nothing_left_is_said_first() -> None:
    rows = {"a/m": target(state="open"), "b/m": target(state="open")}
    assert told(between(worker(62, rows))) == (
        "Every target is out: nothing can be answered. (and 2 more below)"
    )


def test_workers() -> None:
    one = worker(62, {"a/m": target()})
    found = problems(between(several(one, None, one, w1={"silent_s": 7.0}, w2={"status": "gone"})))
    assert [row.words for row in found] == [
        "Worker 1 has been silent for 7 s.",
        "Worker 2 is gone.",
    ]
    rows = several(one, worker(62, {"a/m": target(state="open", reason="hint")}))
    assert told(between(rows)) == (
        "a/m is out in 1 of 2 workers, since other workers had seen it fail; tried again now."
    )
    silent = problems(between(several(one, None)))
    assert silent[0].words == "Worker 1 does not answer: no answer within 1 s"
