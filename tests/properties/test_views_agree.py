"""A session's frames, a chat stream, a Messages stream and a Responses stream tell one answer (T7),
valid to the last byte, with one end and nothing after it (T3)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import orjson
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import FinishReason as ProtoFinish
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import ChoiceFinished, Events, RefusalDelta
from relay.errors import RelayError, StreamReset, UpstreamError
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surface import StreamEncoder
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from relay.frontends.surfaces.messages_stream import MessageEventEncoder
from relay.sse import SseParser
from tests.fakes.collect import collect
from tests.fakes.ends import end_of
from tests.fakes.events import batches
from tests.fakes.properties import examples

ALL = relay_pb.OutputOptions(reasoning=True, tool_arguments=True)
FINISH = {
    "stop": "STOP",
    "length": "LENGTH",
    "tool_calls": "TOOL_CALLS",
    "content_filter": "CONTENT_FILTER",
}


class Told(NamedTuple):
    """What one view says."""

    texts: dict[int, str]
    reasoning: dict[int, str]
    calls: dict[int, list[tuple[str, str, str]]]
    finish: dict[int, str]
    has_failed: bool


def by_frames(cut: list[Events], error: RelayError | None) -> Told:
    made = FrameEncoder("g1", "gen_1", "t1", ALL)
    texts: dict[int, str] = defaultdict(str)
    reasoning: dict[int, str] = defaultdict(str)
    calls: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for events in cut:
        for data in made.output(events) if events else ():
            frame = relay_pb.ConverseResponse.FromString(data)
            kind = frame.WhichOneof("frame")
            assert kind in ("delta", "tool_call"), kind
            if kind == "tool_call":
                call = frame.tool_call.call
                calls[frame.tool_call.choice].append((call.call_id, call.name, call.arguments))
                continue
            texts[frame.delta.choice] += frame.delta.text
            reasoning[frame.delta.choice] += frame.delta.reasoning
    end = end_of([event for events in cut for event in events], error=error)
    (*_, last) = [*made.rest(end), made.end(end, None)]
    told = relay_pb.ConverseResponse.FromString(last).end
    finish = {
        one.choice: ProtoFinish.Name(one.finish_reason).removeprefix("FINISH_REASON_")
        for one in told.choices
        if one.finish_reason
    }
    return Told(_said(texts), _said(reasoning), dict(calls), finish, bool(told.error.code))


def ending(made: StreamEncoder, cut: list[Events], error: RelayError | None) -> bytes:
    """As the shim ends a stream."""
    if error is not None:
        return made.encode_error(error, "r")
    return made.encode_end(end_of([event for events in cut for event in events]))


def _said(texts: dict[int, str]) -> dict[int, str]:
    return {choice: text for choice, text in texts.items() if text}


def payloads(body: bytes) -> list[tuple[str, Any]]:
    """Every event, each of which is valid JSON in valid UTF-8."""
    body.decode()
    parser = SseParser()
    found = parser.feed(body)
    assert parser.end() is None, "an event without its end"
    return [(name, None if data == b"[DONE]" else orjson.loads(data)) for name, data in found]


def by_chat(cut: list[Events], error: RelayError | None) -> Told:
    made = ChatChunkEncoder("asked", with_usage=True)
    body = b"".join(made.encode(events) for events in cut)
    body += ending(made, cut, error)
    texts: dict[int, str] = defaultdict(str)
    reasoning: dict[int, str] = defaultdict(str)
    calls: dict[int, dict[int, list[str]]] = defaultdict(dict)
    finish: dict[int, str] = {}
    has_failed = False
    told = payloads(body)
    assert [value is None for _, value in told].count(True) <= 1
    assert told[-1][1] is None or "error" in told[-1][1], "no end, or something after it"
    for _, value in told:
        has_failed = has_failed or (value is not None and "error" in value)
        for choice in (value or {}).get("choices", ()):
            at, delta = choice["index"], choice["delta"]
            texts[at] += delta.get("content") or ""
            reasoning[at] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", ()):
                one = calls[at].setdefault(call["index"], ["", "", ""])
                for place, piece in enumerate(
                    (
                        call.get("id"),
                        call["function"].get("name"),
                        call["function"].get("arguments"),
                    )
                ):
                    one[place] += piece or ""
            if choice.get("finish_reason"):
                assert at not in finish, "finished twice"
                finish[at] = FINISH[choice["finish_reason"]]
    whole = {at: [(i, n, a) for i, n, a in found.values()] for at, found in calls.items()}
    return Told(_said(texts), _said(reasoning), whole, finish, has_failed)


def text_by_messages(cut: list[Events], error: RelayError | None) -> tuple[str, bool]:
    """The Messages API has one choice."""
    made = MessageEventEncoder("asked", lambda: 1, with_thinking=True, with_relay=False)
    body = b"".join(made.encode(events) for events in cut)
    body += ending(made, cut, error)
    text, names = "", []
    for name, value in payloads(body):
        names.append(name)
        assert value["type"] == name
        if name == "content_block_delta" and value["delta"]["type"] == "text_delta":
            text += value["delta"]["text"]
    assert names.count("message_stop") + names.count("error") == 1
    assert names[-1] in ("message_stop", "error"), "something after the end"
    return text, "error" in names


ERRORS = st.sampled_from([None, None, StreamReset("the stream broke")])


@examples(150, full=10_000)
@given(batches(max_choices=2), ERRORS)
def test_frames_and_chunks_tell_one_answer(cut: list[Events], error: UpstreamError | None) -> None:
    if error is not None:  # what broke has no finish
        cut = [[one for one in events if not isinstance(one, ChoiceFinished)] for events in cut]
    frames, chunks = by_frames(cut, error), by_chat(cut, error)
    meant = collect(event for events in cut for event in events)
    # OpenAI has no word for other reasons, and its clients run calls only where a choice has
    # finished for them: so it has, unless one was cut.
    finish = {at: reason.replace("OTHER", "STOP") for at, reason in frames.finish.items()}
    for at in frames.calls.keys() & finish.keys():
        is_cut = any(call.is_partial for call in meant.choices[at].tool_calls)
        if finish[at] != "CONTENT_FILTER" and not is_cut:
            finish[at] = "TOOL_CALLS"
    assert frames._replace(finish=finish) == chunks
    assert frames.texts == {at: one.text for at, one in meant.choices.items() if one.text}


@examples(100, full=10_000)
@given(batches(max_choices=1), ERRORS)
def test_messages_tell_the_same_text(cut: list[Events], error: UpstreamError | None) -> None:
    # A refusal is a text there, and what broke has no finish.
    left_out = (RefusalDelta,) if error is None else (RefusalDelta, ChoiceFinished)
    cut = [[one for one in events if not isinstance(one, left_out)] for events in cut]
    text, has_failed = text_by_messages(cut, error)
    frames = by_frames(cut, error)
    assert text == frames.texts.get(0, "")
    assert has_failed == frames.has_failed
