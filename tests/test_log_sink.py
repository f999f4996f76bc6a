"""Lines of the log on their way out: in order, bounded, and nobody waits for a full pipe."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import orjson
import pytest

from relay.log_sink import LineSink
from tests.fakes.otlp_collector import wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def dropped(lines: int) -> bytes:
    return b"dropped %d" % lines


def read_all(reader: int, until: bytes) -> bytes:
    seen = b""
    while not seen.endswith(until):
        seen += os.read(reader, 65536)
    return seen


def test_lines_come_in_order_and_together(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LineSink(writer, dropped, gather_s=0.001)
    for number in range(50):
        sink.put(b"line %d" % number)
    assert read_all(reader, b"line 49\n").splitlines() == [b"line %d" % n for n in range(50)]
    sink.close()
    sink.close()
    sink.put(b"too late")


def test_a_full_pipe_stops_nobody_and_what_was_dropped_is_told(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LineSink(writer, dropped, max_waiting_bytes=20_000, gather_s=0.001)
    line = b"x" * 99
    sink.put(line)
    slowest_s, ends_s = 0.0, time.monotonic() + 5
    while sink.dropped_lines < 100 and time.monotonic() < ends_s:
        began_s = time.monotonic()
        sink.put(line)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    assert sink.dropped_lines >= 100
    assert slowest_s < 1.0
    sink.put(b"y")
    seen = b""
    while b"dropped" not in seen:
        seen += os.read(reader, 65536)
        sink.put(line)
    told = next(one for one in seen.splitlines() if one.startswith(b"dropped"))
    assert int(told.split()[1]) >= 100
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)  # and the thread goes
    sink.close()


def test_lines_of_several_stay_whole_whoever_reads_slowly(pipe: tuple[int, int]) -> None:
    """As of workers, which share their supervisor's pipe."""
    reader, writer = pipe
    sinks = [LineSink(writer, dropped, gather_s=0.001) for _ in range(3)]
    for number in range(300):
        for name, sink in zip((b"a", b"b", b"c"), sinks, strict=True):
            sink.put(name * (number % 700 + 1))
    seen = b""
    while seen.count(b"\n") < 900:
        seen += os.read(reader, 1000)
    assert {bytes(set(line)) for line in seen.splitlines()} == {b"a", b"b", b"c"}
    for sink in sinks:
        sink.close()


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    sink = LineSink(writer, dropped, gather_s=0.001)
    for number in range(200):
        sink.put(b"%03d" % number * 300)
    time.sleep(0.05)  # the pipe is full, and the thread has met that
    lines = read_all(reader, b"199\n").splitlines()
    assert lines == [b"%03d" % number * 300 for number in range(200)]
    assert sink.dropped_lines == 0
    sink.close()


def test_a_reader_that_has_gone_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = LineSink(writer, dropped, gather_s=0.001)
    sink.put(b"line")
    wait_until(lambda: sink.dropped_lines == 1)
    sink.close()
    os.close(writer)


_PROCESS = """
import sys, time
from relay import logs
import structlog, logging
logs.configure(serves=True)
logs.hide_with(lambda text: text.replace("canary", "***"))
log = structlog.get_logger("x")
log.info("first", words={"a canary": ["canary"]}, number=1)
logging.getLogger("lib").warning("second canary")
log.error("third", exc_info=ValueError("canary"))
"""


def test_the_last_lines_of_a_process_are_written() -> None:
    done = subprocess.run([sys.executable, "-c", _PROCESS], capture_output=True, check=True)
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["first", "second ***", "third"]
    assert lines[0]["words"] == {"a ***": ["***"]}
    assert lines[0]["number"] == 1
    assert b"canary" not in done.stderr


_STUCK = """
import structlog
from relay import logs
logs.configure(serves=True)
for _ in range(3000):
    structlog.get_logger("x").info("line", more="x" * 1000)
"""


def test_a_process_ends_though_nobody_reads_it() -> None:
    with subprocess.Popen([sys.executable, "-c", _STUCK], stderr=subprocess.PIPE) as process:
        assert process.wait(20) == 0
        assert process.stderr is not None
        process.stderr.close()
