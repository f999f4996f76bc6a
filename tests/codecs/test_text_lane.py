"""The lane for events that differ in their text alone says what the general way says."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codecs import anthropic_hot_event, openai_hot_chunk
from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.text_lane import MAX_LANE_BYTES, MAX_LESSONS, TextLane
from relay.content import StreamEvent, TextDelta
from tests.fakes.properties import examples

HEAD = b"data: "


def chunk(text: str, *, index: int = 0, at: str = "1", more: str = "") -> bytes:
    """An event of OpenAI's, as plain as they come."""
    content = orjson.dumps(text).decode()
    return (
        f'data: {{"id":"c{at}","choices":[{{"index":{index},"delta":{{"content":{content}}},'
        f'"finish_reason":null}}]{more}}}\n\n'
    ).encode()


def lane() -> TextLane:
    return TextLane(openai_hot_chunk.TEXT_MARKS, openai_hot_chunk.read_apart)


def taught(event: bytes = chunk("one"), choice: int = 0) -> TextLane:
    made = lane()
    made.learn(event, HEAD, choice)
    return made


@pytest.mark.parametrize("text", ["two", " ", "ünïcode", "日本", "x" * 5000, "a: b, {c}"])
def test_another_text_is_read(text: str) -> None:
    learnt = taught()
    assert learnt.is_open
    event = chunk(text)
    assert event.find(text.encode()) > 0, "it stands for itself"
    assert learnt.text_of(event) == text


@pytest.mark.parametrize(
    "event",
    [
        chunk("with\nline"),
        chunk('with "quotes"'),
        chunk("back\\slash"),
        chunk("tab\t"),
        chunk(""),
        chunk("two", index=1),
        chunk("two", at="2"),
        chunk("two", more=',"usage":{"prompt_tokens":1}'),
        chunk("two")[:-1],
        chunk("two")[:-2],
        chunk("two") + chunk("three"),
        chunk("two") + b": comment\n\n",
        chunk("two").replace(b"two", b"t\x00o"),
        chunk("two").replace(b"two", b"t\xffo"),
        chunk("two").replace(b"two", b"t\ro"),
        chunk("two").replace(b"two", b"t\no"),
        chunk("two").replace(b'"two"', b'"two","role":"user"'),
        chunk("two").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        chunk("x" * MAX_LANE_BYTES),
        b"data: [DONE]\n\n",
        b"",
        chunk("")[: len(chunk("")) // 2],
    ],
)
def test_no_other_event_is(event: bytes) -> None:
    assert taught().text_of(event) is None


@pytest.mark.parametrize(
    "event",
    [
        chunk("one") + chunk("two"),
        chunk("one")[:-1],
        chunk("two\nlines"),
        chunk("one").replace(b"\n\n", b"\r\n\r\n"),
        chunk("one").replace(b'{"id"', b'{\n"id"'),
        chunk("one").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        chunk("one").replace(b'"content":"one"', b'"content":"one","content":"one"'),
        b"data: nothing\n\n",
    ],
)
def test_what_is_not_plain_teaches_nothing(event: bytes) -> None:
    assert not taught(event).is_open


def test_a_mark_that_is_somewhere_else_teaches_nothing() -> None:
    """The first mark holds the same text, and is not what the decoder reads."""
    event = chunk("one", more=',"choices":[{"index":0,"delta":{"content":"one"}}]')
    assert not taught(event).is_open  # of a key that comes twice the last one counts


def test_it_learns_anew_and_gives_up() -> None:
    made = lane()
    for number in range(MAX_LESSONS + 1):
        event = chunk("one", at=str(number))
        assert made.text_of(event) is None or not made.is_open
        made.learn(event, HEAD, 0)
        assert made.is_open == (number < MAX_LESSONS) or number == MAX_LESSONS
    assert made.text_of(chunk("two", at=str(MAX_LESSONS))) is None
    assert made.text_of(chunk("two", at=str(MAX_LESSONS - 1))) == "two"


def test_a_text_that_must_be_parsed_costs_no_lesson() -> None:
    made = taught()
    for _ in range(3 * MAX_LESSONS):
        made.learn(chunk("new\nline"), HEAD, 0)
    assert made.text_of(chunk("two")) == "two"
    made.learn(chunk("one", at="2"), HEAD, 0)
    assert made.text_of(chunk("two", at="2")) == "two"


def test_what_it_has_learnt_can_be_closed() -> None:
    made = taught()
    made.close()
    assert not made.is_open


# --- both codecs, with it and without -------------------------------------------------------


def without(codec: Any) -> Any:
    codec._lane._lessons = MAX_LESSONS  # it has given up
    return codec


def read(codec: Any, pieces: list[bytes]) -> list[StreamEvent]:
    codec.decode_headers(200, [("content-type", "text/event-stream")])
    events: list[StreamEvent] = []
    for piece in pieces:
        events.extend(codec.feed(memoryview(piece)))
    events.extend(codec.end())
    return events


def told(events: list[StreamEvent]) -> list[str]:
    return [repr(event) for event in events]


TEXTS = st.one_of(st.sampled_from([" the", " of", "\n", '"', "\\", "é", "🙂", ""]), st.text())

OPENAI_EVENTS = st.one_of(
    st.builds(chunk, TEXTS),
    st.builds(chunk, TEXTS, index=st.integers(0, 2)),
    st.builds(chunk, TEXTS, at=st.sampled_from("123")),
    st.sampled_from(
        [
            b": ping\n\n",
            b"data: [DONE]\n\n",
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
            chunk("last").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
            b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
            b'data: {"error":{"message":"no"}}\n\n',
            b"data: \xff\n\n",
            b"event: x\n",
            b"data: {",
        ]
    ),
)


def anthropic_delta(text: str, index: int = 0) -> bytes:
    data = {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "text_delta", "text": text},
    }
    return b"event: content_block_delta\ndata: " + orjson.dumps(data) + b"\n\n"


def anthropic_event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), orjson.dumps(data))


ANTHROPIC_START = anthropic_event(
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}
)


def block_start(index: int, kind: str) -> bytes:
    block = {"type": kind, "text": ""} if kind == "text" else {"type": kind, "thinking": ""}
    return anthropic_event({"type": "content_block_start", "index": index, "content_block": block})


ANTHROPIC_EVENTS = st.one_of(
    st.builds(anthropic_delta, TEXTS),
    st.builds(anthropic_delta, TEXTS, index=st.integers(0, 1)),
    st.builds(block_start, st.integers(0, 1), st.sampled_from(["text", "thinking"])),
    st.builds(
        lambda index: anthropic_event({"type": "content_block_stop", "index": index}),
        st.integers(0, 1),
    ),
    st.sampled_from(
        [
            anthropic_event({"type": "ping"}),
            anthropic_event({"type": "message_stop"}),
            anthropic_event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            b"event: x\n",
            b"data: {",
        ]
    ),
)


def cut(events: list[bytes], sizes: list[int]) -> list[bytes]:
    """Some whole events, some together, some in pieces."""
    pieces: list[bytes] = []
    for number, event in enumerate(events):
        size = sizes[number % len(sizes)] if sizes else 0
        if size == 0 or not event:
            pieces.append(event)
        elif size == 1 and pieces:
            pieces[-1] += event
        else:
            pieces += [event[: len(event) // size], event[len(event) // size :]]
    return pieces


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (OpenAIChatCodec, chunk("Hi")),
        (AnthropicMessagesCodec, ANTHROPIC_START + block_start(0, "text")),
    ],
    ids=["openai", "anthropic"],
)
def test_it_is_taken_where_it_can_be(make: Callable[[], Any], first: bytes) -> None:
    of = chunk if make is OpenAIChatCodec else anthropic_delta
    codec = make()
    codec.decode_headers(200, [])
    codec.feed(first)
    codec.feed(of(" one"))
    codec.feed(of(" two"))
    assert codec._lane.is_open
    codec._reader = None  # whatever goes the general way fails from here on
    if make is AnthropicMessagesCodec:
        codec._reader = SimpleNamespace(text_chars=0)
    assert codec.feed(memoryview(of(" three"))) == [TextDelta(" three")]


@given(st.lists(OPENAI_EVENTS, max_size=30), st.lists(st.integers(0, 4), max_size=7))
@example([chunk("a"), chunk("b"), b"data: {", chunk("c"), chunk("d")], [])
@examples(300)
def test_openai_says_the_same_without_it(events: list[bytes], sizes: list[int]) -> None:
    pieces = cut(events, sizes)
    assert told(read(OpenAIChatCodec(), pieces)) == told(read(without(OpenAIChatCodec()), pieces))


@given(st.lists(ANTHROPIC_EVENTS, max_size=30), st.lists(st.integers(0, 4), max_size=7))
@examples(300)
def test_anthropic_says_the_same_without_it(events: list[bytes], sizes: list[int]) -> None:
    pieces = cut([ANTHROPIC_START, block_start(0, "text"), *events], sizes)
    with_it = read(AnthropicMessagesCodec(), pieces)
    assert told(with_it) == told(read(without(AnthropicMessagesCodec()), pieces))


def test_the_decoders_take_the_text_out() -> None:
    text, rest = anthropic_hot_event.read_apart(anthropic_delta("one").split(b"data: ")[1])
    assert (text, rest) == (
        "one",
        anthropic_hot_event.read_apart(anthropic_delta("two").split(b"data: ")[1])[1],
    )
