"""What every wire does with a body, whatever is in it."""

from __future__ import annotations

import gc
import weakref

import pytest

from relay.codecs.gemini import MAX_ANSWER_BYTES
from relay.codecs.registry import BUILDERS
from relay.content import ProviderFailed
from relay.errors import NotAnAnswer, RelayError, RemoteProtocolError
from relay.sse import MAX_EVENT_BYTES
from tests.codecs.aws_frames import chunk
from tests.fakes.collect import collect, run

WIRES = sorted(BUILDERS)
FRAMED = {"bedrock_converse"}
"""Whose events come in frames, so that a body of another kind is known at once to be none."""


def failure(
    wire: str, body: bytes, *headers: tuple[str, str], status: int = 200
) -> RelayError | None:
    """How a body fails, None if it does not."""
    codec = BUILDERS[wire]({}, "p")()
    events = run(codec, [body], status=status, headers=headers)
    last = events[-1] if events else None
    return last.error if isinstance(last, ProviderFailed) else None


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [200, 302, 404, 500])
@pytest.mark.parametrize(
    "header",
    [
        "x-request-id",
        "request-id",
        "apim-request-id",
        "x-amzn-requestid",
        "x-ds-trace-id",
        "mistral-correlation-id",
    ],
)
def test_whatever_fails_names_the_request(wire: str, status: int, header: str) -> None:
    error = failure(wire, b"", ("date", "now"), (header, "req_1"), status=status)
    assert error is not None
    assert error.metadata["provider_request_id"] == "req_1"


@pytest.mark.parametrize("wire", WIRES)
def test_name_of_a_request_is_fit_to_be_shown(wire: str) -> None:
    long = failure(wire, b"", ("x-request-id", "x" * 300))
    assert long is not None
    assert long.metadata["provider_request_id"] == "x" * 200
    odd = failure(wire, b"", ("x-request-id", "a\tb"), ("request-id", "req_2"))
    assert odd is not None
    assert odd.metadata["provider_request_id"] == "req_2"
    none = failure(wire, b"")
    assert none is not None
    assert "provider_request_id" not in none.metadata


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (
            "anthropic_messages",
            b'{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"of body"}',
        ),
        (
            "gemini",
            b'{"error":{"code":500,"details":[{"@type":"type.googleapis.com/google.rpc.RequestInfo"'
            b',"requestId":"of body"}]}}',
        ),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_name_in_the_body_counts_more(wire: str, body: bytes, status: int) -> None:
    error = failure(wire, body, ("x-request-id", "of header"), status=status)
    assert error is not None
    assert error.metadata["provider_request_id"] == "of body"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\xef\xbb\xbf\n"])
def test_markup_is_no_answer(wire: str, before: bytes) -> None:
    for body in (b"<html>no</html>", b"<"):
        assert type(failure(wire, before + body)) is NotAnAnswer


@pytest.mark.parametrize("wire", WIRES)
def test_bytes_of_a_byte_order_mark_in_another_order_are_none(wire: str) -> None:
    """The fuzzer found it: the same body, in one piece and in two, had two errors."""
    pieces = [[b"\xbf<"], [b"\xbf", b"<"]]
    whole, cut = (collect(run(BUILDERS[wire]({}, "p")(), each)) for each in pieces)
    assert whole == cut


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("begin", [b'{"a":"', b'[{"a":"', b'data: {"a":"'])
@pytest.mark.parametrize("status", [200, 500])
def test_memory_is_bounded(wire: str, begin: bytes, status: int) -> None:
    if wire in FRAMED and begin.startswith(b"data"):
        begin = chunk(b"x" * (MAX_EVENT_BYTES // 2))[:16]
    codec = BUILDERS[wire]({}, "p")()
    codec.decode_headers(status, [])
    held = codec.feed(begin)
    cap = MAX_ANSWER_BYTES if wire == "gemini" else MAX_EVENT_BYTES  # it draws
    for _ in range(2 * cap // 65536):
        assert not held
        held = codec.feed(b"x" * 65536)
        if held:
            break
    assert bool(held) == (status == 200)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'data: {"error": {"message": "no"}}\n\n', 200),
        (b'{"error": {"message": "no"}}\n', 200),
        (b'data: {"a": \n\n', 200),
        (b'{"a": \n', 200),
        (b"<", 200),
        (b"", 200),
        (b'{"error": {"message": "no"}}', 500),
    ],
)
def test_failure_is_let_go_at_once(wire: str, body: bytes, status: int) -> None:
    """Without the collector: a provider in trouble must not cost memory."""
    gc.disable()
    try:
        error = failure(wire, body, status=status)
        assert error is not None
        seen = weakref.ref(error)
        del error
        assert seen() is None
    finally:
        gc.enable()


def test_failures_are_tracked_by_the_collector() -> None:
    assert gc.is_tracked(ProviderFailed(RemoteProtocolError("no")))
