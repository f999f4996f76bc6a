"""Before h2load's answers are counted, an answer is looked at whole, once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from bench.peers import driving, h2load
from bench.peers.driving import Driver, Work
from bench.peers.h2load import Leg, Loop, Target
from bench.peers.h2load_output import Finished, Summary
from bench.peers.rig import QUICK, Arm, PeerRig
from bench.processes import BenchError

STREAM = Work(tokens=3, ttft_ms=10, itl_ms=5)
WHOLE = Work(tokens=3, is_stream=False)


class _Load:
    """The generator in Python, whose answer is as it is told."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {
            "sent_ns": 0,
            "first_ns": 1,
            "stamped_ns": 1,
            "end_ns": 2,
            "ending": "complete",
            "tokens": 3,
            "tool_calls": [],
            "detail": "",
        }
        self.asked = 0

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.asked += 1
        return {"answers": [self.answer]}


@pytest.fixture
def load() -> _Load:
    return _Load()


@pytest.fixture
def rig(load: _Load, monkeypatch: pytest.MonkeyPatch) -> Iterator[PeerRig]:
    made = PeerRig(QUICK)
    made.load = cast(Any, load)
    made.watch = lambda arm: {"load": [1], "hop": [2]}  # type: ignore[method-assign]
    yield made
    made.close()


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[Loop]:
    """What h2load was told; each answer has 100 bytes and takes 20 ms."""
    told: list[Loop] = []

    def run(target: Target, loop: Loop, body: bytes, *rest: Any, **options: Any) -> Leg:
        assert "load" not in options["watch"]
        told.append(loop)
        return Leg(Summary(4, 4, 0, 0, 400, "h2"), [Finished(0, 200, 20_000)] * 4, 4, 1.0, {})

    monkeypatch.setattr(h2load, "run", run)
    return told


def arm_of(url: str = "http://127.0.0.1:9/") -> Arm:
    return Arm("sse", "rtrelay", "SSE", "TLS, HTTP/2", target=Target(url, model="m"))


def drive(driver: Driver, arm: Arm, work: Work) -> Leg:
    return driver.drive(arm, work, Loop(16), ramp_s=0.1, window_s=1.0)


def test_an_answer_is_looked_at_once(rig: PeerRig, load: _Load, loops: list[Loop]) -> None:
    driver = Driver(rig)
    assert len(drive(driver, arm_of(), STREAM).answers) == 4
    drive(driver, arm_of(), STREAM)
    assert load.asked == 1
    assert loops == [Loop(1, 4.0), Loop(16), Loop(16)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tokens": 2}, "2 of 3 tokens, complete"),
        ({"ending": "refused", "detail": "status 503"}, "3 of 3 tokens, refused status 503"),
    ],
)
def test_an_answer_that_is_not_whole_ends_it(
    rig: PeerRig, load: _Load, loops: list[Loop], more: dict[str, Any], told: str
) -> None:
    load.answer |= more
    with pytest.raises(BenchError, match=told):
        drive(Driver(rig), arm_of(), STREAM)
    assert not loops


def test_who_h2load_cannot_ask(rig: PeerRig, load: _Load, loops: list[Loop]) -> None:
    arm = Arm("converse", "rtrelay", "gRPC Converse", "TLS, HTTP/2")
    with pytest.raises(BenchError, match="h2load cannot ask converse"):
        drive(Driver(rig), arm, STREAM)


class _Provider(BaseHTTPRequestHandler):
    answer: Any = None

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert "stream" not in asked
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Provider) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (said("Good evening"), None),
        (said(""), "a whole answer without text"),
        ({"error": {"message": "no"}}, "no whole answer: KeyError"),
        ({"choices": []}, "no whole answer: IndexError"),
        (None, "no whole answer: TypeError"),
    ],
)
def test_a_whole_answer_has_text(
    rig: PeerRig,
    loops: list[Loop],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    told: str | None,
) -> None:
    monkeypatch.setattr(_Provider, "answer", answer)
    if told is None:
        assert drive(Driver(rig), arm_of(url), WHOLE).answers
        return
    with pytest.raises(BenchError, match=told):
        drive(Driver(rig), arm_of(url), WHOLE)
    assert not loops


def test_nobody_there(rig: PeerRig, loops: list[Loop], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "_TIMEOUT_S", 1.0)
    with pytest.raises(BenchError, match="no whole answer: URLError"):
        drive(Driver(rig), arm_of(), WHOLE)
