"""One pause is the pause of all gateways, the ones before a GOAWAY too; on a virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import emulated
from bench.peers.cases import goaway, idle
from bench.peers.goaway_arms import WARM, GoawayArms
from bench.peers.rig import FULL, Options, PeerRig
from bench.result import CaseResult

COLD_MS, WARM_MS = 25.0, 21.0
_ASK_S = 0.03
_LONG_S = 60.0
ARMS = ("direct", "sse", "nginx", "litellm")


class _Gateways:
    """Answers at once if asked within a minute before, else late; the clock is virtual."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.asked_s: dict[str, float] = {}
        self.idle_s: dict[str, list[float]] = {}
        """By arm: how long it was idle before each question after a pause."""

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        name, answers = request["path"], []
        for _ in range(request["count"]):
            waited_s = self.now_s - self.asked_s.get(name, 0.0)
            is_cold = waited_s > _LONG_S and name in self.asked_s
            if is_cold:
                self.idle_s.setdefault(name, []).append(waited_s)
            took_ns = int((COLD_MS if is_cold else WARM_MS) * 1e6)
            sent_ns = int(self.now_s * 1e9)
            self.now_s += _ASK_S
            self.asked_s[name] = self.now_s
            answers.append(
                {
                    "sent_ns": sent_ns,
                    "first_ns": sent_ns + took_ns,
                    "stamped_ns": sent_ns,
                    "end_ns": sent_ns + took_ns,
                    "ending": "complete",
                    "tokens": 2,
                    "tool_calls": [],
                    "detail": "",
                }
            )
        return {"answers": answers}


@pytest.fixture
def gateways() -> _Gateways:
    return _Gateways()


def rig_of(gateways: _Gateways, options: Options) -> PeerRig:
    rig = PeerRig(options)
    rig.arms = {name: cast(Any, SimpleNamespace(name=name)) for name in ARMS}
    rig.sleep = gateways.sleep
    rig.load = cast(Any, gateways)
    rig.emulator = cast(Any, None)
    rig.behave = lambda behaviour: None  # type: ignore[method-assign]
    return rig


@contextmanager
def opened(rig: PeerRig) -> Iterator[GoawayArms]:
    arms = GoawayArms(rig)
    arms.names = ["direct", "sse", "envoy"]
    said: list[float] = []
    arms._provider = cast(Any, SimpleNamespace(go_away=lambda: said.append(1.0)))
    try:
        yield arms
    finally:
        arms.close()


@pytest.fixture(autouse=True)
def emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "ask", lambda *arguments: {})


def test_all_gateways_wait_at_the_same_time(gateways: _Gateways) -> None:
    options = FULL._replace(idle_s=(600.0,))
    rig, result = rig_of(gateways, options), CaseResult({})
    idle.run(rig, "idle_600s", result, opened)
    repeats = 2
    assert gateways.slept.count(600.0) == repeats
    assert gateways.now_s < repeats * 600.0 + 60.0
    names = [*ARMS, "direct@goaway", "sse@goaway", "envoy@goaway"]
    for name in names:
        waited = gateways.idle_s[name]
        assert len(waited) == repeats
        # No one was asked in between, and the last of them not much later than the first.
        assert all(600.0 <= each < 610.0 for each in waited)
    for name in ARMS:
        row = result.rows[f"{name}/idle_600s"]
        assert row["over_warm_ms"] == pytest.approx(COLD_MS - WARM_MS)
        assert row["failed"] == 0
    assert set(result.rows) == {
        *(f"{name}/idle_600s" for name in ARMS),
        *(f"{name}/goaway_idle_600s" for name in ("direct", "sse", "envoy")),
    }
    rig.close()


def test_the_plan_agrees_with_what_a_pause_takes(gateways: _Gateways) -> None:
    options = FULL._replace(idle_s=(120.0,))
    rig = rig_of(gateways, options)
    idle.run(rig, "idle_120s", CaseResult({}), opened)
    assert gateways.now_s == pytest.approx(idle.seconds(options, "idle_120s", len(ARMS)), rel=0.1)
    rig.close()


def test_one_goaway_is_for_all(gateways: _Gateways) -> None:
    rig, result = rig_of(gateways, FULL), CaseResult({})
    goaway.run(rig, "all", result, opened)
    assert len(gateways.slept) == 12
    assert set(result.rows) == {"direct/goaway", "sse/goaway", "envoy/goaway"}
    rig.close()


def test_who_does_not_answer_after_a_goaway_is_counted(
    gateways: _Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = gateways.ask

    def ask(request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        answer = good(request, timeout_s)
        if request["path"] == "envoy@goaway" and request["count"] == 1 + WARM:
            answer["answers"][0] |= {"ending": "refused", "detail": "status 503", "first_ns": None}
        return answer

    monkeypatch.setattr(gateways, "ask", ask)
    rig, result = rig_of(gateways, FULL), CaseResult({})
    goaway.run(rig, "all", result, opened)
    assert result.rows["envoy/goaway"]["failed"] == 12
    assert result.rows["sse/goaway"]["failed"] == 0
    assert "envoy: refused status 503" in result.notes
    rig.close()


def test_a_closed_connection_is_asked_by_turns(gateways: _Gateways) -> None:
    rig, result = rig_of(gateways, FULL), CaseResult({})
    idle.run(rig, idle.CLOSED, result)
    assert set(result.rows) == {f"{name}/closed" for name in ARMS}
    assert gateways.slept == [0.5] * 6 * len(ARMS)
    rig.close()
