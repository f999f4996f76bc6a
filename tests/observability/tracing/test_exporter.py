"""The thread that sends spans: bounded, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from relay.observability.tracing import exporter as module
from relay.observability.tracing.collector import Sent, Verdict
from relay.observability.tracing.exporter import Exporter
from relay.observability.tracing.shapes import Kind, Shape
from relay.observability.tracing.taken import Taken
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.otlp_collector import wait_until
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import run
from tests.observability.tracing.traced import listening


@pytest.fixture(scope="module")
def taken() -> Taken:
    async def once() -> Taken:
        scenario = Scenario({"a": FakeEndpoint(chunks=answer("a"))})
        found = listening(scenario)
        await scenario.generate()
        await scenario.settled()
        return found[0]

    return run(once())


class FakeSender:
    """Answers as it is told, or waits until it may."""

    def __init__(self, *answers: Sent) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_closed = False

    def send(self, body: bytes) -> Sent:
        self.bodies.append(body)
        self.is_open.wait(10)
        return self.answers.pop(0) if self.answers else Sent(Verdict.TAKEN)

    def close(self) -> None:
        self.is_closed = True


def one_span(taken: Taken) -> list[Shape]:
    return [Shape("x", Kind.SERVER, taken.trace.span_id, "", True, 1, 2, {})]


@contextmanager
def exporter_to(
    sender: FakeSender,
    shapes_of: Callable[[Taken], list[Shape]] = one_span,
    max_waiting: int = 4,
) -> Iterator[Exporter]:
    exporter = Exporter(
        shapes_of, lambda: sender, {"service.name": "x"}, max_waiting=max_waiting, interval_s=0.005
    )
    exporter.start()
    yield exporter
    sender.is_open.set()


async def test_what_was_put_is_sent(taken: Taken) -> None:
    sender = FakeSender()
    with exporter_to(sender) as exporter:
        exporter.put(taken)
        exporter.put(taken)
        await exporter.aclose(5.0)
    shown = exporter.describe()
    assert (shown["sent_generations"], shown["sent_spans"], shown["waiting"]) == (2, 2, 0)
    assert sender.is_closed
    await exporter.aclose(5.0)


async def test_a_sender_that_hangs_costs_spans_and_nobodys_time(taken: Taken) -> None:
    sender = FakeSender()
    sender.is_open.clear()
    with exporter_to(sender) as exporter:
        exporter.put(taken)
        wait_until(lambda: sender.bodies)
        began_s = time.monotonic()
        for _ in range(100):
            exporter.put(taken)
        assert exporter.dropped_generations == 96
        with capture_logs() as lines:
            await exporter.aclose(0.05)
        assert time.monotonic() - began_s < 1.0
        assert [line["event"] for line in lines] == ["traces_left_at_the_end"]


async def test_an_outage_is_told_once_and_its_end(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    later = Sent(Verdict.LATER, "ConnectError")
    sender = FakeSender(*[later] * 7)
    with capture_logs() as lines, exporter_to(sender) as exporter:
        exporter.put(taken)  # five tries, then it is given up
        wait_until(lambda: exporter.dropped_generations == 1)
        exporter.put(taken)
        wait_until(lambda: exporter.sent_generations == 1)
        await exporter.aclose(5.0)
    assert [line["event"] for line in lines] == ["traces_not_taken", "traces_taken_again"]
    assert lines[0]["why"] == "ConnectError"
    assert lines[1]["dropped_generations"] == 1
    assert exporter.failed_sends == 7


async def test_what_is_refused_is_not_sent_again(taken: Taken) -> None:
    sender = FakeSender(Sent(Verdict.REFUSED, "HTTP 400"))
    with exporter_to(sender) as exporter:
        exporter.put(taken)
        await exporter.aclose(5.0)
    assert len(sender.bodies) == 1
    assert exporter.dropped_generations == 1


async def test_spans_that_the_collector_threw_away_are_counted(taken: Taken) -> None:
    sender = FakeSender(Sent(Verdict.TAKEN, rejected=1))
    with exporter_to(sender) as exporter:
        exporter.put(taken)
        await exporter.aclose(5.0)
    assert (exporter.sent_spans, exporter.rejected_spans) == (0, 1)


async def test_one_that_cannot_be_told_costs_no_other(taken: Taken) -> None:
    told: list[Taken] = []

    def shapes_of(one: Taken) -> list[Shape]:
        told.append(one)
        if len(told) == 1:
            raise ValueError("a bug")
        return one_span(one)

    sender = FakeSender()
    with capture_logs() as lines, exporter_to(sender, shapes_of) as exporter:
        exporter.put(taken)
        exporter.put(taken)
        await exporter.aclose(5.0)
    assert (exporter.sent_generations, exporter.dropped_generations) == (1, 1)
    assert [line["event"] for line in lines] == ["trace_bug"]


async def test_many_are_sent_in_batches(taken: Taken) -> None:
    sender = FakeSender()
    with exporter_to(sender, lambda one: one_span(one) * 100, max_waiting=1000) as exporter:
        for _ in range(20):
            exporter.put(taken)
        await exporter.aclose(5.0)
    assert exporter.sent_spans == 2000
    assert len(sender.bodies) >= 4


async def test_without_a_thread_there_is_nothing_to_close() -> None:
    exporter = Exporter(one_span, FakeSender, {}, max_waiting=1, interval_s=1.0)
    await exporter.aclose(0.1)


async def test_a_sender_that_cannot_be_made_is_told(taken: Taken) -> None:
    def broken() -> FakeSender:
        raise OSError("no such file")

    with capture_logs() as lines:
        exporter = Exporter(one_span, broken, {}, max_waiting=4, interval_s=0.005)
        exporter.start()
        wait_until(lambda: lines)
        exporter.put(taken)
        await exporter.aclose(1.0)
    assert lines[0]["event"] == "traces_ended"
    assert exporter.dropped_generations == 1
