"""Providers drawn at random, for property tests: how one of them takes a request, or fails it."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from relay.errors import ConnectError, StreamReset
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import ERROR, ROLE

ticks_s = st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.75, 1.0])
"""Few values, so that many things happen in the same tick."""

tails = st.sampled_from(
    ["clean", "clean", "cut", "error", "reset", "hang", "whole, hang", "whole, reset"]
)


@st.composite
def endpoints(draw: st.DrawFn) -> FakeEndpoint:
    connect_s, headers_s = draw(ticks_s), draw(ticks_s)
    fault = draw(st.sampled_from(["", "", "", "refused", "stale", "status", "hang", "late"]))
    if fault == "refused":
        error = ConnectError("refused")
        return FakeEndpoint(connect_s=connect_s, fault=error, fault_at="connect")
    if fault == "stale":
        return FakeEndpoint(headers_s=headers_s, fault=StreamReset("stale", reused=True))
    if fault == "status":
        status = draw(st.sampled_from([400, 429, 503]))
        return FakeEndpoint(headers_s=headers_s, status=status, chunks=[(draw(ticks_s), b"no")])
    if fault == "hang":
        return FakeEndpoint(connect_s=connect_s, headers_s=math.inf)
    words = draw(st.lists(st.tuples(ticks_s, st.sampled_from(["ab", "c"])), max_size=4))
    chunks = [(0.0, ROLE), *((wait_s, chunk({"content": word})) for wait_s, word in words)]
    tail = draw(tails)
    gap_s = draw(ticks_s)
    if tail.startswith(("clean", "whole")):
        chunks.append((gap_s, chunk(finish="stop")))
    if tail == "clean":
        chunks.append((0.0, b"data: [DONE]\n\n"))
    elif tail == "error":
        chunks.append((gap_s, ERROR))
    elif tail.endswith("hang"):
        chunks.append((math.inf, b""))
    broken = StreamReset("broken", headers_received=True) if tail.endswith("reset") else None
    return FakeEndpoint(
        connect_s=connect_s, headers_s=headers_s, chunks=chunks, fault=broken, fault_at="body"
    )
