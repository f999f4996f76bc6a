"""Answers that may yet be discarded: what is withheld until the commit, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import Budgets, GenerateRequest, Policy
from relay.errors import CancelReason, ConnectError, StreamReset
from relay.outcome import AttemptRole
from relay.speculation import LONGEST_S
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import Chunks, Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time, run, since_start_s
from tests.test_session import WHOLE, WORDS, Call, Client, at

SPEAKS = FakeEndpoint(headers_s=0.25, chunks=answer(*WORDS, first_s=0.25, gap_s=0.25))


def calls(*, gap_s: float = 0.25) -> Chunks:
    """Some words, then a tool call, then the end."""
    function = {"name": "book", "arguments": "{}"}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    return [
        (0.25, chunk({"content": "Let me see. "})),
        (gap_s, chunk({"tool_calls": [call]})),
        (gap_s, chunk(finish="tool_calls")),
        (0.0, DONE),
    ]


CALLS = FakeEndpoint(headers_s=0.25, chunks=calls())


def speculative(*, hold: bool = False, **policy: Any) -> Callable[[], GenerateRequest]:
    made = request(policy=Policy(speculative=True, hold_until_commit=hold, **policy))
    return lambda: made


async def played(provider: FakeEndpoint, *, hold: bool, commit_s: float | None) -> Call:
    call = Call({"a": provider})
    call.start("g", speculative(hold=hold))
    if commit_s is not None:
        at(commit_s, call.session.commit, "g")
    await call.half_close()
    return call


# --- what is withheld -----------------------------------------------------------------------


@pytest.mark.parametrize("commit_s", [0.0, 0.3, 0.6, 0.9, 1.25, 5.0])
@on_virtual_time
async def test_what_is_held_comes_with_the_commit(commit_s: float) -> None:
    call = await played(SPEAKS, hold=True, commit_s=commit_s)
    frames = call.client.of("g")
    assert frames[0] == ("started", "")
    assert frames[-1] == ("end", "OK")
    assert "".join(content for kind, content in frames if kind == "text") == WHOLE
    assert call.client.times_s[1] == max(commit_s, 0.5)
    assert call.client.times_s[-1] == max(commit_s, 1.25)


@pytest.mark.parametrize(
    ("commit_s", "times_s"),
    [(0.0, [0.5, 1.0, 1.0]), (0.8, [0.5, 1.0, 1.0]), (3.0, [0.5, 3.0, 3.0])],
)
@on_virtual_time
async def test_words_go_at_once_and_tool_calls_with_the_commit(
    commit_s: float, times_s: list[float]
) -> None:
    call = await played(CALLS, hold=False, commit_s=commit_s)
    assert call.client.of("g") == [
        ("started", ""),
        ("text", "Let me see. "),
        ("call", "book"),
        ("end", "OK"),
    ]
    assert call.client.times_s[1:] == times_s


@on_virtual_time
async def test_an_answer_of_words_alone_ends_without_a_commit() -> None:
    call = await played(SPEAKS, hold=False, commit_s=None)
    assert call.client.of("g")[-1] == ("end", "OK")
    assert call.client.times_s[-1] == 1.25


@on_virtual_time
async def test_a_batch_with_words_and_a_call_is_taken_apart() -> None:
    function = {"name": "book", "arguments": "{}"}
    call_ = {"index": 0, "id": "c1", "type": "function", "function": function}
    both = chunk({"content": "Let me see. "}) + chunk({"tool_calls": [call_]})
    rest = chunk(finish="tool_calls") + DONE
    provider = FakeEndpoint(headers_s=0.25, chunks=[(0.25, both + rest)])
    call = await played(provider, hold=False, commit_s=2.0)
    assert call.client.of("g")[1:] == [("text", "Let me see. "), ("call", "book"), ("end", "OK")]
    assert call.client.times_s[1:] == [0.5, 2.0, 2.0]


# --- what becomes of it ---------------------------------------------------------------------


@pytest.mark.parametrize("cancel_s", [0.1, 0.6, 3.0])
@on_virtual_time
async def test_what_is_discarded_is_never_heard(cancel_s: float) -> None:
    call = Call({"a": SPEAKS})
    call.start("g", speculative(hold=True))
    at(cancel_s, call.session.cancel, "g", CancelReason.SPECULATION_DISCARDED)
    await call.half_close()
    assert call.client.of("g") == [("started", ""), ("end", "CANCELLED SPECULATION_DISCARDED")]
    assert call.client.times_s[-1] == cancel_s


@on_virtual_time
async def test_a_failure_is_told_without_waiting() -> None:
    broken = FakeEndpoint(
        headers_s=0.25, chunks=[(0.25, chunk({"content": "Hel"}))], fault=StreamReset("gone")
    )
    call = await played(broken, hold=True, commit_s=None)
    assert call.client.of("g") == [("started", ""), ("end", "UPSTREAM_RESET")]


@on_virtual_time
async def test_limits_of_time_go_on_while_it_is_held() -> None:
    call = Call({"a": SPEAKS})
    call.start("g", speculative(hold=True, budgets=Budgets(total_s=4.0)))
    await call.half_close()
    assert call.client.of("g")[-1] == ("end", "DEADLINE_EXCEEDED")
    assert call.client.times_s[-1] == 4.0


@on_virtual_time
async def test_nobody_commits() -> None:
    call = await played(SPEAKS, hold=True, commit_s=None)
    assert call.client.of("g")[-1] == ("end", "DEADLINE_EXCEEDED")
    assert call.client.times_s[-1] == pytest.approx(1.25 + LONGEST_S)


@on_virtual_time
async def test_a_long_answer_is_read_no_further_than_may_be_held() -> None:
    words = [(0.05, chunk({"content": "x" * 1000})) for _ in range(200)]
    provider = FakeEndpoint(chunks=[*words, (0.0, chunk(finish="stop")), (0.0, DONE)])
    call = Call({"a": provider})
    call.start("g", speculative(hold=True))
    at(20.0, call.session.commit, "g")
    await call.half_close()
    text = "".join(content for kind, content in call.client.of("g") if kind == "text")
    assert text == "x" * 200_000
    assert call.client.times_s[1] == 20.0
    # 66 of them had been held, and were let go at once.
    assert len(call.client.of("g")[1][1]) == 66_000


@on_virtual_time
async def test_commits_that_change_nothing() -> None:
    call = Call()
    call.session.commit("nobody")
    call.start("plain")
    call.start("twice", speculative(hold=True))
    for delay_s in (0.1, 0.6, 0.7, 5.0):
        at(delay_s, call.session.commit, "plain")
        at(delay_s, call.session.commit, "twice")
    await call.half_close()
    for name in ("plain", "twice"):
        text = "".join(content for kind, content in call.client.of(name) if kind == "text")
        assert text == WHOLE


# --- races ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commit_s", "second_s"), [(None, None), (0.0, 1.0), (0.5, 1.0), (1.2, 1.2), (2.0, 2.0)]
)
def test_hedges_wait_for_the_commit(commit_s: float | None, second_s: float | None) -> None:
    @on_virtual_time
    async def play() -> None:
        slow = FakeEndpoint(headers_s=4.0, chunks=answer("late"))
        call = Call()
        call.scenario = scenario = Scenario(
            {"a": slow, "b": FakeEndpoint(headers_s=0.25, chunks=answer("soon"))},
            timeouts={"first_token_ms": 9000},
            alias_more={"hedge": {"mode": "active", "delay": 1000, "max_extra_requests": 1.0}},
        )
        call.session._services = scenario.services
        call.start("g", speculative())
        if commit_s is not None:
            at(commit_s, call.session.commit, "g")
        await call.half_close()
        started = dict(scenario.started)
        assert started.get("b") == (
            second_s if second_s is None else pytest.approx(second_s, abs=0.05)
        )

    play()


@on_virtual_time
async def test_a_failed_first_is_replaced_before_the_commit() -> None:
    broken = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
    scenario = Scenario({"a": broken, "b": FakeEndpoint(chunks=answer("Hi"))})
    _, end = await scenario.generate(speculative()())
    assert [record.role for record in end.attempts] == [AttemptRole.PRIMARY, AttemptRole.FAILOVER]
    await scenario.settled()


# --- one for another ------------------------------------------------------------------------


@on_virtual_time
async def test_a_start_takes_the_place_of_others() -> None:
    call = Call(max_live=2)
    call.start("g1", speculative(hold=True))
    call.start("g2")
    at(0.6, call.start, "g3", request, ["g1", "nobody", "g2"])
    await call.half_close()
    assert call.client.of("g1")[-1] == ("end", "CANCELLED SUPERSEDED")
    assert call.client.of("g2")[-1] == ("end", "CANCELLED SUPERSEDED")
    assert call.client.of("g3")[-1] == ("end", "OK")


@on_virtual_time
async def test_who_is_cancelled_before_it_began_never_begins() -> None:
    call = Call()
    call.session.cancel("g", CancelReason.BARGE_IN)
    call.session.cancel("g", CancelReason.SESSION_END)
    call.start("g")
    await call.half_close()
    assert call.client.frames == [("g", "end", "CANCELLED BARGE_IN")]
    assert call.scenario.started == []


@on_virtual_time
async def test_what_is_superseded_before_it_came_begins_all_the_same() -> None:
    call = Call()
    call.start("g1", supersedes=["g2", "g1"])
    call.start("g2")
    await call.half_close()
    assert call.client.of("g1")[-1] == ("end", "OK")
    assert call.client.of("g2")[-1] == ("end", "OK")


@on_virtual_time
async def test_tombstones_are_bounded() -> None:
    call = Call()
    for number in range(10_100):
        call.session.cancel(f"g{number}", CancelReason.BARGE_IN)
    assert len(call.session._buried) == 10_000
    await call.half_close()


# --- the first segment ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "limit_s", "how"),
    [
        (("One", " two. ", "Three"), 1.5, "OK"),
        (("One", " two", " three", " four", " five"), 1.2, "FIRST_SEGMENT_TIMEOUT"),
        (("One",), 0.6, "OK"),  # the end is as good as a sentence
        (("One", " two. "), 0.4, "FIRST_SEGMENT_TIMEOUT"),  # before anything came
    ],
)
@on_virtual_time
async def test_the_first_segment_has_a_limit(
    words: tuple[str, ...], limit_s: float, how: str
) -> None:
    provider = FakeEndpoint(headers_s=0.25, chunks=answer(*words, first_s=0.25, gap_s=0.25))
    call = Call({"a": provider})
    limited = request(policy=Policy(budgets=Budgets(first_segment_s=limit_s)))
    call.start("g", lambda: limited)
    await call.half_close()
    assert call.client.of("g")[-1] == ("end", how)
    if how != "OK":
        assert since_start_s() == limit_s


# --- any order of all of it -----------------------------------------------------------------


class Act(NamedTuple):
    """What a client does, after a while."""

    pause_s: float
    what: str
    name: str
    other: str


NAMES = st.sampled_from(["a", "b", "c", "d"])
ACTS = st.builds(
    Act,
    st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5, 1.0]),
    st.sampled_from(
        ["start", "guess", "hold", "replace", "commit", "commit", "cancel", "all", "leave"]
    ),
    NAMES,
    NAMES,
)


@examples(400, full=10_000)
@given(
    acts=st.lists(ACTS, max_size=14),
    provider=st.sampled_from([SPEAKS, CALLS]),
    write_s=st.sampled_from([0.0, 0.0, 0.25]),
)
def test_any_session_keeps_its_word(
    acts: list[Act], provider: FakeEndpoint, write_s: float
) -> None:
    """No output after an end, one end each, and nothing of what was not committed to."""
    whole = WHOLE if provider is SPEAKS else "Let me see. "

    async def main() -> None:
        call = Call({"a": provider}, client=Client(write_s))
        kinds: dict[str, str] = {}
        committed: set[str] = set()
        gone = False
        for act in acts:
            if act.pause_s:
                await asyncio.sleep(act.pause_s)
            if act.what == "leave":
                gone = True
                break
            if act.what == "commit":
                if act.name in kinds:
                    committed.add(act.name)
                call.session.commit(act.name)
            elif act.what == "cancel":
                call.session.cancel(act.name, CancelReason.BARGE_IN)
            elif act.what == "all":
                call.session.cancel_all(CancelReason.SUPERSEDED)
            elif act.name not in kinds:
                kinds[act.name] = act.what
                make = {"guess": speculative(), "hold": speculative(hold=True)}
                others = [act.other] if act.what == "replace" else []
                call.start(act.name, make.get(act.what, request), others)
        if gone:
            await call.session.aclose()
        await call.half_close()
        for name, kind in kinds.items():
            frames = call.client.of(name)
            told = [kind for kind, _ in frames]
            assert told.count("end") == 1
            assert told[-1] == "end"
            text = "".join(content for what, content in frames if what == "text")
            assert whole.startswith(text)
            is_sure = kind in ("start", "replace") or name in committed
            if kind == "hold" and not is_sure:
                assert told in (["started", "end"], ["end"])
            if not is_sure:
                assert "call" not in told
            if frames[-1][1] == "OK":
                assert text == whole
                assert told.count("call") == (provider is CALLS)

    run(main())
