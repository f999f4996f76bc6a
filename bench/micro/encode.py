"""CPU of writing one token: as a chat chunk, as an event of a message or of a response, and as a
protobuf frame.

    python -m bench.micro.encode

Every figure is the best of several rounds, in microseconds for one token.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import orjson
from rtrelay.v1 import relay_pb2

from bench.micro.codec import PAYLOAD
from relay.content import Events, ResponseInfo, TextDelta
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from relay.frontends.surfaces.messages_stream import MessageEventEncoder
from relay.frontends.surfaces.responses_stream import ResponseEncoder, ResponseFrame

_ONE: Events = [TextDelta(" token")]


def _chat() -> Callable[[], object]:
    encoder = ChatChunkEncoder("gpt-4o-mini")
    encoder.encode(
        [ResponseInfo(response_id="chatcmpl-1", model="gpt-4o-mini-2024-07-18", created_s=1)]
    )
    encoder.encode(_ONE)
    encode = encoder.encode
    return lambda: encode(_ONE)


def _message() -> Callable[[], object]:
    encoder = MessageEventEncoder("claude-haiku-4-5", lambda: 100)
    encoder.encode([ResponseInfo("msg_1", "claude-haiku-4-5-20251001", 0)])
    encoder.encode(_ONE)
    encode = encoder.encode
    return lambda: encode(_ONE)


def _responses() -> Callable[[], object]:
    """The encoder keeps the text for its last event, so it is made anew before it grows large."""
    count = 0
    encode = ResponseEncoder(ResponseFrame("resp_0", "gpt-4o-mini", {})).encode

    def one() -> object:
        nonlocal count, encode
        count += 1
        if count % 10_000 == 1:
            encode = ResponseEncoder(ResponseFrame("resp_0", "gpt-4o-mini", {})).encode
            encode(_ONE)
        return encode(_ONE)

    return one


def _frames() -> Callable[[], object]:
    encoder = FrameEncoder("g1", "gen_0", "t1", relay_pb2.OutputOptions())
    output = encoder.output
    return lambda: output(_ONE)


def measure(rounds: int = 7, number: int = 20_000) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    work: dict[str, Callable[[], object]] = {
        "orjson_loads_reference": lambda: orjson.loads(PAYLOAD),
        "chat_chunk_encode": _chat(),
        "message_event_encode": _message(),
        "responses_event_encode": _responses(),
        "proto_frame_encode": _frames(),
    }
    return {
        name: round(min(timeit.repeat(call, repeat=rounds, number=number)) / number * 1e6, 3)
        for name, call in work.items()
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:28} {value:7.2f} us")
