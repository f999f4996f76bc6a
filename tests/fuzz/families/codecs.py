"""The reading half of each codec.

The input is a body; recordings are seeds as they are (`tests/fuzz/test_targets.py` links them).
Held to: nothing is raised, the events keep what `relay.content` promises of them, a body cut
anywhere says the same as whole, and what is held of it stays within its caps.

Targets are wires, and Bedrock's frames around Claude's events. Where events come in frames an
input whose first byte is not 0 is put into them, line by line, a line's first byte saying which: no
fuzzer finds their checksums by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from relay.codecs.aws_event_stream import AwsEventParser
from relay.codecs.registry import BUILDERS
from relay.sse import SseParser
from tests.codecs import anthropic_text, converse_text, responses_text
from tests.fakes.collect import Collected, collect, run
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.families.aws_lines import FRAMES, framed
from tests.fuzz.registry import Target

STATUSES = (200, 200, 200, 200, 206, 302, 400, 429, 500)

WIRES: dict[str, tuple[str, dict[str, Any]]] = {
    **{wire: (wire, {}) for wire in BUILDERS},
    "bedrock_messages": ("anthropic_messages", {"framing": "aws_event_stream"}),
}
"""Wire and quirks by name."""

CLAUDE = (
    anthropic_text.start()
    + anthropic_text.thinking(0, "s", "a")
    + anthropic_text.text(1, "a", "b")
    + anthropic_text.call(2, "t", "f", "{", "}")
    + anthropic_text.ending("tool_use", {"output_tokens": 1})
    + anthropic_text.STOP
)
NOVA = (
    converse_text.START
    + converse_text.reasoning(0, "s", "a")
    + converse_text.text(1, "a", "b")
    + converse_text.call(2, "t", "f", "{", "}")
    + converse_text.ending("tool_use")
    + converse_text.metadata()
)


PLAIN: dict[str, tuple[bytes, ...]] = {
    "anthropic_messages": (CLAUDE, b'{"type":"error","error":{"type":"x","message":"m"}}'),
    "openai_chat": (
        b'data: {"id":"i","choices":[{"index":0,"delta":{"content":"Hi","tool_calls":[{"index":0,'
        b'"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{}}\n\n'
        b"data: [DONE]\n\n",
        b'{"error":{"message":"m","type":"t","code":"c"}}',
    ),
    "openai_responses": (
        responses_text.stream(
            responses_text.added(0, type="message", id="msg_1", role="assistant"),
            responses_text.text("Hi"),
            responses_text.done(0, **responses_text.message(responses_text.output_text("Hi"))),
        ),
    ),
    "gemini": (
        b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"},{"functionCall":{"name":"f",'
        b'"args":{"a":1}}}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{}}\n\n',
        b'[{"error":{"code":429,"message":"m","details":[{"retryDelay":"3s"}]}}]',
    ),
    "ollama": (
        b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}\n'
        b'{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","eval_count":1}\n',
        b'{"error":"m"}',
    ),
}
"""Of wires that have recordings, for where those are not."""


def lines_of_frames() -> dict[str, bytes]:
    """Seeds of Bedrock, of which there are no recordings, as its targets take them."""
    claude = b"\n".join(b"\x03" + data for _, data in SseParser().feed(CLAUDE))
    nova = b"\n".join(
        bytes([FRAMES["bedrock_converse"].index(name) + 64]) + data
        for name, data in AwsEventParser().feed(NOVA)
    )
    return {"bedrock_messages": claude, "bedrock_converse": nova}


def read(target: str, pieces: list[bytes], status: int) -> Collected:
    """What the target's codec makes of a body in pieces."""
    wire, quirks = WIRES[target]
    return collect(run(BUILDERS[wire](quirks, "p")(), pieces, status=status))


def check(target: str, given: bytes) -> bool:
    """
    Raises:
        AssertionError: a promise is broken. Any other exception is one as well.
    """
    body = framed(target, given)
    draw = draw_of(given)
    status = draw.choice(STATUSES)
    whole = read(target, [body], status)
    pieces = cut(body, draw)
    assert read(target, pieces, status) == whole, f"status {status}, cut as {pieces}"
    return whole.error is None


def seeds(target: str) -> Iterable[bytes]:
    """A seed's checksum draws its status; blank lines say nothing."""
    if (lines := lines_of_frames().get(target)) is not None:
        return [lines + b"\n" * at for at in range(8)]
    return [body + b"\n" * at for body in PLAIN.get(target, ()) for at in range(8)]


TARGETS = {name: Target(partial(check, name), partial(seeds, name)) for name in WIRES}
