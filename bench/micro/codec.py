"""CPU of decoding one content chunk, beside `orjson.loads` of the same line.

    python -m bench.micro.codec

Every figure is the best of several rounds, in microseconds for one event. The chunk is what
OpenAI sends for one token, written from the documented format.
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable

import orjson

from relay.codecs import openai_hot_chunk
from relay.codecs.base import CodecFactory
from relay.codecs.ollama import OllamaCodec
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_responses import ResponsesCodec
from relay.sse import SseParser

HEAD = (
    '{"id":"chatcmpl-Bq0000000000000000000000000000","object":"chat.completion.chunk",'
    '"created":1780000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default",'
    '"system_fingerprint":"fp_0000000000","choices":[{"index":0,"delta":'
)


def _payload(delta: str, after: str = '"finish_reason":null}]}') -> bytes:
    return f"{HEAD}{delta},{after}".encode()


PAYLOAD = _payload('{"content":" token"}', '"logprobs":null,"finish_reason":null}],"usage":null}')
COMPATIBLE = _payload('{"role":"assistant","content":" token","reasoning_content":null}')
START = _payload(
    '{"tool_calls":[{"index":0,"id":"call_a","type":"function",'
    '"function":{"name":"f","arguments":""}}]}'
)
ARGUMENTS = _payload('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a"}}]}')
REASONING = _payload('{"role":"assistant","content":null,"reasoning_content":" token"}')


def _event(payload: bytes) -> bytes:
    return b"data: %b\n\n" % payload


RESPONSES_PAYLOAD = (
    b'{"type":"response.output_text.delta","sequence_number":8,"item_id":"msg_'
    b'00000000000000000000000000000000000000000000000000","output_index":0,"content_index":0,'
    b'"delta":" token","logprobs":[],"obfuscation":"xxxxxxxxxx"}'
)
RESPONSES_EVENT = b"event: response.output_text.delta\n" + _event(RESPONSES_PAYLOAD)


OLLAMA_PAYLOAD = (
    b'{"model":"qwen3:14b","created_at":"2026-01-01T00:00:00.000000Z",'
    b'"message":{"role":"assistant","content":" token"},"done":false}'
)


def _fed(
    chunk: bytes, before: bytes = _event(PAYLOAD), make_codec: CodecFactory = OpenAIChatCodec
) -> Callable[[], object]:
    codec = make_codec()
    codec.decode_headers(200, [])
    codec.feed(before)
    feed = codec.feed
    return lambda: feed(chunk)


def _parsed(chunk: bytes) -> Callable[[], object]:
    parser = SseParser()
    parser.feed(b"data: x\n\n")
    feed = parser.feed
    return lambda: feed(chunk)


def measure(rounds: int = 7, number: int = 20_000) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    one, compatible = _event(PAYLOAD), _event(COMPATIBLE)
    half = len(one) // 2

    codec = OpenAIChatCodec()
    codec.decode_headers(200, [])
    codec.feed(one)

    def cut() -> None:
        codec.feed(one[:half])
        codec.feed(one[half:])

    work: dict[str, tuple[Callable[[], object], int]] = {
        "orjson_loads_reference": (lambda: orjson.loads(PAYLOAD), 1),
        "typed_decode_of_hot_chunk": (lambda: openai_hot_chunk.decode(PAYLOAD), 1),
        "sse_one_event_a_chunk": (_parsed(one), 1),
        "sse_ten_events_a_chunk": (_parsed(one * 10), 10),
        "feed_one_event_a_chunk": (_fed(one), 1),
        "feed_ten_events_a_chunk": (_fed(one * 10), 10),
        "feed_event_in_two_chunks": (cut, 1),
        "feed_crlf_event": (_fed(one.replace(b"\n", b"\r\n")), 1),
        "feed_compatible_host_event": (_fed(compatible), 1),
        "feed_reasoning_event": (_fed(_event(REASONING)), 1),
        "responses_orjson_loads_reference": (lambda: orjson.loads(RESPONSES_PAYLOAD), 1),
        "responses_feed_text_event": (
            _fed(RESPONSES_EVENT, RESPONSES_EVENT, ResponsesCodec),
            1,
        ),
        "ollama_orjson_loads_reference": (lambda: orjson.loads(OLLAMA_PAYLOAD), 1),
        "ollama_feed_text_event": (
            _fed(OLLAMA_PAYLOAD + b"\n", OLLAMA_PAYLOAD + b"\n", OllamaCodec),
            1,
        ),
    }
    best = {
        name: min(timeit.repeat(call, repeat=rounds, number=number // events)) / number * 1e6
        for name, (call, events) in work.items()
    }
    # Arguments add up in the codec, so that each round needs a new one.
    best["feed_tool_arguments_event"] = min(
        timeit.timeit(_fed(_event(ARGUMENTS), _event(START)), number=2_000) / 2_000 * 1e6
        for _ in range(rounds)
    )
    return {name: round(value, 3) for name, value in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = measure()
    if arguments.json:
        print(json.dumps({"payload_bytes": len(PAYLOAD), "us": figures}))
        return
    print(f"payload of {len(PAYLOAD)} bytes; microseconds for one event")
    for name, value in figures.items():
        # A wire with a payload of its own has its own reference.
        own = f"{name.partition('_')[0]}_orjson_loads_reference"
        reference = figures.get(own, figures["orjson_loads_reference"])
        print(f"  {name:33} {value:7.2f}   {value / reference:5.2f} x orjson.loads")


if __name__ == "__main__":
    main()
