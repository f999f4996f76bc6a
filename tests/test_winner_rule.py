"""What never wins a race, wire by wire: everything that is not content the caller asked for.

The first endpoint sends only such events, half a second apart, for ever or to its limit; the
second, started beside it, answers a little later. The second wins, nothing of the first comes out,
and the first is reset. A clean end is told apart: an answer without content is an answer.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from relay.codecs.registry import BUILDERS
from relay.content import ChoiceFinished, GenerateRequest, ReasoningDelta, ResponseInfo, Usage
from relay.outcome import AttemptOutcome, AttemptRole
from tests.codecs import anthropic_text as anthropic
from tests.codecs import converse_text as converse
from tests.codecs import wire_text as openai
from tests.codecs.aws_frames import event as frame_event
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import WITH_REASONING, Scenario, request, text_of
from tests.fakes.virtual_time import on_virtual_time, run


def gemini(**document: Any) -> bytes:
    """One event of a `streamGenerateContent?alt=sse` answer."""
    head = {"modelVersion": "m", "responseId": "r1"}
    return b"data: " + orjson.dumps({**head, **document}) + b"\n\n"


def candidate(parts: list[dict[str, Any]] | None, **more: Any) -> bytes:
    content = {"role": "model"} if parts is None else {"role": "model", "parts": parts}
    return gemini(candidates=[{"index": 0, "content": content, **more}])


def responses(kind: str, **fields: Any) -> bytes:
    """One event of the Responses API."""
    return openai.event({"type": kind, "sequence_number": 0, **fields}, kind)


_COUNTS = {"promptTokenCount": 4, "totalTokenCount": 4}
_USAGE = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
_RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
_MESSAGE = {"id": "m1", "type": "message", "role": "assistant", "content": []}

NO_CONTENT: dict[str, dict[str, list[bytes]]] = {
    "openai_chat": {
        "role": [openai.chunk({"role": "assistant"})],
        "role and empty text": [openai.chunk({"role": "assistant", "content": ""})],
        "role and null": [openai.chunk({"role": "assistant", "content": None, "refusal": None})],
        "empty delta": [openai.chunk({})],
        "null delta": [openai.chunk(None)],
        "empty text": [openai.text("")],
        "empty reasoning": [openai.chunk({"reasoning_content": ""})],
        "comment": [b": OPENROUTER PROCESSING\n\n"],
        "ping": [b"event: ping\ndata: {}\n\n", b": ping\n\n"],
        "usage in every chunk": [openai.chunk({"role": "assistant"}, usage=_USAGE)],
        "usage alone": [openai.event({"id": "c", "choices": [], "usage": _USAGE})],
        "filter results alone": [
            openai.event({"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        ],
        "half an event": [b'data: {"id": "c", '],
        "blank lines": [b"\n\n\r\n"],
    },
    "bedrock_converse": {
        "messageStart": [converse.START],
        "empty text": [converse.START, converse.delta(0, text="")],
        "empty reasoning": [converse.START, converse.delta(0, reasoningContent={"text": ""})],
        "end of a block": [converse.START, converse.stop(0)],
        "counts alone": [converse.START, converse.metadata()],
        "half a frame": [converse.START, converse.delta(0, text="Hi")[:-1]],
        "unknown event": [frame_event("brandNew", {"text": "Hi"})],
    },
    "anthropic_messages": {
        "message_start": [anthropic.start()],
        "ping": [anthropic.PING],
        "start and pings": [anthropic.start(), anthropic.PING, anthropic.PING],
        "empty block": [anthropic.start(), anthropic.block(0, {"type": "text", "text": ""})],
        "empty delta": [
            anthropic.start(),
            anthropic.block(0, {"type": "text", "text": ""}),
            anthropic.delta(0, "text_delta", text=""),
        ],
        "empty thinking": [
            anthropic.start(),
            anthropic.block(0, {"type": "thinking", "thinking": "", "signature": ""}),
            anthropic.delta(0, "thinking_delta", thinking=""),
        ],
        "comment": [b": waiting\n\n"],
        "usage alone": [anthropic.start(), anthropic.ending(None, {"output_tokens": 0})],
    },
    "gemini": {
        "no candidates": [gemini()],
        "empty candidates": [gemini(candidates=[])],
        "empty candidate": [gemini(candidates=[{}])],
        "no parts": [candidate(None)],
        "empty parts": [candidate([])],
        "empty text": [candidate([{"text": ""}])],
        "empty part": [candidate([{}])],
        "usage alone": [gemini(usageMetadata=_COUNTS)],
        "usage and no parts": [
            gemini(candidates=[{"index": 0, "content": {"role": "model"}}], usageMetadata=_COUNTS)
        ],
        "comment": [b": keep-alive\n\n"],
    },
    "openai_responses": {
        "created": [responses("response.created", response=_RESPONSE)],
        "in progress": [
            responses("response.created", response=_RESPONSE),
            responses("response.in_progress", response=_RESPONSE),
        ],
        "item": [
            responses("response.created", response=_RESPONSE),
            responses("response.output_item.added", output_index=0, item=_MESSAGE),
        ],
        "empty delta": [
            responses("response.created", response=_RESPONSE),
            responses("response.output_item.added", output_index=0, item=_MESSAGE),
            responses(
                "response.output_text.delta",
                item_id="m1",
                output_index=0,
                content_index=0,
                delta="",
            ),
        ],
        "keepalive": [responses("keepalive")],
        "comment": [b": keep-alive\n\n"],
    },
}

REASONING: dict[str, list[bytes]] = {
    "openai_chat": [openai.chunk({"role": "assistant", "reasoning_content": "Let me think"})],
    "anthropic_messages": [
        anthropic.start(),
        anthropic.block(0, {"type": "thinking", "thinking": "", "signature": ""}),
        anthropic.delta(0, "thinking_delta", thinking="Let me think"),
    ],
    "bedrock_converse": [
        converse.START,
        converse.delta(0, reasoningContent={"text": "Let me think"}),
    ],
    "gemini": [candidate([{"text": "Let me think", "thought": True}])],
}

ANSWER = [(0.0, openai.text("Hi")), (0.0, openai.chunk(finish="stop")), (0.0, openai.DONE)]
SECOND = FakeEndpoint(headers_s=1.0, chunks=ANSWER)
DELAY_S = 0.25


def hedged(wire: str, events: list[bytes], *, whole: list[bytes] | None = None) -> Scenario:
    """The first speaks `wire` and sends these events, the second answers 1.25 s after it began."""
    chunks = [(0.0625, event) for event in events]
    tail = [(math.inf, b"")] if whole is None else [(0.0, event) for event in whole]
    return Scenario(
        {"a": FakeEndpoint(chunks=[*chunks, *tail]), "b": SECOND},
        rows_more={"a": {"wire": wire}},
        alias_more={"hedge": {"mode": "active", "delay": round(DELAY_S * 1000)}},
    )


def the_second_wins(scenario: Scenario, wanted: GenerateRequest | None = None) -> None:
    async def main() -> None:
        batches, end = await scenario.generate(wanted)
        events = [event for events in batches for event in events]
        assert text_of(events) == "Hi"
        assert end.error is None
        first, second = end.attempts
        assert second.is_winner
        assert second.role is AttemptRole.HEDGE
        assert first.is_loser
        assert first.outcome is AttemptOutcome.IGNORED
        assert "first_content" not in first.phases_us
        assert scenario.aborted == [("a", DELAY_S + 1.0)]
        # Nothing of the first came out, its usage and its name neither.
        infos = [event for event in events if isinstance(event, ResponseInfo)]
        assert [info.response_id for info in infos] == ["chatcmpl-1"]
        assert not any(isinstance(event, Usage | ReasoningDelta) for event in events)
        await scenario.settled()

    run(main())
    scenario.check()


CASES = [(wire, name) for wire, rows in NO_CONTENT.items() for name in rows]


@pytest.mark.parametrize(("wire", "name"), CASES, ids=[f"{wire}-{name}" for wire, name in CASES])
def test_what_is_no_content_never_wins(wire: str, name: str) -> None:
    if wire not in BUILDERS:
        pytest.skip(f"{wire} is not spoken yet")
    the_second_wins(hedged(wire, NO_CONTENT[wire][name]))


@pytest.mark.parametrize("wire", ["openai_chat", "anthropic_messages", "gemini"])
def test_headers_alone_never_win(wire: str) -> None:
    the_second_wins(hedged(wire, []))


@pytest.mark.parametrize("wire", ["openai_chat", "anthropic_messages", "gemini"])
def test_all_of_it_together_never_wins(wire: str) -> None:
    """But for what breaks off in the middle."""
    rows = NO_CONTENT[wire]
    whole = [event for name, events in rows.items() if name != "half an event" for event in events]
    # A message starts once.
    events = [event for at, event in enumerate(whole) if event not in whole[:at]]
    if wire == "anthropic_messages":
        events = [anthropic.start(), *[anthropic.PING] * 5, b": waiting\n\n"]
    the_second_wins(hedged(wire, events[:14]))


@pytest.mark.parametrize("wire", REASONING)
def test_reasoning_that_nobody_asked_for_never_wins(wire: str) -> None:
    the_second_wins(hedged(wire, REASONING[wire]), request(want_reasoning=False))


@pytest.mark.parametrize("wire", REASONING)
def test_reasoning_that_was_asked_for_wins(wire: str) -> None:
    scenario = hedged(wire, REASONING[wire])

    @on_virtual_time
    async def check() -> None:
        attempt = None
        generation = scenario.generation(request(reasoning=WITH_REASONING, want_reasoning=True))
        async with generation:
            assert await generation.commit()
            attempt = generation.winner
        assert attempt is not None
        assert attempt.provider == "a"
        assert [name for name, _ in scenario.started] == ["a"], "before the hedge was due"
        await scenario.settled()

    check()


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        ("openai_chat", [openai.chunk(finish="stop"), openai.DONE]),
        ("anthropic_messages", [anthropic.start(), anthropic.ending(), anthropic.STOP]),
        ("bedrock_converse", [converse.START, converse.ending(), converse.metadata()]),
        ("gemini", [gemini(candidates=[{"index": 0, "finishReason": "STOP"}])]),
    ],
)
def test_an_empty_answer_that_ended_well_wins(wire: str, events: list[bytes]) -> None:
    scenario = hedged(wire, [], whole=events)

    @on_virtual_time
    async def check() -> None:
        batches, end = await scenario.generate()
        assert end.provider == "a"
        assert text_of([event for events in batches for event in events]) == ""
        assert any(isinstance(event, ChoiceFinished) for events in batches for event in events)
        await scenario.settled()

    check()
