"""Which buckets a generation, an attempt and a session are charged to, and how refusals read."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relay.errors import Code, LimitReached, Reason, Retry, TargetLimited
from relay.governance.charges import (
    ChargeBook,
    Charges,
    Grant,
    Payer,
    limit_reached,
    rate_state,
    target_limited,
)
from relay.governance.ledger import RateState
from relay.governance.limits import KeyLimits, Limits
from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent, Taken
from relay.store.memory_limits import MemoryLimits

ALL = Limits(rpm=10, input_tpm=1000, output_tpm=500, generations=3, sessions=2)
NOW_US = 1_800_000_000_000_000


def spent(store: MemoryLimits, *charges: Charge) -> LimitSpent:
    with pytest.raises(LimitSpent) as raised:
        store.take_nowait(charges, NOW_US)
    return raised.value


def test_a_generation_is_charged_to_every_scope() -> None:
    book = ChargeBook(models={"fast": Limits(rpm=7, output_tpm=70)})
    limits = KeyLimits(ALL, Limits(rpm=20), Limits(input_tpm=9000, generations=5))
    payer = Payer("key_x", "team_y", "org_z", limits)
    charges = book.of_generation(payer, "fast", 120, 60)
    assert list(charges.all) == [
        Charge("key:key_x:generations", 3, 1, LEASE),
        Charge("key:key_x:rpm", 10, 1, RATE),
        Charge("team:team_y:rpm", 20, 1, RATE),
        Charge("organisation:org_z:generations", 5, 1, LEASE),
        Charge("model:fast:rpm", 7, 1, RATE),
        Charge("key:key_x:input_tpm", 1000, 120, RATE),
        Charge("organisation:org_z:input_tpm", 9000, 120, RATE),
        Charge("key:key_x:output_tpm", 500, 60, RATE),
        Charge("model:fast:output_tpm", 70, 60, RATE),
    ]
    assert (charges.inputs_from, charges.outputs_from) == (5, 7)


def test_defaults_are_for_what_has_none_of_its_own() -> None:
    book = ChargeBook(KeyLimits(Limits(rpm=5, input_tpm=50), Limits(rpm=50)))
    payer = Payer("k", "t", "o", KeyLimits(Limits(rpm=8)))
    assert list(book.of_generation(payer, "m", 1, 1).all) == [
        Charge("key:k:rpm", 8, 1, RATE),
        Charge("team:t:rpm", 50, 1, RATE),
        Charge("key:k:input_tpm", 50, 1, RATE),
    ]


def test_nothing_is_charged_where_nothing_is_limited() -> None:
    book = ChargeBook(models={"fast": ALL}, providers={"p": ALL})
    assert list(book.of_generation(Payer("k", "t", "o"), "other", 9, 9).all) == []
    assert book.of_attempt("q", 9, 9) is None
    assert list(book.of_session(Payer("k"))) == []
    assert list(ChargeBook(KeyLimits(ALL)).of_generation(Payer(""), "m", 9, 9).all) == []


def test_without_tokens_none_are_charged() -> None:
    book = ChargeBook(KeyLimits(ALL))
    charges = book.of_generation(Payer("k"), "m", 30, 0)
    assert [charge.bucket for charge in charges.all[charges.inputs_from :]] == ["key:k:input_tpm"]
    assert charges.outputs_from == len(charges.all)


def test_an_answer_that_may_be_longer_than_a_minutes_worth_is_charged_that() -> None:
    charges = ChargeBook(KeyLimits(Limits(output_tpm=500))).of_generation(Payer("k"), "m", 1, 4096)
    assert list(charges.all) == [Charge("key:k:output_tpm", 500, 500, RATE)]


def test_plans_follow_the_limits_of_the_rows() -> None:
    book = ChargeBook()
    for rpm in (5, 6):
        payer = Payer("k", "t", "o", KeyLimits(Limits(rpm=rpm)))
        assert book.of_generation(payer, "m", 1, 1).all[0].limit == rpm
    other_team = Payer("k", "t2", "o", KeyLimits(Limits(rpm=6), Limits(rpm=9)))
    assert book.of_generation(other_team, "m", 1, 1).all[1].bucket == "team:t2:rpm"


def test_names_that_callers_make_up_cost_no_memory() -> None:
    book = ChargeBook(KeyLimits(ALL))
    for number in range(100):
        book.of_generation(Payer("k"), f"made-up-{number}", 1, 1)
    assert len(book._plans) == 1
    for number in range(5000):
        book.of_generation(Payer(f"k{number}"), "m", 1, 1)
    assert len(book._plans) <= 4096


def test_an_attempt_is_charged_to_the_row_whatever_its_model() -> None:
    book = ChargeBook(providers={"openai": Limits(rpm=2, input_tpm=100, generations=1)})
    charges = book.of_attempt("openai", 40, 60)
    assert charges is not None
    assert list(charges.all) == [
        Charge("provider:openai:generations", 1, 1, LEASE),
        Charge("provider:openai:rpm", 2, 1, RATE),
        Charge("provider:openai:input_tpm", 100, 40, RATE),
    ]


def test_a_session_is_held_at_once() -> None:
    book = ChargeBook(KeyLimits(ALL, Limits(sessions=9)), models={"m": ALL})
    assert list(book.of_session(Payer("k", "t", "o"))) == [
        Charge("key:k:sessions", 2, 1, LEASE),
        Charge("team:t:sessions", 9, 1, LEASE),
    ]


def granted(store: MemoryLimits, charges: Charges) -> Grant:
    return Grant(store, charges, store.take_nowait(charges.all, NOW_US))


def left(store: MemoryLimits) -> dict[str, int]:
    book = [("rpm", 10), ("input_tpm", 1000), ("output_tpm", 500)]
    charges = [Charge(f"key:k:{name}", limit, 0, RATE) for name, limit in book]
    levels = store.take_nowait(charges, NOW_US).levels
    return {name: level // 1000 for (name, _), level in zip(book, levels, strict=True)}


def test_what_was_used_in_truth_is_what_is_gone() -> None:
    store = MemoryLimits()
    book = ChargeBook(KeyLimits(ALL))
    grant = granted(store, book.of_generation(Payer("k"), "m", 100, 200))
    assert left(store) == {"rpm": 9, "input_tpm": 900, "output_tpm": 300}
    grant.settle(150, 20, NOW_US)
    assert left(store) == {"rpm": 9, "input_tpm": 850, "output_tpm": 480}
    assert store.held == {}
    grant.settle(999, 999, NOW_US)
    grant.undo(NOW_US)
    assert left(store) == {"rpm": 9, "input_tpm": 850, "output_tpm": 480}


def test_what_nobody_counted_stays_as_it_was_charged() -> None:
    store = MemoryLimits()
    granted(store, ChargeBook(KeyLimits(ALL)).of_generation(Payer("k"), "m", 100, 200)).settle(
        None, None, NOW_US
    )
    assert left(store) == {"rpm": 9, "input_tpm": 900, "output_tpm": 300}
    assert store.held == {}


def test_more_than_was_expected_makes_a_debt() -> None:
    store = MemoryLimits()
    book = ChargeBook(KeyLimits(ALL))
    granted(store, book.of_generation(Payer("k"), "m", 1, 400)).settle(1, 900, NOW_US)
    assert left_output(store) == -400
    charges = book.of_generation(Payer("k"), "m", 1, 1)
    error = spent(store, *charges.all)
    assert error.charge.bucket == "key:k:output_tpm"
    assert error.retry_after_s == pytest.approx(401 / 500 * 60)


def left_output(store: MemoryLimits) -> int:
    return store._rates["key:k:output_tpm"][0] // 1000


def test_what_came_to_nothing_costs_nothing() -> None:
    store = MemoryLimits()
    book = ChargeBook(KeyLimits(ALL))
    granted(store, book.of_generation(Payer("k"), "m", 100, 200)).undo(NOW_US)
    assert left(store) == {"rpm": 10, "input_tpm": 1000, "output_tpm": 500}
    assert store.held == {}


# --- words and figures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "retry_after_s", "text"),
    [
        (
            Charge("team:team_x:rpm", 60, 1, RATE),
            0.75,
            "requests per minute of team team_x: the limit of 60 is used up; come again in 1 s",
        ),
        (
            Charge("key:k:generations", 5, 1, LEASE),
            1.0,
            "generations at once of key k: the limit of 5 is reached; come again in 1 s",
        ),
        (
            Charge("model:llama3:8b:input_tpm", 1000, 4000, RATE),
            None,
            "input tokens per minute of model llama3:8b: the request needs 4000, and the limit is"
            " 1000",
        ),
        (
            Charge("organisation:o:output_tpm", 10, 1, RATE),
            75.001,
            "output tokens per minute of organisation o: the limit of 10 is used up; come again in"
            " 76 s",
        ),
    ],
)
def test_a_refusal_names_scope_and_kind(
    charge: Charge, retry_after_s: float | None, text: str
) -> None:
    level = [0] if charge.kind == RATE else [charge.limit]
    error = limit_reached(LimitSpent(charge, retry_after_s, Taken([charge], level)))
    assert isinstance(error, LimitReached)
    assert error.public_message == text
    assert error.retry_after_s == retry_after_s
    assert (error.status_code, error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.LIMIT_EXCEEDED)
    assert error.retry is Retry.NO
    scope, name, counted = error.metadata["limit_scope"], error.metadata["limit_of"], ""
    counted = error.metadata["limit"]
    assert f"{scope}:{name}:{counted}" == charge.bucket
    assert (error.rate_state is None) is (charge.kind == LEASE)


def test_a_full_row_lets_another_target_be_asked() -> None:
    charge = Charge("provider:openai:rpm", 500, 1, RATE)
    error = target_limited(LimitSpent(charge, 0.12, Taken([charge], [0])))
    assert isinstance(error, TargetLimited)
    assert error.retry is Retry.SAFE
    assert (
        "requests per minute of provider openai: the limit of 500 is used up"
        in error.public_message
    )


def test_headers_speak_of_the_scope_nearest_to_its_limit() -> None:
    taken = Taken(
        [
            Charge("key:k:rpm", 60, 1, RATE),
            Charge("team:t:rpm", 1000, 1, RATE),
            Charge("key:k:generations", 1, 1, LEASE),
            Charge("key:k:input_tpm", 1000, 5, RATE),
            Charge("key:k:output_tpm", 500, 5, RATE),
        ],
        [30_000, 400_500, 1, 900_000, -1],
    )
    assert rate_state(taken) == pytest.approx((1000, 400, 35.97, 500, 0, 60.00012))


def test_headers_speak_only_of_what_is_limited() -> None:
    lease = Charge("key:k:generations", 1, 1, LEASE)
    assert rate_state(Taken([lease], [1])) is None
    rpm = Charge("key:k:rpm", 60, 1, RATE)
    assert rate_state(Taken([rpm], [60_000])) == RateState(60, 60, 0.0, None, 0, 0.0)


class Corrected:
    """A store that notes what is corrected and given back."""

    def __init__(self) -> None:
        self.by: list[tuple[str, int]] = []
        self.back: list[tuple[str, int]] = []

    def correct(self, bucket: str, limit: int, by: int, now_us: int) -> None:
        self.by.append((bucket, by))

    def give_back(self, bucket: str, amount: int) -> None:
        self.back.append((bucket, amount))


def test_undone_exactly_what_was_taken_comes_back_and_once() -> None:
    store = Corrected()
    charges = ChargeBook().of_generation(Payer("k", limits=KeyLimits(ALL)), "m", 120, 60)
    grant = Grant(cast(Any, store), charges, Taken(tuple(charges.all), ()))
    grant.undo(NOW_US)
    grant.undo(NOW_US)
    grant.settle(1, 1, NOW_US)
    assert store.back == [("key:k:generations", 1)]
    assert store.by == [("key:k:rpm", -1), ("key:k:input_tpm", -120), ("key:k:output_tpm", -60)]


def test_a_request_that_is_no_generation_is_charged_to_limits_of_requests_alone() -> None:
    charges = ChargeBook().of_request(Payer("k", limits=KeyLimits(ALL)), "m")
    assert list(charges.all) == [Charge("key:k:rpm", 10, 1, RATE)]
    assert (charges.inputs_from, charges.outputs_from) == (1, 1)


def test_plans_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.governance.charges._MAX_PLANS", 2)
    book = ChargeBook()
    for name, known in (("a", 1), ("b", 2), ("a", 2), ("c", 1), ("d", 2)):
        book.of_generation(Payer(name), "m", 1, 1)
        assert len(book._plans) == known, name


def test_of_two_that_are_as_near_to_their_limits_the_first_is_told() -> None:
    charges = [Charge("key:k:rpm", 10, 1, RATE), Charge("team:t:rpm", 20, 1, RATE)]
    state = rate_state(Taken(tuple(charges), (5_000, 10_000)))
    assert state is not None
    assert (state.limit_requests, state.remaining_requests) == (10, 5)


def test_seconds_until_a_limit_is_full_are_told_in_parts() -> None:
    state = rate_state(Taken((Charge("key:k:rpm", 7, 1, RATE),), (6_999,)))
    assert state is not None
    assert state.remaining_requests == 6
    assert state.reset_requests_s == pytest.approx(60 / 7 / 1000, rel=1e-9)
