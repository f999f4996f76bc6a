"""What gRPC hands over as bytes: frames of a session, a single generation, feedback.

Held to: what is no message, or a wrong one, is refused by the path of a field; what is taken can be
written as any wire; a message that passes the count of fields has no more of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.message import DecodeError, Message
from rtrelay.v1 import content_pb2 as content_pb
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.frontends import proto_scan
from relay.frontends.caller import NOBODY
from relay.frontends.proto_in import (
    check_generation_id,
    check_labels,
    parse,
    to_generate_request,
    to_prewarm_request,
)
from relay.governance.feedback import checked
from relay.observability.tracing.encoding import rejected_of
from tests.fuzz.families.body_seeds import CHATS, SCHEMA, TRACE
from tests.fuzz.promises import refused_by_name, sent_on
from tests.fuzz.registry import Target

MAX_BYTES = 1 << 20
FEW = 24
"""Fields that `check_scan` lets pass."""


def check_generate(given: bytes) -> bool:
    def read() -> Any:
        start = parse(relay_pb.GenerateRequest, given, MAX_BYTES).start
        check_generation_id(start.generation_id or "made")
        return to_generate_request(start, None, NOBODY)

    request = refused_by_name(read)
    if request is not None:
        sent_on(request, len(given))
    return request is not None


def check_converse(given: bytes) -> bool:
    """Two frames, the first one's length in two bytes: a setup, and a start under it."""
    size = int.from_bytes(given[:2])
    pieces = (given[2 : 2 + size], given[2 + size :])

    def read() -> Any:
        setup, start = (parse(relay_pb.ConverseRequest, piece, MAX_BYTES) for piece in pieces)
        check_labels(setup.setup.labels, "setup.labels")
        warmed = to_prewarm_request(setup.setup, NOBODY, "s")
        if warmed is not None:
            sent_on(warmed, len(given))
        check_generation_id(start.start.generation_id)
        return to_generate_request(start.start, setup.setup, NOBODY, "s")

    request = refused_by_name(read)
    if request is not None:
        sent_on(request, len(given))
    return request is not None


def check_feedback(given: bytes) -> bool:
    def read() -> Any:
        asked = parse(relay_pb.FeedbackRequest, given, 65_536)
        score = asked.score if asked.HasField("score") else None
        return checked(asked.request_id, score, asked.label, asked.comment)

    return refused_by_name(read) is not None


def fields_in(message: Message) -> int:
    """Those of the message and all within it, as few as the bytes of it can have had."""
    count = 0
    for field, value in message.ListFields():
        one_by_one = value if field.is_repeated else [value]
        if field.message_type is None:
            count += (
                1
                if field.is_repeated and field.cpp_type != field.CPPTYPE_STRING
                else len(one_by_one)
                if field.is_repeated
                else 1
            )
            continue
        if field.message_type.GetOptions().map_entry:
            count += len(value)
            continue
        count += len(one_by_one) + sum(fields_in(one) for one in one_by_one)
    return count


def check_scan(given: bytes) -> bool:
    """With a limit that is soon reached: what is let pass has no more fields than it."""
    usual, proto_scan.MAX_FIELDS = proto_scan.MAX_FIELDS, FEW
    try:
        is_refused = proto_scan.holds_too_many_fields(relay_pb.ConverseRequest, given)
    finally:
        proto_scan.MAX_FIELDS = usual
    try:
        message = relay_pb.ConverseRequest.FromString(given)
    except DecodeError:
        return False
    if not is_refused:
        assert fields_in(message) <= FEW or len(given) <= 2 * FEW
    return True


def check_collector(given: bytes) -> bool:
    """What a trace collector answers; `tracing.collector` catches DecodeError alone."""
    try:
        rejected, words = rejected_of(given)
    except DecodeError:
        return False
    assert isinstance(rejected, int)
    words.encode()
    return True


def _prompt() -> content_pb.Prompt:
    user, assistant = content_pb.ROLE_USER, content_pb.ROLE_ASSISTANT
    parts = [
        content_pb.Part(text="Hi"),
        content_pb.Part(image=content_pb.ImagePart(url="https://a/b.png")),
    ]
    call = content_pb.ToolCall(call_id="c", name="f", arguments='{"a":1}')
    return content_pb.Prompt(
        messages=[
            content_pb.Message(role=user, parts=parts),
            content_pb.Message(role=assistant, tool_calls=[call]),
        ],
        tools=[content_pb.Tool(name="f", parameters_json=orjson.dumps(SCHEMA))],
        extra_json=b'{"metadata":{"k":"v"},"base_url":"https://evil.example"}',
    )


def starts() -> list[relay_pb.Start]:
    bodies = [orjson.dumps({**body, "relay": None}) for body in CHATS]
    return [
        relay_pb.Start(generation_id="g", model="fast", prompt=_prompt(), traceparent=TRACE),
        relay_pb.Start(generation_id="g", labels={"a": "b"}, tags=["t"], prompt=_prompt()),
        *(relay_pb.Start(generation_id="g", openai_chat_body=body) for body in bodies),
    ]


def generations() -> Iterable[bytes]:
    return [relay_pb.GenerateRequest(start=start).SerializeToString() for start in starts()]


def conversations() -> Iterable[bytes]:
    setup = relay_pb.Setup(
        client_name="c", model="fast", labels={"a": "b"}, prewarm_prompt=_prompt()
    )
    first = relay_pb.ConverseRequest(setup=setup).SerializeToString()
    for start in starts():
        second = relay_pb.ConverseRequest(start=start).SerializeToString()
        yield len(first).to_bytes(2) + first + second


def frames() -> Iterable[bytes]:
    return [relay_pb.ConverseRequest(start=start).SerializeToString() for start in starts()]


def words() -> Iterable[bytes]:
    asked = relay_pb.FeedbackRequest(request_id="r", score=0.5, label="good", comment="c")
    return [asked.SerializeToString()]


TARGETS: dict[str, Target] = {
    "generate": Target(check_generate, generations),
    "converse": Target(check_converse, conversations),
    "feedback": Target(check_feedback, words),
    "field_count": Target(check_scan, frames),
    "collector": Target(check_collector, lambda: [b"\n\x05\x08\x03\x12\x01x", b""]),
}
