"""What is wrong, in words: said when it is, and not by chance."""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import BudgetExceeded, LimitReached, StreamReset
from relay.observability.live.findings import Finding, findings
from relay.observability.live.joined import Joined
from relay.outcome import AttemptOutcome
from tests.observability.live.ends import attempt, ended, lost, request, tell, won
from tests.observability.live.fleet import Fleet, target_state
from tests.observability.live.test_joined import worker
from tests.observability.live.test_recorder import Clock


class Scene:
    """One worker and its clock."""

    def __init__(self, **state: Any) -> None:
        self.clock = Clock()
        self.worker = worker(0, self.clock, **state)
        self.fleet = Fleet(self.worker)
        self.more: dict[str, Any] = {}

    def end(self, end: Any, times: int = 1) -> None:
        for _ in range(times):
            tell(self.worker, end, request(), "gen", "generate")

    async def found(self) -> list[Finding]:
        board = Joined(self.fleet, self.clock, self.clock)
        await board.look(state=True)
        return findings({**board.snapshot(), **self.more})

    async def words(self) -> str:
        return "\n".join(f"{one.level}: {one.words}" for one in await self.found())


async def test_all_is_well() -> None:
    scene = Scene(targets={"north/a": target_state()})
    scene.end(won(), 20)
    assert await scene.found() == []


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("nobody", ""),
        ("batch", "warn: there is too much to do: refused is what can wait (batch)"),
        ("new", "bad: there is too much to do: refused is what is new"),
        ("live", "bad: there is too much to do: refused is everything, generations of open"),
    ],
)
async def test_too_much_to_do(refused: str, words: str) -> None:
    found = await Scene(overload={"refused": refused}).words()
    assert found.startswith(words)
    assert bool(found) == bool(words)


async def test_slower_than_its_own_usual() -> None:
    scene = Scene()
    scene.end(won(200_000), 30)
    scene.clock.now_s += 180
    scene.end(won(900_000), 4)
    assert await scene.found() == []  # four may be chance
    scene.end(won(900_000), 4)
    assert "warn: north/a is slow: median first token" in await scene.words()


async def test_slower_than_the_other_of_its_alias() -> None:
    scene = Scene()
    scene.end(won(200_000, "south/b"), 6)
    scene.end(won(1_500_000), 6)
    words = await scene.words()
    assert words.startswith("warn: north/a is slow: median first token 1.5 s, where south/b takes")
    assert words.count("slow") == 1


async def test_who_loses_to_its_hedges_is_slow_though_nobody_knows_how_slow() -> None:
    scene = Scene()
    race = ended(lost(ended_us=280_000), attempt("south/b", is_winner=True, first_us=50_000))
    scene.end(race, 9)
    words = await scene.words()
    assert "north/a is slow: it loses 9 of 9 races to its hedges, reset after 280 ms" in words


@pytest.mark.parametrize("state", ["open", "half_open"])
async def test_a_breaker_that_is_open(state: str) -> None:
    breaker = {"reason": "consecutive", "retry_in_s": 12.0}
    scene = Scene(targets={"north/a": target_state(state, breaker=breaker)})
    (one,) = await scene.found()
    assert one.level == "bad"
    assert one.words == (
        "north/a is left alone, it failed several times in a row; tried again in 12 s"
    )


async def test_one_that_comes_back_is_a_note() -> None:
    scene = Scene(targets={"north/a": target_state("ramp", breaker={"share": 0.4})})
    (one,) = await scene.found()
    assert (one.level, one.words) == ("note", "north/a is coming back, with 40% of its traffic")


async def test_generations_that_fail_and_those_over_a_limit() -> None:
    scene = Scene()
    broken = ended(
        attempt(first_us=None, outcome=AttemptOutcome.FAILURE, error=StreamReset("x")),
        error=StreamReset("x"),
    )
    scene.end(won(), 6)
    scene.end(broken, 4)
    scene.end(ended(error=LimitReached("y")), 3)
    words = await scene.words()
    assert "bad: voice: 4 of 13 generations failed in a minute (UPSTREAM_RESET)" in words
    assert "warn: voice: 3 times refused in a minute (a rate limit)" in words
    assert "warn: north/a failed 4 of 10 attempts in a minute" in words


def budget(settled: int, **more: Any) -> dict[str, Any]:
    return {
        "id": "bud_1",
        "name": "team red",
        "period": "day",
        "limit_micro": 1_000_000,
        "settled_micro": settled,
        "reserved_micro": 0,
        "is_hard": True,
        "period_end_s": Clock().now_s + 3 * 3600,
        **more,
    }


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (budget(700_000), ""),
        (
            budget(700_000, reserved_micro=150_000),
            "warn: team red's budget of $1.00 a day has 15% left",
        ),
        (
            budget(1_000_000),
            "bad: team red's budget of $1.00 a day is used up: what would go over it is refused;"
            " it begins anew in 3 h",
        ),
        (
            budget(2_000_000, is_hard=False),
            "warn: team red's budget of $1.00 a day is used up, which refuses nothing",
        ),
        (
            budget(0, limit_micro=0, period="total", period_end_s=None),
            "bad: team red's budget of $0 is used up: what would go over it is refused",
        ),
    ],
)
async def test_budgets(row: dict[str, Any], told: str) -> None:
    scene = Scene()
    scene.more = {"budgets": [row]}
    assert await scene.words() == told


def over(budget_id: str) -> Any:
    """A generation that a budget refused."""
    return ended(error=BudgetExceeded("x", metadata={"budget": budget_id}))


async def test_a_budget_that_refuses_is_named_and_said_once() -> None:
    scene = Scene()
    scene.more = {
        "budgets": [budget(1_000_000, id="bud_2", name="team blue"), budget(940_000)],
    }
    scene.end(won(), 20)
    scene.end(over("bud_1"), 3)
    assert (await scene.words()).split("\n") == [
        "bad: team red's budget of $1.00 a day is used up: 3 requests were refused in the last"
        " minute, with $0.060 left; it begins anew in 3 h",
        "bad: team blue's budget of $1.00 a day is used up: what would go over it is refused;"
        " it begins anew in 3 h",
    ]


async def test_a_budget_with_much_left_may_be_too_small_for_one_request() -> None:
    scene = Scene()
    scene.more = {"budgets": [budget(100_000, period="total", period_end_s=None)]}
    scene.end(over("bud_1"))
    assert await scene.words() == (
        "bad: team red's budget of $1.00 does not cover what is asked: 1 request was refused in"
        " the last minute, with $0.900 left"
    )


async def test_what_a_budget_refused_that_is_not_shown_is_told_of_its_alias() -> None:
    scene = Scene()
    scene.more = {"budgets": [budget(940_000)]}
    scene.end(over("bud_1"), 3)
    scene.end(over("bud_9"), 2)
    scene.end(ended(error=LimitReached("y")), 1)
    assert "warn: voice: 3 times refused in a minute (a budget)" in await scene.words()


async def test_workers_that_are_missing_pools_and_credentials() -> None:
    origin = {
        "origin": "https://a",
        "connections": 0,
        "open_streams": 0,
        "waiting": 0,
        "streams_opened": 0,
        "streams_aborted": 0,
        "calmed": 0,
        "last_error": "refused",
    }
    scene = Scene(origins=[origin], credentials={"north": {"wait_s": 9.0}})
    scene.fleet.recorders[1] = worker(1, scene.clock)
    scene.fleet.gone = {1}
    words = await scene.words()
    assert "warn: worker 1 of 2 does not answer: no answer within 1 s" in words
    assert "warn: no connection to https://a: refused" in words
    assert words.startswith("bad: north has no credential that can be used, for 9 s more")
