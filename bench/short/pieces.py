"""Pieces of the path without a network, and whole generations without one, as CI measures them.

A ratio is the median of many short rounds, each over an `orjson.loads` of the same line that is
measured right before it: a core that others slow down for a while is so for both. Time is the CPU
time of the thread, which stands still while others have the core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from rtrelay.v1 import relay_pb2

from bench.micro import path
from bench.micro.codec import PAYLOAD
from bench.stats import median
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.content import Events, ResponseInfo, TextDelta
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from relay.sse import SseParser

Work = Callable[[], object]

LONG_TOKENS: Final = 101
GENERATIONS: Final = 20
CALLS: Final = 500
_EVENT: Final = b"data: %b\n\n" % PAYLOAD
_TEXT: Final[Events] = [TextDelta(" token")]


def repeated_us(work: Work, calls: int) -> float:
    """Microseconds a call, of so many in a row."""
    began_s = time.thread_time()
    for _ in range(calls):
        work()
    return (time.thread_time() - began_s) / calls * 1e6


def _parse() -> Work:
    feed = SseParser().feed
    return lambda: feed(_EVENT)


def _feed(events: int) -> Callable[[], Work]:
    def made() -> Work:
        codec = OpenAIChatCodec()
        codec.decode_headers(200, [])
        codec.feed(_EVENT)
        chunk, feed = _EVENT * events, codec.feed
        return lambda: feed(chunk)

    return made


def _encode_chat() -> Work:
    encoder = ChatChunkEncoder("gpt-4o-mini")
    encoder.encode([ResponseInfo("chatcmpl-1", "gpt-4o-mini-2024-07-18", 1)])
    encoder.encode(_TEXT)
    encode = encoder.encode
    return lambda: encode(_TEXT)


def _encode_frame() -> Work:
    output = FrameEncoder("g1", "gen_0", "t1", relay_pb2.OutputOptions()).output
    return lambda: output(_TEXT)


_MADE: Final[Mapping[str, tuple[Callable[[], Work], int]]] = {
    "sse_one_event_a_chunk": (_parse, 1),
    "feed_one_event_a_chunk": (_feed(1), 1),
    "feed_ten_events_a_chunk": (_feed(10), 10),
    "chat_chunk_encode": (_encode_chat, 1),
    "proto_frame_encode": (_encode_frame, 1),
}
"""How each is made, and how many events one call of it is."""
NAMES: Final = tuple(_MADE)


class Piece:
    """One piece; `before`, then `once`, as often as there is time for."""

    def __init__(self, name: str) -> None:
        make, self._events = _MADE[name]
        self._name = name
        self._work = make()
        self._reference_us = math.nan
        self._over: list[float] = []

    def before(self) -> None:
        """Measure the reference."""
        self._reference_us = _reference_us()

    def once(self) -> None:
        """Measure the piece."""
        took_us = repeated_us(self._work, CALLS // self._events) / self._events
        self._over.append(took_us / self._reference_us)

    def ratios(self) -> dict[str, float]:
        """What was found so far."""
        return {f"micro/{self._name}": median(self._over)}


class Generations:
    """Whole generations without network and frontend: what a request costs (`path_request`: all of
    it, its first token included) and each further token (`path_event`)."""

    def __init__(self) -> None:
        self._reference_us = self._request_us = math.nan
        self._requests: list[float] = []
        self._events: list[float] = []

    def before(self) -> None:
        """Measure reference and request."""
        self._reference_us = _reference_us()
        self._request_us = _generation_us(1)
        self._requests.append(self._request_us / self._reference_us)

    def once(self) -> None:
        """Measure long answers."""
        event_us = (_generation_us(LONG_TOKENS) - self._request_us) / (LONG_TOKENS - 1)
        self._events.append(event_us / self._reference_us)

    def ratios(self) -> dict[str, float]:
        """What was found so far."""
        return {
            "micro/path_request": median(self._requests),
            "micro/path_event": median(self._events),
        }


def _reference_us() -> float:
    return repeated_us(lambda: orjson.loads(PAYLOAD), CALLS)


def _generation_us(tokens: int) -> float:
    began_s = time.thread_time()
    path.generate(tokens, GENERATIONS)
    return (time.thread_time() - began_s) / GENERATIONS * 1e6
