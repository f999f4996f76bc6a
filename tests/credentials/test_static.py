"""Several keys of one row: who serves, who is left alone and how long."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.credentials.static import (
    FIRST_QUARANTINE_S,
    LONGEST_QUARANTINE_S,
    StaticCredential,
)
from relay.transport.base import Headers
from tests.credentials.calls import AT_S, call
from tests.fakes.properties import examples

KEYS = ["sk-one-0123456789", "sk-two-0123456789", "sk-three-0123456789"]


def key_at(one: StaticCredential, wall_s: float = AT_S, session: str = "") -> str:
    ((name, value),) = one.headers(call(session=session), wall_s)
    assert name == "authorization"
    return value.removeprefix("Bearer ")


def answer(one: StaticCredential, status: int, key: str, wall_s: float = AT_S) -> bool:
    sent: Headers = [("authorization", f"Bearer {key}")]
    return one.answered(status, [], sent, wall_s, wall_s - AT_S)


@pytest.mark.parametrize(
    ("auth", "wanted"),
    [
        ("bearer", [("authorization", "Bearer sk-one-0123456789")]),
        ("x-api-key", [("x-api-key", "sk-one-0123456789")]),
        ("none", []),
    ],
)
def test_in_the_header_that_the_row_wants(auth: str, wanted: Headers) -> None:
    one = StaticCredential(KEYS[:1], auth)
    assert one.headers(call(), AT_S) == wanted
    assert one.secrets() == (() if auth == "none" else (KEYS[0],))


def test_without_a_key_there_is_no_header() -> None:
    one = StaticCredential([], "bearer")
    assert one.headers(call(session="s"), AT_S) == []
    assert not one.answered(401, [], [], AT_S, 0.0)


def test_a_single_key_is_never_left_alone() -> None:
    one = StaticCredential(KEYS[:1], "bearer")
    assert not answer(one, 401, KEYS[0])
    assert key_at(one) == KEYS[0]
    assert one.wait_s(0.0) == 0.0


def test_the_first_that_serves() -> None:
    one = StaticCredential(KEYS, "bearer")
    assert {key_at(one, session=f"s{number}") for number in range(20)} == {KEYS[0]}
    assert answer(one, 401, KEYS[0]), "another try has another key"
    assert key_at(one) == KEYS[1]
    assert answer(one, 429, KEYS[1])
    assert key_at(one) == KEYS[2]
    assert key_at(one, AT_S + FIRST_QUARANTINE_S) == KEYS[0]


def test_left_alone_twice_as_long_each_time_and_at_most_an_hour() -> None:
    one = StaticCredential(KEYS[:2], "bearer")
    at_s, lengths = AT_S, []
    for _ in range(9):
        answer(one, 401, KEYS[0], at_s)
        began_s = at_s
        while key_at(one, at_s) != KEYS[0]:
            at_s += 30
        lengths.append(at_s - began_s)
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_requests_under_way_do_not_make_it_longer() -> None:
    one = StaticCredential(KEYS[:2], "bearer")
    for late_s in range(10):
        answer(one, 401, KEYS[0], AT_S + late_s)
    assert key_at(one, AT_S + FIRST_QUARANTINE_S - 0.001) == KEYS[1]
    assert key_at(one, AT_S + FIRST_QUARANTINE_S) == KEYS[0]


def test_one_that_serves_again_begins_anew() -> None:
    one = StaticCredential(KEYS[:2], "bearer")
    answer(one, 401, KEYS[0])
    assert one.describe(0.0).last_error == "1 of 2 keys refused lately"
    answer(one, 200, KEYS[0], AT_S + 1)  # was under way before
    assert key_at(one, AT_S + 1) == KEYS[1]
    answer(one, 200, KEYS[0], AT_S + 61)
    assert one.describe(0.0).last_error == ""
    answer(one, 401, KEYS[0], AT_S + 62)
    assert key_at(one, AT_S + 62 + FIRST_QUARANTINE_S) == KEYS[0]


def test_of_those_that_are_all_refused_the_one_that_is_due_first() -> None:
    one = StaticCredential(KEYS, "bearer")
    for late_s, key in enumerate((KEYS[1], KEYS[0], KEYS[2])):
        is_worth = answer(one, 401, key, AT_S + late_s)
    assert not is_worth, "whoever was refused with all of them has his answer"
    assert key_at(one, AT_S + 3) == KEYS[1]
    assert one.wait_s(3.0) == 0.0


def test_a_clock_that_went_back_shuts_nobody_out() -> None:
    one = StaticCredential(KEYS[:2], "bearer")
    answer(one, 401, KEYS[0])
    assert key_at(one, AT_S - 2 * LONGEST_QUARANTINE_S) == KEYS[0]


def test_spread_sessions_stay_and_only_those_of_a_refused_key_move() -> None:
    one = StaticCredential(KEYS, "bearer", spread=True)
    sessions = [f"session-{number}" for number in range(300)]
    before = {session: key_at(one, session=session) for session in sessions}
    assert before == {session: key_at(one, session=session) for session in sessions}
    counts = [list(before.values()).count(key) for key in KEYS]
    assert min(counts) > 60
    assert key_at(one) == KEYS[0], "no session: the first"
    answer(one, 401, KEYS[1])
    for session, key in before.items():
        now = key_at(one, session=session)
        assert now == (KEYS[2] if key == KEYS[1] else key)


def test_the_same_key_twice_is_one() -> None:
    one = StaticCredential([KEYS[0], KEYS[0]], "bearer")
    assert not answer(one, 401, KEYS[0])


def test_shows_no_key() -> None:
    one = StaticCredential(KEYS, "bearer")
    answer(one, 401, KEYS[0])
    assert not [key for key in KEYS if key in f"{one!r} {one.describe(0.0)!r}"]


class Quarantines(RuleBasedStateMachine):
    """Whatever is answered in whatever order: there is always a key, and one that is left alone is
    not sent while another one is not."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s = AT_S
        self.until_s: dict[str, float] = {}
        self.times: dict[str, int] = {}

    @initialize(count=st.integers(1, 3), spread=st.booleans())
    def make(self, count: int, spread: bool) -> None:
        self.keys = KEYS[:count]
        self.one = StaticCredential(self.keys, "bearer", spread=spread)

    @rule(
        session=st.sampled_from(("", "s", "t", "u")), status=st.sampled_from((200, 401, 403, 429))
    )
    def ask(self, session: str, status: int) -> None:
        key = key_at(self.one, self.at_s, session)
        if len(self.keys) > 1:
            serving = self.serving()
            if serving:
                assert key in serving
            else:
                assert self.until_s[key] == min(self.until_s.values())
        is_worth = answer(self.one, status, key, self.at_s)
        if self.until_s.get(key, 0.0) <= self.at_s:
            if status == 200:
                self.until_s.pop(key, None)
                self.times.pop(key, None)
            else:
                times = self.times.get(key, 0)
                self.times[key] = times + 1
                self.until_s[key] = self.at_s + min(60.0 * 2**times, LONGEST_QUARANTINE_S)
        assert is_worth == (status != 200 and len(self.keys) > 1 and bool(self.serving()))

    def serving(self) -> list[str]:
        return [key for key in self.keys if self.until_s.get(key, 0.0) <= self.at_s]

    @rule(seconds=st.sampled_from((0.5, 30, 60, 600, 3600)))
    def wait(self, seconds: float) -> None:
        self.at_s += seconds

    @invariant()
    def always_has_one(self) -> None:
        if hasattr(self, "one"):
            assert key_at(self.one, self.at_s) in self.keys
            assert self.one.wait_s(self.at_s) == 0.0


TestQuarantines = Quarantines.TestCase
TestQuarantines.settings = examples(60, full=2000)
