"""The line of a generation: which are written, and nobody's secrets in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from relay import logs
from relay.content import Policy
from relay.errors import ClientCancelled, ConnectError, SlowConsumer
from relay.generation_log import GenerationLog
from relay.governance.known_secrets import KnownSecrets
from relay.outcome import AttemptRecord, Ended
from relay.trace_context import is_in_share, trace_of
from tests.fakes.ends import end_of
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time

CANARY = "sk-canary-0123456789abcdef"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def knowing() -> Iterator[None]:
    logs.hide_with(KnownSecrets([CANARY]).hide)
    yield
    logs.hide_with(str)


def ended(number: int = 0, **more: object) -> Ended:
    fields = {"attempts": [AttemptRecord("a", "m", 0)], **more}
    end = end_of(**fields)  # type: ignore[arg-type]
    object.__setattr__(end, "stall_count", 0)
    return Ended(end, request(), f"gen_{number}", "test", was_planned=True)


def logged(log: GenerationLog, *told: Ended) -> list[str]:
    with capture_logs() as lines:
        for one in told:
            log(one)
    return [line["id"] for line in lines]


def test_a_share_is_logged_and_says_so() -> None:
    log = GenerationLog(0.25, 2_000_000, makes_traces=False)
    told = [ended(number) for number in range(400)]
    with capture_logs() as lines:
        for one in told:
            log(one)
    traces = {one.generation_id: trace_of(one.generation_id, "").trace_id for one in told}
    kept = [name for name, trace in traces.items() if is_in_share(trace, 0.25)]
    assert [line["id"] for line in lines] == kept
    assert 60 < len(kept) < 140
    assert {line["share"] for line in lines} == {0.25}
    assert log.left_out == 400 - len(kept)


def test_what_matters_is_always_logged() -> None:
    log = GenerationLog(0.0, 2_000_000, makes_traces=False)
    failed = ended(1, error=ConnectError("x"))
    hedged = ended(2, attempts=[AttemptRecord("a", "m", 0), AttemptRecord("b", "m", 5)])
    slow = ended(3)
    slow.end.phases_us["response_headers"] = 3_000_000
    stalled = ended(4)
    object.__setattr__(stalled.end, "stall_count", 1)
    cancelled = ended(5, error=ClientCancelled("x"))
    unread = ended(6, error=SlowConsumer("x"))
    assert logged(log, failed, hedged, slow, stalled, cancelled, unread, ended(7)) == [
        "gen_1",
        "gen_2",
        "gen_3",
        "gen_4",
    ]
    assert log.left_out == 3


def test_with_traces_a_line_has_the_trace_of_its_spans() -> None:
    with capture_logs() as lines:
        GenerationLog(1.0, 1, makes_traces=True)(ended(7))
        GenerationLog(1.0, 1, makes_traces=False)(ended(7))
    assert lines[0]["trace_id"] == trace_of("gen_7", "").trace_id
    assert lines[1]["trace_id"] is None
    assert lines[0]["share"] is None


@on_virtual_time
async def test_no_secret_in_any_words_of_a_caller(knowing: None) -> None:
    policy = Policy(
        session_id=CANARY,
        turn_id=CANARY,
        labels={CANARY: f"x {CANARY}"},
        tags=(CANARY,),
        client=CANARY,
        traceparent=PARENT,
    )
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("a"))})
    with capture_logs() as lines:
        for model in ("fast", CANARY, f"a/{CANARY}"):
            await scenario.generate(request(model=model, policy=policy), client_id=CANARY)
    await scenario.settled()
    assert len(lines) == 3
    assert "canary" not in str(lines)
    assert lines[0]["labels"] == {"***": "x ***"}
    assert lines[0]["trace_id"] == PARENT[3:35]
