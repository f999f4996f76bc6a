"""h2load: what it is told, what it prints, and what is made of that."""

from __future__ import annotations

import math
import socketserver
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rtrelay.v1 import relay_pb2

from bench.peers import h2load, h2load_output
from bench.peers.driving import Work, body, check
from bench.peers.h2load import Leg, Loop, Target
from bench.peers.h2load_output import Finished, OutputError, Summary
from bench.processes import BenchError

PRINTED = """\
starting benchmark...
Application protocol: h2
progress: 100% done

finished in 3.00s, 20.00 req/s, 61.72KB/s
requests: 68 total, 72 started, 60 done, 57 succeeded, 3 failed, 2 errored, 1 timeout
status codes: 57 2xx, 0 3xx, 2 4xx, 1 5xx
traffic: 180KB (184330) total, 1.20KB (1229) headers (space savings 91.00%), 175KB (180000) data
                     min         max         mean         sd        +/- sd
time for request:   101.00ms    140.00ms    110.00ms      2.00ms    80.00%
"""


def test_the_summary() -> None:
    assert h2load_output.summary(PRINTED) == Summary(72, 60, 6, 3, 180_000, "h2")


def test_no_connection_has_no_protocol() -> None:
    text = PRINTED.replace("Application protocol: h2\n", "")
    assert h2load_output.summary(text).protocol == ""


@pytest.mark.parametrize("line", ["requests: ", "status codes: ", "traffic: "])
def test_without_one_of_its_lines_there_is_no_summary(line: str) -> None:
    with pytest.raises(OutputError, match="no summary"):
        h2load_output.summary(PRINTED.replace(line, "something: "))


def test_the_log_in_the_order_of_ends() -> None:
    lines = ["1000\t200\t500\n", "1010\t200\t20\n", "1020\t-1\t5\n", "1030\t2"]
    assert h2load_output.finished(lines) == [
        Finished(1020, -1, 5),
        Finished(1010, 200, 20),
        Finished(1000, 200, 500),
    ]
    assert h2load_output.finished(lines)[-1].end_us == 1500


@pytest.mark.parametrize("line", ["\n", "1\t2\n", "a\tb\tc\n"])
def test_what_is_no_line_of_the_log(line: str) -> None:
    with pytest.raises(OutputError, match="no line"):
        h2load_output.finished([line])


def test_its_version() -> None:
    assert h2load_output.version("h2load nghttp2/1.52.0\n") == "1.52.0"
    assert h2load_output.version("something else") == ""


# --- the command ----------------------------------------------------------------------------


def words(target: Target, loop: Loop, seconds: float = 2.0) -> dict[str, str]:
    found = h2load.command(target, loop, seconds, Path("body"), Path("log"))
    assert found[0] == "h2load"
    assert found[-1] == target.url
    return {flag: value for flag, value in pairwise(found) if flag[0] == "-"}


def test_a_closed_loop_over_http1_has_a_client_a_stream() -> None:
    found = words(Target("http://h/"), Loop(16))
    assert (found["-c"], found["-m"], found["-D"]) == ("16", "1", "2000ms")
    assert "--h1" in found
    assert "--rps" not in found


def test_an_open_loop_over_http1_has_two_clients_a_stream_started_evenly() -> None:
    found = words(Target("http://h/"), Loop(64, 125.0), 3.0)
    assert (found["-c"], found["-m"]) == ("128", "1")
    assert float(found["--rps"]) * 128 == pytest.approx(125.0)
    assert (found["-r"], found["--rate-period"]) == ("1", "8ms")
    assert int(found["-n"]) == 384  # three of each client
    assert "-D" not in found


@pytest.mark.parametrize("per_second", [4.0, 31.0, 125.0, 490.0])
def test_requests_of_an_open_loop_last_its_time(per_second: float) -> None:
    for is_http2 in (False, True):
        found = words(Target("https://h/", is_http2=is_http2), Loop(32, per_second), 3.0)
        lasts_s = int(found["-n"]) / int(found["-c"]) / float(found["--rps"])
        assert lasts_s >= 3.0 - 1e-3
        if is_http2:
            # Its timer ticks each 10 ms.
            assert float(found["--rps"]) <= 50.0
            assert int(found["-c"]) * int(found["-m"]) >= 4 * 32


def test_http2_has_few_links_and_all_streams_on_them() -> None:
    assert Target("https://h/", is_http2=True).links(64, 0.0) == (2, 32)
    assert Target("http://h/", is_http2=True, is_grpc=True).links(64, 0.0) == (4, 16)
    assert Target("https://h/", is_http2=True).links(1, 0.0) == (1, 1)


def test_headers_of_a_target_replace_the_usual_one() -> None:
    target = Target("http://h/", {"content-type": "application/grpc", "te": "trailers"})
    found = h2load.command(target, Loop(1), 1.0, Path("b"), Path("l"))
    headers = [value for flag, value in pairwise(found) if flag == "-H"]
    assert headers == ["content-type: application/grpc", "te: trailers"]


def test_bodies() -> None:
    stream, whole = Work(5), Work(5, is_stream=False)
    assert b'"stream":true' in body(Target("http://h/", model="m"), stream)
    assert b"stream" not in body(Target("http://h/", model="m"), whole)
    framed = body(Target("http://h/", model="m", is_grpc=True), stream)
    assert framed[:1] == b"\0"
    assert int.from_bytes(framed[1:5], "big") == len(framed) - 5
    assert relay_pb2.GenerateRequest.FromString(framed[5:]).start.model == "m"


# --- a leg ----------------------------------------------------------------------------------


def edge(at_us: float, **cpu_ns: int) -> Any:
    return h2load._Edge(at_us, cpu_ns)


def test_a_leg_counts_what_ends_in_the_window() -> None:
    answers = [
        Finished(0, 200, 999_999),  # before
        Finished(500_000, 200, 500_000),  # at the edge
        Finished(1_000_000, 200, 400_000),
        Finished(1_000_000, 500, 10_000),
        Finished(1_900_000, 200, 100_001),  # after
    ]
    begin, end = edge(1e6, hop=1_000_000, load=0), edge(2e6, hop=3_000_000, load=500_000_000)
    summary = Summary(10, 8, 1, 2, 800, "http/1.1")
    leg = h2load._leg(summary, answers, begin, end)
    assert [each.took_us for each in leg.answers] == [500_000, 400_000]
    assert leg.started == 3
    assert leg.per_second == pytest.approx(2.0)
    assert leg.us_per_answer("hop") == pytest.approx(1000.0)
    assert leg.core_percent("load") == pytest.approx(50.0)
    assert math.isnan(leg.core_percent("emulator"))
    assert leg.bad == 3


def leg_of(took_us: int, data_bytes: int, done: int = 10, failed: int = 0) -> Leg:
    answers = [Finished(0, 200, took_us)]
    return Leg(Summary(done, done, failed, 0, data_bytes, "h2"), answers, 1, 1.0, {})


def test_answers_are_whole_as_far_as_can_be_told() -> None:
    work = Work(tokens=11, ttft_ms=100, itl_ms=10)
    check(leg_of(200_000, 1000), work, 100.0)
    with pytest.raises(BenchError, match="90 bytes an answer, a whole one has 100"):
        check(leg_of(200_000, 900), work, 100.0)
    with pytest.raises(BenchError, match="an answer after 100 ms, the provider takes 200 ms"):
        check(leg_of(100_000, 1000), work, 100.0)
    with pytest.raises(BenchError, match="no answer"):
        check(_empty(), work, 100.0)
    # Bad ones are told as such, and have no bytes.
    check(leg_of(200_000, 500, failed=5), work, 100.0)


def _empty() -> Leg:
    return Leg(Summary(0, 0, 0, 0, 0, ""), [], 0, 1.0, {})


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            assert head.startswith(b"POST")
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


@pytest.fixture
def url() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(bool(h2load.missing()), reason=h2load.missing())
@pytest.mark.parametrize("loop", [Loop(2), Loop(2, 40.0)])
def test_the_program_itself(url: str, loop: Loop, tmp_path: Path) -> None:
    leg = h2load.run(
        Target(url), loop, b"{}", tmp_path, ramp_s=0.0, window_s=0.4, watch={}, cores=()
    )
    assert leg.bad == 0
    assert leg.summary.protocol == "http/1.1"
    assert leg.cpu_ns["load"] > 0
    if loop.per_second:
        # Every request went out, evenly; timers of a busy machine are late.
        assert leg.summary.done == leg.summary.started
        assert leg.summary.data_bytes == 4 * leg.summary.done
        assert 8 <= leg.started <= 24
    else:
        assert leg.per_second > 50


@pytest.mark.skipif(bool(h2load.missing()), reason=h2load.missing())
def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    leg = h2load.run(
        Target("http://127.0.0.1:9/"),
        Loop(1, 4.0),
        b"{}",
        tmp_path,
        ramp_s=0.0,
        window_s=0.1,
        watch={},
    )
    assert leg.bad > 0
    assert not leg.answers


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2load, "shutil", SimpleNamespace(which=lambda name: None))
    assert "nghttp2-client" in h2load.missing()
    assert h2load.version() == ""
    with pytest.raises(BenchError, match="no h2load here"):
        h2load.run(
            Target("http://h/"), Loop(1), b"", tmp_path, ramp_s=0, window_s=0, watch=cast(Any, {})
        )
