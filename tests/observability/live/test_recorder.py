"""A worker's ring and counts: bounded, and told once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay import logs
from relay.content import GenerateRequest, Message, Role, TextPart
from relay.errors import MAX_SHOWN_CHARS, BreakerOpen, LimitReached, SlowConsumer, StreamReset
from relay.governance.known_secrets import KnownSecrets
from relay.observability.live import slices
from relay.observability.live.recorder import RECENT, Recorder
from relay.observability.live.slices import DIRECT, OTHERS, SLICES, Slice, Slices
from relay.outcome import AttemptOutcome, AttemptRole, HedgeRecord
from tests.observability.live.ends import attempt, ended, lost, request, tell, won


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def recorder(clock: Clock | None = None, **more: Any) -> Recorder:
    made = {"number": 1, "instance": "i_1", "has_name": "voice".__eq__, "state": dict, **more}
    return Recorder(now_s=clock or Clock(), **made)


def test_the_ring_is_bounded_and_each_end_is_told_once() -> None:
    one = recorder()
    for number in range(RECENT + 10):
        tell(one, won(), request(), f"gen_{number}", "generate")
    whole = one.answer({})
    assert len(whole["ends"]) == RECENT
    assert whole["ends"][-1]["id"] == f"gen_{RECENT + 9}"
    seen = {"1": ["i_1", whole["seq"], whole["slices"][-1]["index"]]}
    assert one.answer({"seen": seen})["ends"] == []
    tell(one, won(), request(), "gen_new", "generate")
    assert [row["id"] for row in one.answer({"seen": seen})["ends"]] == ["gen_new"]
    # What another instance at this place had told says nothing of this one.
    other = {"1": ["i_0", whole["seq"], 0]}
    assert len(one.answer({"seen": other})["ends"]) == RECENT


def test_the_state_is_asked_for_only_when_it_is_wanted() -> None:
    asked: list[int] = []

    def state() -> dict[str, int]:
        asked.append(1)
        return {"generations": 2}

    one = recorder(state=state)
    assert "state" not in one.answer({})
    assert not asked
    assert one.answer({"state": True})["state"] == {"generations": 2}


def test_no_prompt_no_answer_and_no_message_is_kept() -> None:
    one = recorder()
    said = GenerateRequest("voice", (Message(Role.USER, (TextPart("my secret plan"),)),))
    broken = ended(
        attempt(first_us=None, outcome=AttemptOutcome.FAILURE, error=StreamReset("secret text")),
        error=StreamReset("secret text"),
    )
    tell(one, broken, said, "gen_1", "generate")
    told = orjson.dumps(one.answer({}), option=orjson.OPT_NON_STR_KEYS).decode()
    assert "secret" not in told
    assert "UPSTREAM_RESET" in told


def test_names_of_clients_are_one_alias_together() -> None:
    one = recorder()
    for name in ("voice", "north/a", "north/b"):
        tell(one, won(), request(name), "gen", "generate")
    assert set(one.answer({})["slices"][0]["aliases"]) == {"voice", DIRECT}


def test_a_bug_costs_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(name: str) -> bool:
        raise KeyError("no")

    one = recorder(has_name=broken)
    tell(one, won(), request(), "gen_1", "generate")
    assert "live_bug" in capsys.readouterr().out


def test_what_a_race_counts() -> None:
    clock = Clock()
    one = recorder(clock)
    hedge = HedgeRecord("learned", delay_us=100_000, fired=1, won=True, added_cost=7.0)
    race = ended(
        lost(ended_us=300_000, cost=5.0),
        attempt(
            "south/b",
            started_us=100_000,
            role=AttemptRole.HEDGE,
            is_winner=True,
            cost=12.0,
        ),
        hedge=hedge,
    )
    tell(one, race, request(), "gen_1", "generate")
    tell(
        one,
        ended(
            attempt(first_us=None, outcome=AttemptOutcome.IGNORED, error=BreakerOpen("not now")),
            error=LimitReached("too many"),
        ),
        request(),
        "gen_2",
        "generate",
    )
    counted = Slices()
    counted.take("voice", race, clock())
    (each,) = counted.since(0)
    first, second = each.pairs["voice", "north/a"], each.pairs["voice", "south/b"]
    assert (first.started, first.lost, first.lost_us, first.won) == (1, 1, 300_000, 0)
    assert (sum(first.finished.values()), sum(first.censored.values())) == (0, 1)
    assert (second.started, second.hedges, second.won) == (1, 1, 1)
    alias = each.aliases["voice"]
    assert (alias.fired, alias.hedge_won, alias.cost, alias.added_cost) == (1, 1, 17.0, 7.0)
    told = one.answer({})["slices"][0]
    north = next(row for row in told["pairs"] if row[1] == "north/a")
    assert north[4 + slices.PAIR_FIELDS.index("held_back")] == 1
    assert north[4 + slices.PAIR_FIELDS.index("started")] == 1


def test_slices_slide_and_a_clock_that_goes_back_loses_nothing() -> None:
    counted = Slices()
    for step in range(SLICES + 5):
        counted.take("voice", won(), step * 10.0)
    held = list(counted.since(0))
    assert len(held) == SLICES
    assert held[0].index == 5
    counted.take("voice", won(), 0.0)
    assert list(counted.since(0))[-1].aliases["voice"].fates == {"ok": 2}


def test_a_slice_is_bounded() -> None:
    one = Slice(1)
    for number in range(500):
        one.take(f"alias {number}", won(target=f"north/{number}"))
    assert len(one.aliases) == slices.MAX_ALIASES + 1
    assert len(one.pairs) == slices.MAX_PAIRS + 1
    assert one.aliases[OTHERS].fates["ok"] == 500 - slices.MAX_ALIASES


def test_who_does_not_read_has_left() -> None:
    one = recorder()
    tell(one, ended(error=SlowConsumer("reads nothing")), request(), "gen_1", "generate")
    told = one.answer({})
    assert told["ends"][0]["fate"] == "cancelled"
    aliases = told["slices"][0]["aliases"]["voice"]
    assert aliases[slices.ALIAS_FIELDS.index("fates")] == {"cancelled": 1}
    assert aliases[slices.ALIAS_FIELDS.index("reasons")] == {}


def test_a_key_in_place_of_a_name_is_masked_and_long_names_are_cut() -> None:
    secret = "sk-canary-0123456789abcdef"
    logs.hide_with(KnownSecrets([secret]).hide)
    try:
        one = recorder()
        for name in (secret, "x" * 100_000):
            hedge = HedgeRecord("learned", second=f"north/{name}")
            end = ended(attempt(f"north/{name}", is_winner=True), hedge=hedge)
            tell(one, end, request(f"north/{name}", turn_id=name), "gen_1", "generate")
    finally:
        logs.hide_with(str)
    told = orjson.dumps(one.answer({}), option=orjson.OPT_NON_STR_KEYS).decode()
    assert "canary" not in told
    assert "north/***" in told
    assert "x" * MAX_SHOWN_CHARS in told
    assert "x" * (MAX_SHOWN_CHARS + 1) not in told
