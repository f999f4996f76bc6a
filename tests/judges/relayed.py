"""What clients of the relay have of a recorded body: over the shim by OpenAI's own client and
Anthropic's, and over gRPC by the contract's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rtrelay.v1 import ConverseResponse, OutputOptions

from relay.content import ChoiceFinished, StreamEvent, Usage
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surfaces.chat_document import ChatCollector
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from relay.frontends.surfaces.messages_stream import MessageEventEncoder
from relay.frontends.surfaces.messages_whole import MessageCollector
from relay.frontends.surfaces.responses_stream import (
    ResponseCollector,
    ResponseEncoder,
    ResponseFrame,
)
from relay.outcome import GenerationEnd
from tests.corpus.harness import Reading
from tests.fakes.converse_client import Answer
from tests.judges.vendors import (
    PROMPT,
    add_up,
    anthropic_client,
    from_completion,
    from_response,
    openai_client,
)
from tests.judges.verdict import Choice, Verdict, arguments


def end_of(events: list[StreamEvent]) -> GenerationEnd:
    """The clean end of a generation that had these events."""
    finished = {event.choice: event for event in events if isinstance(event, ChoiceFinished)}
    usages = [event for event in events if isinstance(event, Usage)]
    return GenerationEnd(
        error=None,
        finish_reasons={choice: event.reason for choice, event in finished.items()},
        raw_finish_reasons={choice: event.raw_reason for choice, event in finished.items()},
        usage=usages[-1] if usages else None,
        is_usage_final=bool(usages),
        attempts=(),
        phases_us={},
        stall_count=0,
        longest_gap_us=0,
        provider="p",
        model="m",
        response_id="",
        has_output=True,
    )


def over_shim(reading: Reading) -> Verdict:
    """Streamed, every event its own batch."""
    end = end_of(reading.events)
    encoder = ChatChunkEncoder("m", with_usage=end.usage is not None)
    body = b"".join(encoder.encode([event]) for event in reading.events)
    body += encoder.encode_end(end)
    recording, client = openai_client()
    recording.put(body, "text/event-stream")
    return add_up(client.chat.completions.create(model="m", messages=[], stream=True))


def over_shim_whole(reading: Reading) -> Verdict:
    """As one document."""
    collector, end = ChatCollector("m"), end_of(reading.events)
    collector.add(reading.events)
    body = collector.to_json(end)
    recording, client = openai_client()
    recording.put(body, "application/json")
    return from_completion(client.chat.completions.create(model="m", messages=[]))


ASK: Final[Mapping[str, Any]] = {"model": "m", "max_tokens": 1, "messages": PROMPT}


def over_messages(reading: Reading) -> Any:
    """Streamed in Anthropic's format, every event its own batch: the message that its client adds
    up."""
    encoder = MessageEventEncoder("m", lambda: 0, with_thinking=True)
    body = b"".join(encoder.encode([event]) for event in reading.events)
    body += encoder.encode_end(end_of(reading.events))
    recording, client = anthropic_client()
    recording.put(body, "text/event-stream")
    with client.beta.messages.stream(**ASK) as stream:
        return stream.get_final_message()


def over_messages_whole(reading: Reading) -> Any:
    """As one message of Anthropic's format."""
    collector = MessageCollector("m", with_thinking=True)
    collector.add(reading.events)
    recording, client = anthropic_client()
    recording.put(collector.to_json(end_of(reading.events)), "application/json")
    return client.beta.messages.create(**ASK)


FRAME: Final = ResponseFrame(
    f"resp_{'0' * 48}", "m", {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
)


def over_responses(reading: Reading) -> tuple[Verdict, Any]:
    """Streamed as OpenAI's Responses, every event its own batch: what its client has, and the
    response that its stream ends with."""
    encoder = ResponseEncoder(FRAME)
    body = b"".join(encoder.encode([event]) for event in reading.events)
    body += encoder.encode_end(end_of(reading.events))
    recording, client = openai_client()
    recording.put(body, "text/event-stream")
    told, response = "", None
    with client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                told += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                response = event.response
    assert response is not None
    assert told == response.output_text
    return from_response(response), response


def over_responses_whole(reading: Reading) -> Verdict:
    """As one response."""
    collector = ResponseCollector(FRAME)
    collector.add(reading.events)
    recording, client = openai_client()
    recording.put(collector.to_json(end_of(reading.events)), "application/json")
    return from_response(client.responses.create(model="m", input="x"))


def over_grpc(reading: Reading) -> Verdict:
    """Frames as a session has them."""
    options = OutputOptions(reasoning=True, tool_arguments=True, extras=True)
    frames = FrameEncoder("g", "r", "t", options)
    encoded = [frames.started()]
    encoded += [frame for event in reading.events for frame in frames.output([event])]
    end = end_of(reading.events)
    encoded.append(frames.end(end, None))
    answer = Answer()
    for frame in encoded:
        answer.take(ConverseResponse.FromString(frame))
    assert answer.end is not None
    usage = answer.end.usage
    reasons = answer.finish_reasons
    choices = {
        one.choice: Choice(
            answer.texts.get(one.choice, ""),
            answer.refusals.get(one.choice, ""),
            [
                (done.call.call_id, done.call.name, arguments(done.call.arguments))
                for done in answer.tool_calls.get(one.choice, ())
            ],
            {"OTHER": "stop"}.get(reasons[one.choice], reasons[one.choice].lower()),
            one.raw_reason,
        )
        for one in answer.end.choices
    }
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return Verdict(choices, counts if end.usage is not None else None)
