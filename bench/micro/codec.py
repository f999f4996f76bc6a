"""CPU of decoding one content chunk, beside `orjson.loads` of the same line.

    python -m bench.micro.codec

Every figure is the best of several rounds, in microseconds for one event. The chunk is what
OpenAI sends for one token, and in the lines of another wire what that wire sends, written from the
documented formats; each is compared with `orjson.loads` of its own wire's line.
"""

from __future__ import annotations

import argparse
import base64
import json
import timeit
from collections.abc import Callable
from zlib import crc32

import orjson

from relay.codecs import openai_hot_chunk
from relay.codecs.anthropic_messages import AnthropicMessagesCodec, FramedMessagesCodec
from relay.codecs.aws_event_stream import AwsEventParser
from relay.codecs.base import Codec
from relay.codecs.bedrock_converse import ConverseCodec
from relay.codecs.gemini import GeminiCodec
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


# Counts grow with every chunk of Gemini's.
GEMINI = (
    b'{"candidates": [{"content": {"parts": [{"text": " a piece of some fifty characters"}],'
    b'"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 412,'
    b'"candidatesTokenCount": 16,"totalTokenCount": 428,"promptTokensDetails": '
    b'[{"modality": "TEXT","tokenCount": 412}],"serviceTier": "standard"},'
    b'"modelVersion": "gemini-2.5-flash","responseId": "J3dH00000000000000000000"}'
)
GEMINI_LATER = GEMINI.replace(b"16", b"28").replace(b"428", b"440")


def _event(payload: bytes) -> bytes:
    return b"data: %b\n\n" % payload


ANTHROPIC_PAYLOAD = (
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}    }'
)
ANTHROPIC_REASONING = (
    b'{"type":"content_block_delta","index":9,'
    b'"delta":{"type":"thinking_delta","thinking":" token"}       }'
)
ANTHROPIC_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)

RESPONSES_PAYLOAD = (
    b'{"type":"response.output_text.delta","sequence_number":8,"item_id":"msg_'
    b'00000000000000000000000000000000000000000000000000","output_index":0,"content_index":0,'
    b'"delta":" token","logprobs":[],"obfuscation":"xxxxxxxxxx"}'
)
RESPONSES_EVENT = b"event: response.output_text.delta\n" + _event(RESPONSES_PAYLOAD)

OLLAMA_LINE = (
    b'{"model":"qwen3:14b","created_at":"2026-01-01T00:00:00.000000Z",'
    b'"message":{"role":"assistant","content":" token"},"done":false}\n'
)


BEDROCK_PAYLOAD = b'{"contentBlockIndex":0,"delta":{"text":" token"},"p":"abcdefghijklmnop"}'
BEDROCK_REASONING = (
    b'{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":" token"}},"p":"abcdefghijklmnop"}'
)
BEDROCK_CALL = b'{"contentBlockIndex":1,"start":{"toolUse":{"name":"f","toolUseId":"t"}},"p":"a"}'
BEDROCK_ARGUMENTS = b'{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{\\"a"}},"p":"abcdef"}'


def _frame(name: str, payload: bytes) -> bytes:
    """A frame as Bedrock sends it."""
    headers = b""
    for key, value in (
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2)
        headers += value.encode()
    head = (16 + len(headers) + len(payload)).to_bytes(4) + len(headers).to_bytes(4)
    whole = head + crc32(head).to_bytes(4) + headers + payload
    return whole + crc32(whole).to_bytes(4)


def _bedrock_delta(payload: bytes) -> bytes:
    return _frame("contentBlockDelta", payload)


def _bedrock_chunk(payload: bytes) -> bytes:
    """An event of Claude's in a frame."""
    inner = base64.b64encode(payload).decode()
    return _frame("chunk", json.dumps({"bytes": inner, "p": "abcdefgh"}).encode())


BEDROCK_START = _frame("messageStart", b'{"role":"assistant"}')


def _anthropic_event(payload: bytes) -> bytes:
    return b"event: content_block_delta\ndata: %b\n\n" % payload


def _reference(name: str, figures: dict[str, float]) -> float:
    """The figure that a figure is compared with: a wire with a payload of its own has its own."""
    own = f"{name.partition('_')[0]}_loads_reference"
    return figures.get(own, figures["orjson_loads_reference"])


def _fed(
    chunk: bytes,
    before: bytes = _event(PAYLOAD),
    make_codec: Callable[[], Codec] = OpenAIChatCodec,
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


def _cut(chunk: bytes) -> Callable[[], object]:
    parser = AwsEventParser()
    parser.feed(chunk)
    feed = parser.feed
    return lambda: feed(chunk)


def measure(rounds: int = 7, number: int = 20_000) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    one, compatible = _event(PAYLOAD), _event(COMPATIBLE)
    half = len(one) // 2

    claude = _anthropic_event(ANTHROPIC_PAYLOAD)
    claude_reasoning = _anthropic_event(ANTHROPIC_REASONING)

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
        "anthropic_loads_reference": (lambda: orjson.loads(ANTHROPIC_PAYLOAD), 1),
        "anthropic_one_event_a_chunk": (
            _fed(claude, ANTHROPIC_START + claude, AnthropicMessagesCodec),
            1,
        ),
        "anthropic_ten_events_a_chunk": (
            _fed(claude * 10, ANTHROPIC_START + claude, AnthropicMessagesCodec),
            10,
        ),
        "anthropic_reasoning_event": (
            _fed(claude_reasoning, ANTHROPIC_START + claude, AnthropicMessagesCodec),
            1,
        ),
    }
    gemini: Codec = GeminiCodec()
    gemini.decode_headers(200, [])
    gemini_events = [b"data: %b\r\n\r\n" % payload for payload in (GEMINI, GEMINI_LATER)]

    def two_of_gemini() -> None:
        gemini.feed(gemini_events[0])
        gemini.feed(gemini_events[1])

    two_of_gemini()
    bedrock_text = _bedrock_delta(BEDROCK_PAYLOAD)
    opened = b"".join(
        _bedrock_chunk(data) for _, data in SseParser().feed(ANTHROPIC_START + claude)
    )
    work |= {
        "gemini_loads_reference": (lambda: orjson.loads(GEMINI), 1),
        "gemini_feed_one_event_a_chunk": (two_of_gemini, 2),
        "responses_loads_reference": (lambda: orjson.loads(RESPONSES_PAYLOAD), 1),
        "responses_one_event_a_chunk": (_fed(RESPONSES_EVENT, RESPONSES_EVENT, ResponsesCodec), 1),
        "bedrock_loads_reference": (lambda: orjson.loads(BEDROCK_PAYLOAD), 1),
        "bedrock_frame_one_a_chunk": (_cut(_bedrock_delta(BEDROCK_PAYLOAD)), 1),
        "bedrock_frame_ten_a_chunk": (_cut(_bedrock_delta(BEDROCK_PAYLOAD) * 10), 10),
        "bedrock_text_one_event_a_chunk": (
            _fed(bedrock_text, BEDROCK_START + bedrock_text, ConverseCodec),
            1,
        ),
        "bedrock_text_ten_events_a_chunk": (
            _fed(bedrock_text * 10, BEDROCK_START + bedrock_text, ConverseCodec),
            10,
        ),
        "anthropic_in_frames": (
            _fed(_bedrock_chunk(ANTHROPIC_PAYLOAD), opened, FramedMessagesCodec),
            1,
        ),
        "ollama_loads_reference": (lambda: orjson.loads(OLLAMA_LINE), 1),
        "ollama_one_line_a_chunk": (_fed(OLLAMA_LINE, OLLAMA_LINE, OllamaCodec), 1),
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
    # So do reasoning and arguments of Bedrock's.
    for name, before, one in (
        ("bedrock_reasoning_event", BEDROCK_START, _bedrock_delta(BEDROCK_REASONING)),
        (
            "bedrock_tool_arguments_event",
            BEDROCK_START + _frame("contentBlockStart", BEDROCK_CALL),
            _bedrock_delta(BEDROCK_ARGUMENTS),
        ),
    ):
        best[name] = min(
            timeit.timeit(_fed(one, before, ConverseCodec), number=2_000) / 2_000 * 1e6
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
        print(f"  {name:29} {value:7.2f}   {value / _reference(name, figures):5.2f} x orjson.loads")


if __name__ == "__main__":
    main()
