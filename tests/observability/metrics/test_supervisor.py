"""The supervisor's page: one question at a time, and what workers tell between scrapes is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from relay.config import MetricsConfig
from relay.observability.metrics.supervisor import KEEP_S, QUESTION, SupervisorMetrics
from tests.fakes.metrics_page import MetricsPage

SENT = "rtrelay_hedges_sent_total"


class Workers:
    """Two, that answer what they are told to."""

    count = 2
    restarts = 0

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.asked = 0
        self.at_once = 0
        self.takes_s = 0.0

    async def ask(self, what: str) -> dict[int, Any]:
        assert what == QUESTION
        self.asked += 1
        self.at_once += 1
        assert self.at_once == 1
        answers = dict(self.answers)
        await asyncio.sleep(self.takes_s)
        self.at_once -= 1
        return answers


def told(id_: str, sent: int) -> dict[str, Any]:
    return {"id": id_, "series": {SENT: {"fast": sent}}}


async def page_of(metrics: SupervisorMetrics) -> MetricsPage:
    return MetricsPage((await metrics.page()).decode())


async def test_late_and_odd_answers() -> None:
    workers = Workers()
    metrics = SupervisorMetrics(MetricsConfig(), workers)
    workers.answers = {0: told("a", 3), 1: TimeoutError("late")}
    page = await page_of(metrics)
    assert page.sum(SENT) == 3
    assert (page.sum("rtrelay_workers"), page.sum("rtrelay_workers_answering")) == (2, 1)
    workers.answers = {0: TimeoutError("late"), 1: {"id": 7}}
    page = await page_of(metrics)
    assert page.sum(SENT) == 3
    assert page.sum("rtrelay_workers_answering") == 0


async def test_one_question_at_a_time() -> None:
    workers = Workers()
    workers.takes_s = 0.01
    workers.answers = {0: told("a", 3)}
    metrics = SupervisorMetrics(MetricsConfig(), workers)
    pages = await asyncio.gather(*(page_of(metrics) for _ in range(3)))
    assert [page.sum(SENT) for page in pages] == [3, 3, 3]


async def test_what_is_told_between_scrapes_is_kept() -> None:
    workers = Workers()
    metrics = SupervisorMetrics(MetricsConfig(), workers, keep_s=0.01)
    metrics.start()
    try:
        workers.answers = {0: told("a", 5)}
        asked = workers.asked
        async with asyncio.timeout(5):
            while workers.asked < asked + 2:
                await asyncio.sleep(0.01)
        workers.answers = {0: told("b", 1)}  # another process in its place
        assert (await page_of(metrics)).sum(SENT) == 6
    finally:
        await metrics.aclose()
        await metrics.aclose()
    assert KEEP_S == 5.0
