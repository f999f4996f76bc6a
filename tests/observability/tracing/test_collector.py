"""OTLP over HTTP, to a collector on a real socket: one that works, refuses, hangs, is not there."""

from __future__ import annotations

import socket
import time

import pytest

from relay.observability.tracing.collector import Collector, Verdict
from relay.observability.tracing.encoding import Batch
from relay.observability.tracing.shapes import Kind, Link, Mark, Shape
from relay.trace_context import trace_of
from tests.fakes.otlp_collector import OtlpCollector

pytestmark = pytest.mark.sockets

TRACE = trace_of("gen_1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def batch() -> bytes:
    made = Batch({"service.name": "x", "service.instance.id": "i_1"})
    shape = Shape(
        "chat fast",
        Kind.SERVER,
        TRACE.span_id,
        TRACE.parent_id,
        True,
        5,
        9,
        {"a": "text", "b": True, "c": 3, "d": 0.5, "e": ("x", "y")},
        events=(Mark("hedge.fired", 7, {"t": "b/m"}),),
        links=(Link(TRACE.span_of(0), {"l": "beat"}),),
        fault="it broke",
    )
    made.add(TRACE, "vendor=1", [shape])
    assert (made.spans, made.generations) == (1, 1)
    return made.encoded()


def collector_at(endpoint: str, *, timeout_s: float = 5.0, is_compressed: bool = True) -> Collector:
    return Collector(
        endpoint,
        {"authorization": "Bearer key"},
        timeout_s=timeout_s,
        ca_file=None,
        is_compressed=is_compressed,
    )


@pytest.mark.parametrize("is_compressed", [True, False])
def test_spans_arrive_whole(is_compressed: bool) -> None:
    with OtlpCollector() as there:
        collector = collector_at(there.endpoint, is_compressed=is_compressed)
        assert collector.send(batch()).verdict is Verdict.TAKEN
        collector.close()
        (span,) = there.spans()
        (taken,) = there.batches
    assert taken.headers["content-type"] == "application/x-protobuf"
    assert taken.headers["authorization"] == "Bearer key"
    assert span.resource == {"service.name": "x", "service.instance.id": "i_1"}
    raw = span.raw
    assert raw.trace_id.hex() == TRACE.trace_id
    assert raw.span_id.hex() == TRACE.span_id
    assert raw.parent_span_id.hex() == "b7ad6b7169203331"
    assert raw.trace_state == "vendor=1"
    assert (raw.start_time_unix_nano, raw.end_time_unix_nano) == (5, 9)
    assert raw.flags == 0x301
    assert span.attributes == {"a": "text", "b": True, "c": 3, "d": 0.5, "e": ["x", "y"]}
    assert (raw.events[0].name, raw.events[0].time_unix_nano) == ("hedge.fired", 7)
    assert raw.links[0].span_id.hex() == TRACE.span_of(0)
    assert (raw.status.code, raw.status.message) == (2, "it broke")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (429, Verdict.LATER),
        (503, Verdict.LATER),
        (400, Verdict.REFUSED),
        (401, Verdict.REFUSED),
        (302, Verdict.REFUSED),
        (202, Verdict.TAKEN),
    ],
)
def test_answers(status: int, verdict: Verdict) -> None:
    with OtlpCollector() as there:
        there.status = status
        collector = collector_at(there.endpoint)
        sent = collector.send(batch())
        collector.close()
    assert sent.verdict is verdict
    assert sent.why == ("" if verdict is Verdict.TAKEN else f"HTTP {status}")


def test_what_it_threw_away_is_heard() -> None:
    with OtlpCollector() as there:
        there.rejects = 3
        collector = collector_at(there.endpoint)
        assert collector.send(batch()).rejected == 3
        collector.close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    collector = collector_at(f"http://127.0.0.1:{port}/v1/traces")
    sent = collector.send(batch())
    collector.close()
    assert (sent.verdict, sent.why) == (Verdict.LATER, "ConnectError")


def test_one_that_hangs_is_left() -> None:
    with OtlpCollector(is_hung=True) as there:
        collector = collector_at(there.endpoint, timeout_s=0.1)
        began_s = time.monotonic()
        sent = collector.send(batch())
        collector.close()
        assert there.hangs()
    assert (sent.verdict, sent.why) == (Verdict.LATER, "ReadTimeout")
    assert time.monotonic() - began_s < 3.0
