"""How an answer ended, read from what a client received."""

from __future__ import annotations

import orjson
import pytest
from rtrelay.v1 import relay_pb2

from bench.peers.endings import Ending, of_frames, of_sse

STAMPED = "t=0062844714056778 Hello"


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


TOKEN = chunk({"content": STAMPED})
FINISH = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("pieces", "failure", "ending"),
    [
        ([TOKEN, FINISH, DONE], None, Ending.COMPLETE),
        ([TOKEN, DONE], None, Ending.COMPLETE),
        ([TOKEN, FINISH], None, Ending.COMPLETE),
        ([TOKEN], None, Ending.SILENT),
        ([], None, Ending.SILENT),
        ([TOKEN], Ending.BROKEN, Ending.BROKEN),
        ([TOKEN, b"data: "], Ending.BROKEN, Ending.BROKEN),
        ([TOKEN], Ending.HANG, Ending.HANG),
        ([], Ending.REFUSED, Ending.REFUSED),
        ([TOKEN, b'data: {"error":{"message":"cut"}}\n\n', DONE], None, Ending.ERROR),
        ([TOKEN, b'data: {"error":{"message":"cut"}}\n\n'], Ending.BROKEN, Ending.ERROR),
        ([TOKEN, b"event: error\ndata: {}\n\n"], None, Ending.ERROR),
        ([b'data: {"choices":[],"error":null}\n\n', FINISH], None, Ending.COMPLETE),
        # A client cannot read a cut piece: it is no error that it was told of.
        ([TOKEN, b'data: {"choices":[{"del'], None, Ending.SILENT),
    ],
)
def test_the_ending_of_a_body(pieces: list[bytes], failure: Ending | None, ending: Ending) -> None:
    assert of_sse(pieces, failure).ending == ending


def test_pieces_may_be_split_anywhere() -> None:
    body = (TOKEN + TOKEN + FINISH + DONE).replace(b"\n", b"\r\n")
    whole = of_sse([body], None)
    assert whole.tokens == 2
    for at in range(1, len(body)):
        assert of_sse([body[:at], body[at:]], None) == whole


def test_a_tool_call_is_put_together() -> None:
    pieces = [
        chunk({"tool_calls": [{"index": 0, "function": {"name": "book", "arguments": ""}}]}),
        # TensorZero names the tool in every piece.
        chunk({"tool_calls": [{"index": 0, "function": {"name": "book", "arguments": '{"at"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": None, "arguments": ": 7}"}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"name": "pay"}}]}),
        chunk({}, "tool_calls"),
        DONE,
    ]
    assert of_sse(pieces, None).tool_calls == (("book", '{"at": 7}'), ("pay", ""))


def frame(**fields: object) -> bytes:
    return relay_pb2.ConverseResponse(**fields).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (relay_pb2.OUTCOME_COMPLETED, Ending.COMPLETE),
        (relay_pb2.OUTCOME_FAILED, Ending.ERROR),
    ],
)
def test_the_ending_of_a_generation(outcome: int, ending: Ending) -> None:
    pieces = [
        frame(delta=relay_pb2.Delta(text=STAMPED)),
        frame(end=relay_pb2.End(outcome=outcome)),  # type: ignore[arg-type]
    ]
    answer = of_frames(pieces, Ending.BROKEN if ending == Ending.ERROR else None)
    assert answer.ending == ending
    assert answer.tokens == 1


def test_frames_without_an_end() -> None:
    pieces = [frame(delta=relay_pb2.Delta(text=STAMPED))]
    assert of_frames(pieces, None).ending == Ending.SILENT
    assert of_frames(pieces, Ending.BROKEN).ending == Ending.BROKEN
