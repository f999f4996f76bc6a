"""What a generation's end raises, and that nothing a client writes becomes a label."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from relay.config import MetricsConfig
from relay.content import Policy
from relay.decision import Decision
from relay.errors import (
    BudgetExceeded,
    ClientCancelled,
    Draining,
    FirstTokenTimeout,
    LimitReached,
    SlowConsumer,
    UnknownModel,
)
from relay.observability.metrics.bounds import bounds_of
from relay.observability.metrics.families import FAMILIES, values_of
from relay.observability.metrics.recorder import SPEAKABLE_TOKENS, Recorder
from relay.observability.metrics.snapshot import Rows, Series
from relay.outcome import AttemptOutcome, AttemptRole, HedgeRecord
from relay.whatif.figures import DEAD_AIR_S
from relay.whatif.recorded import SPEAKABLE_TOKENS as OF_REPLAY
from tests.observability.metrics.ends import attempt, ended, usage

BOUNDS = bounds_of(MetricsConfig())


def recorder(**settings: Any) -> Recorder:
    found = Recorder(
        BOUNDS,
        **{
            "max_targets": 10,
            "max_teams": 2,
            "dead_air_s": DEAD_AIR_S,
            "is_booked": False,
            **settings,
        },
    )
    found.configured(["fast"], [("lab", "m"), ("spare", "n")])
    return found


def told(one: Recorder, family: str) -> dict[tuple[str, ...], Any]:
    series: Series = {}
    one.fill(series)
    rows: Rows = series.get(f"rtrelay_{family}", {})
    return {tuple(values_of(key)): value for key, value in rows.items()}


def within(row: list[float], bounds: tuple[float, ...]) -> float:
    """The bound of the bucket that the only value is in."""
    assert sum(row[:-1]) == 1
    return bounds[row.index(1)]


def test_an_answer() -> None:
    one = recorder()
    one.ended(ended())
    assert told(one, "generations_total") == {("fast", "chat_completions", "ok"): 1}
    assert told(one, "generation_errors_total") == {}
    assert within(told(one, "ttft_seconds")["fast",], BOUNDS.ttft) == 0.4
    added = told(one, "added_latency_seconds")["chat_completions",]
    assert within(added, BOUNDS.added) == 0.0005
    assert added[-1] == pytest.approx(0.0005)
    assert within(told(one, "generation_seconds")["chat_completions",], BOUNDS.wall) == 1
    mean = told(one, "token_gap_mean_seconds")["lab", "m"]
    assert mean[-1] == pytest.approx(0.010), "490 ms over 49 gaps"
    assert within(mean, BOUNDS.mean_gap) == 0.010
    assert within(told(one, "token_gap_longest_seconds")["lab", "m"], BOUNDS.longest_gap) == 0.05
    assert told(one, "attempts_total") == {("lab", "m", "primary", "success"): 1}
    assert told(one, "attempts_sent_total") == {("lab", "m"): 1, ("spare", "n"): 0}
    assert told(one, "attempt_ttft_seconds")["lab", "m"][-1] == pytest.approx(0.3)
    assert told(one, "tokens_total") == {
        ("lab", "m", "prompt"): 100,
        ("lab", "m", "cached"): 0,
        ("lab", "m", "completion"): 50,
    }


def test_copies_of_requests_are_no_alias_s() -> None:
    one = recorder()
    one.ended(ended(frontend="shadow"))
    one.ended(ended(frontend="shadow", provider="", attempts=(), error=FirstTokenTimeout("late")))
    assert {key[0] for key in told(one, "generations_total")} == {"_shadow"}
    assert {key[0] for key in told(one, "generation_errors_total")} == {"_shadow"}
    assert sum(told(one, "ttft_seconds")["fast",][:-1]) == 0
    assert told(one, "attempts_total") == {("lab", "m", "primary", "success"): 1}


def test_phases_are_those_that_took_time() -> None:
    one = recorder()
    one.ended(ended())
    phases = told(one, "phase_seconds")
    assert {name[1] for name in phases} == {
        "admission",
        "route",
        "pool_wait",
        "request_sent",
        "response_headers",
        "first_content",
        "relay_out",
        "stream",
        "end",
    }
    assert {name[0] for name in phases} == {"lab"}
    assert sum(row[-1] for row in phases.values()) == pytest.approx(0.79055)


def test_reasoning_is_not_in_the_gaps() -> None:
    one = recorder()
    one.ended(ended(used=usage(148, reasoning_tokens=98)))
    assert told(one, "token_gap_mean_seconds")["lab", "m"][-1] == pytest.approx(0.010)


def test_one_token_has_no_gap() -> None:
    one = recorder()
    one.ended(ended(used=usage(1)))
    assert sum(told(one, "token_gap_mean_seconds")["lab", "m"]) == 0


@pytest.mark.parametrize(
    ("error", "outcome", "source", "reason"),
    [
        (ClientCancelled("left"), "cancelled", "downstream", "client_cancelled"),
        (SlowConsumer("reads nothing"), "cancelled", "downstream", "slow_consumer"),
        (FirstTokenTimeout("slow"), "error", "upstream", "first_token_timeout"),
        (Draining("stops"), "error", "internal", "draining"),
    ],
)
def test_errors(error: Any, outcome: str, source: str, reason: str) -> None:
    one = recorder()
    one.ended(ended(error=error))
    assert told(one, "generations_total") == {("fast", "chat_completions", outcome): 1}
    assert told(one, "generation_errors_total") == {("fast", error.source.value, reason): 1}
    assert error.source.value == source


def test_attempts_by_role_and_outcome() -> None:
    one = recorder()
    slow = FirstTokenTimeout("slow")
    one.ended(
        ended(
            attempts=[
                attempt(outcome=AttemptOutcome.FAILURE, error=slow, ready_us=None),
                attempt("spare", "n", role=AttemptRole.FAILOVER),
                attempt(role=AttemptRole.HEDGE, is_loser=True, outcome=AttemptOutcome.IGNORED),
                attempt(outcome=AttemptOutcome.IGNORED, ready_us=None),
                attempt(outcome=AttemptOutcome.OVERLOAD, error=slow, is_sent=False),
            ]
        )
    )
    assert told(one, "attempts_total") == {
        ("lab", "m", "primary", "failure"): 1,
        ("spare", "n", "failover", "success"): 1,
        ("lab", "m", "hedge", "lost"): 1,
        ("lab", "m", "primary", "cancelled"): 1,
        ("lab", "m", "primary", "overload"): 1,
    }
    assert told(one, "attempts_sent_total") == {("lab", "m"): 3, ("spare", "n"): 1}
    assert told(one, "attempt_errors_total") == {("lab", "m", "first_token_timeout"): 2}


def test_a_loser_that_runs_on_was_sent() -> None:
    """Its phases are written when it ends, after its generation has."""
    one = recorder()
    record = attempt(is_loser=True, outcome=AttemptOutcome.IGNORED)
    record.phases_us = {}
    one.ended(ended(attempts=[record]))
    assert told(one, "attempts_sent_total")["lab", "m"] == 1


def test_money_of_attempts() -> None:
    one = recorder()
    one.ended(ended(attempts=[attempt(cost=1_500_000.0), attempt(cost=500_000.0, is_loser=True)]))
    one.ended(ended(attempts=[attempt(cost=None), attempt(cost=None, is_sent=False)]))
    assert told(one, "attempt_cost_usd_total") == {("lab", "m"): 2.0}
    assert told(one, "attempts_unpriced_total") == {("lab", "m"): 1}
    assert told(one, "spend_usd_total") == {("",): 2.0}


def test_spend_by_team_is_what_was_booked() -> None:
    one = recorder(is_booked=True)
    one.ended(ended(attempts=[attempt(cost=9e6)]))
    for team, micro in (("a", 1_000_000), ("b", 2_000_000), ("c", 4_000_000), ("d", 8_000_000)):
        one.settled(team, micro)
    one.settled("a", 1_000_000)
    assert told(one, "spend_usd_total") == {("a",): 2.0, ("b",): 2.0, ("_other",): 12.0}


def test_hedges() -> None:
    one = recorder()
    fired = HedgeRecord("learned", fired=1, won=True, added_cost=2e6, added_cost_upper=3e6)
    for hedge in (
        fired,
        HedgeRecord("learned", refused="budget_requests"),
        HedgeRecord("fixed", is_shadow=True, would_fire=True, would_win=0.25, would_cost=1e6),
        HedgeRecord("alone"),
    ):
        one.ended(ended(hedge=hedge))
    assert told(one, "hedge_decisions_total") == {
        ("fast", "learned"): 2,
        ("fast", "fixed"): 1,
        ("fast", "alone"): 1,
    }
    fast = ("fast",)
    assert told(one, "hedges_sent_total")[fast] == 1
    assert told(one, "hedges_won_total")[fast] == 1
    assert told(one, "hedges_denied_total") == {("fast", "budget_requests"): 1}
    assert told(one, "hedges_shadowed_total")[fast] == 1
    assert told(one, "hedges_shadow_won_total")[fast] == 0.25
    assert told(one, "hedge_cost_usd_total")["fast", "likely"] == 2.0
    assert told(one, "hedge_cost_usd_total")["fast", "upper"] == 3.0
    assert told(one, "hedge_shadow_cost_usd_total")["fast", "likely"] == 1.0


# --- dead air -------------------------------------------------------------------------------


def dead_air(*ends: Any) -> tuple[int, int]:
    """Of how many."""
    one = recorder()
    for end in ends:
        one.ended(end)
    return told(one, "dead_air_generations_total")["fast",], told(one, "dead_air_judged_total")[
        "fast",
    ]


def test_dead_air_is_reckoned_as_by_replay() -> None:
    assert SPEAKABLE_TOKENS == OF_REPLAY
    assert MetricsConfig().dead_air_ms == DEAD_AIR_S * 1000


def test_dead_air() -> None:
    slow = {"first_content": 1_600_000, "stream": 1000}
    # The first token after 0.3 s, the eighth 7 x 0.2 s later.
    crawls = {"first_content": 300_000, "stream": 49 * 200_000}
    assert dead_air(ended(), ended(phases_us=slow), ended(phases_us=crawls)) == (2, 3)


def test_a_segment_is_there_whole() -> None:
    crawls = {"first_content": 300_000, "stream": 49 * 200_000}
    whole = Policy(commit_on="first_segment")
    assert dead_air(ended(phases_us=crawls, policy=whole)) == (0, 1)


def test_no_answer_is_dead_air_but_not_of_who_left() -> None:
    failed = attempt(outcome=AttemptOutcome.FAILURE, error=FirstTokenTimeout("slow"))
    none: dict[str, Any] = {"attempts": [failed], "provider": ""}
    assert dead_air(ended(error=FirstTokenTimeout("slow"), **none)) == (1, 1)
    assert dead_air(ended(error=ClientCancelled("left"), **none)) == (0, 0)
    assert dead_air(ended(error=Draining("stops"), attempts=[], provider="")) == (0, 0)
    assert dead_air(ended(frontend="prewarm")) == (0, 0)
    assert dead_air(ended(frontend="shadow")) == (0, 0)


# --- names ----------------------------------------------------------------------------------


def test_what_clients_write_is_no_label() -> None:
    one = recorder()
    for index in range(50):
        canary = f"canary-{index}"
        one.ended(ended(f"lab/{canary}", attempts=[attempt("lab", canary)]))
        one.ended(
            ended(
                canary,
                error=UnknownModel(canary, ()),
                attempts=[],
                provider="",
                was_planned=False,
            )
        )
    series: Series = {}
    one.fill(series)
    assert "canary" not in str(series)
    assert told(one, "generations_total") == {
        ("_direct", "chat_completions", "ok"): 50,
        ("_unknown", "chat_completions", "error"): 50,
    }
    assert told(one, "attempts_total") == {("lab", "_other", "primary", "success"): 50}


def test_targets_beyond_the_bound_are_other() -> None:
    one = recorder(max_targets=3)
    one.configured(["fast"], [("lab", "third"), ("lab", "fourth"), ("late", "m")])
    for provider, model in (("lab", "third"), ("lab", "fourth"), ("late", "m"), ("odd", "m")):
        one.ended(ended(attempts=[attempt(provider, model)]))
    assert set(told(one, "attempts_total")) == {
        ("lab", "third", "primary", "success"),
        ("lab", "_other", "primary", "success"),
        ("late", "_other", "primary", "success"),
        ("_other", "_other", "primary", "success"),
    }


def test_a_row_stays_over_a_reload() -> None:
    one = recorder()
    one.ended(ended())
    one.configured(["other"], [("new", "m")])
    one.ended(ended())
    assert told(one, "generations_total")["fast", "chat_completions", "ok"] == 2
    assert told(one, "attempts_total")["lab", "m", "primary", "success"] == 2


def test_refusals() -> None:
    one = recorder()
    one.refused(LimitReached("too many"), "converse", "admission")
    one.refused(BudgetExceeded("no more"), "converse", "attempt")
    one.key_denied(is_by_certificate=False)
    assert told(one, "refusals_total") == {
        ("converse", "admission", "limit_exceeded"): 1,
        ("converse", "attempt", "budget_exceeded"): 1,
    }
    assert told(one, "keys_denied_total") == {("key",): 1, ("certificate",): 0}


def test_every_row_fits_its_family() -> None:
    one = recorder()
    one.ended(ended(hedge=HedgeRecord("learned", refused="throttled"), error=Draining("stops")))
    one.refused(LimitReached("too many"), "converse", "admission")
    series: Series = {}
    one.fill(series)
    for name, rows in series.items():
        labels = FAMILIES[name].labels
        assert all(len(values_of(key)) == max(1, len(labels)) for key in rows), name


def test_it_costs_little() -> None:
    """Tens of microseconds a generation; the bound is for a machine that others use too."""
    one, end = recorder(), ended(hedge=HedgeRecord("alone"))
    best_us = 1e9
    for _ in range(20):
        began_s = time.perf_counter()
        for _ in range(100):
            one.ended(end)
        best_us = min(best_us, (time.perf_counter() - began_s) * 1e6 / 100)
    assert best_us < 100


def test_a_kept_answer_tells_nothing_of_who_made_it_whatever_was_asked_beside_it() -> None:
    """Its vector was asked of a provider; its words and tokens were another request's."""
    one = recorder()
    beside = attempt("spare", "n", is_loser=True)
    given = ended(attempts=[beside])
    kept = replace(given.end, decision=Decision(cache="semantic"))
    one.ended(given._replace(end=kept))
    assert not any(told(one, "tokens_total").values())
    assert sum(row[-1] for row in told(one, "token_gap_mean_seconds").values()) == 0
    assert told(one, "attempts_sent_total") == {("lab", "m"): 0, ("spare", "n"): 1}
