"""Answers that end before they are over."""

from __future__ import annotations

import pytest

from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.gemini import GeminiCodec
from relay.codecs.ollama import OllamaCodec
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_responses import ResponsesCodec
from relay.errors import Retry, StreamTruncated
from tests.fakes.relay_under_test import DONE
from tests.matrix.bodies.wires import BY_NAME, CHAT_WIRE, Spoken, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import world
from tests.surfaces.wires import WIRES, ProviderWire


def some_words(stage: Stage, wire: ProviderWire) -> tuple[str, Spoken]:
    words = [f"w{number} " for number in range(stage.draw.randint(1, 5))]
    return "".join(words), spoken(wire, *words)


async def ends_early(stage: Stage, wire: ProviderWire, parts: list[bytes], text: str) -> None:
    """The answer is told as truncated, paid for by what came, and asked of nobody else."""
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, [part for part in parts if part])
        face = here.face()
        reply = await here.ask(face)
        assert reply.reason == "UPSTREAM_TRUNCATED", reply
        if face != "json":  # of which nothing was released
            assert reply.text == text
        (booked,) = await here.booked(1)
        assert booked.state == "estimated"
        assert booked.asked == ["lab"], "never sent again"
        assert booked.attempts[0]["output_tokens"] > 0
        assert len(here.lab.requests(path(wire))) == 1
        assert not here.spare.requests(path(CHAT_WIRE))


async def ends_without_its_end(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    text, said = some_words(stage, wire)
    ending: tuple[bytes, ...]
    if wire is CHAT_WIRE:  # whose last event ends nothing: the finish reason does
        ending = stage.draw.choice([(), (DONE,), said.ending[1:]])
    else:
        ending = said.ending[: stage.draw.randrange(len(said.ending))]
    await ends_early(stage, wire, [said.opening, *said.tokens, *ending], text)


async def no_message_stop(stage: Stage) -> None:
    wire = BY_NAME["anthropic_messages"]
    text, said = some_words(stage, wire)
    *before, stop = said.ending
    assert b"message_stop" in stop
    assert b"end_turn" in before[-1], "a stop reason alone is no end"
    await ends_early(stage, wire, [said.opening, *said.tokens, *before], text)


async def ends_inside_an_event(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    text, said = some_words(stage, wire)
    following = stage.draw.choice([spoken(wire, "more").tokens[0], said.ending[0]])
    cut = following[: stage.draw.randint(8, len(following) - 8)]
    await ends_early(stage, wire, [said.opening, *said.tokens, cut], text)


async def ends_before_its_first_word(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    said = spoken(wire, "never heard")
    cut = said.tokens[0][: stage.draw.randint(8, len(said.tokens[0]) - 8)]
    parts = stage.draw.choice([[said.opening], [said.opening, cut], [cut]])
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, [part for part in parts if part])
        reply = await here.ask(here.face())
        assert reply.is_clean, reply
        assert (reply.text, reply.provider) == ("spare words", "spare")
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        assert [one["reason"] for one in booked.attempts] == ["UPSTREAM_TRUNCATED", ""]
        # It may have been written for nothing: what that costs is not known.
        assert [one["state"] for one in booked.attempts] == ["estimated", "actual"]


def ends_are_not_judged(patch: pytest.MonkeyPatch) -> None:
    """The check that the wire's own end has come"""
    for codec in (
        OpenAIChatCodec,
        ResponsesCodec,
        AnthropicMessagesCodec,
        GeminiCodec,
        OllamaCodec,
    ):
        patch.setattr(codec, "_check_ending", lambda _: None)
    patch.setattr(GeminiCodec, "_end_stream", lambda codec, _: codec._parser.end() and None)


def truncated_is_final(patch: pytest.MonkeyPatch) -> None:
    """That an answer cut before its first content may be asked of another"""
    patch.setattr(StreamTruncated, "retry", Retry.NO)


ROWS = (
    Row(
        "U18",
        inject="JSON cut inside an event, the end of a body without the wire's own end"
        " (finish reason, `message_stop`, `response.completed`, `done`)",
        client="error `UPSTREAM_TRUNCATED`, no clean end",
        accounting="estimated",
        retry="only before the first content",
        parts=(
            Part("no_end", ends_without_its_end, ends_are_not_judged),
            Part("no_message_stop", no_message_stop, ends_are_not_judged),
            Part("cut_event", ends_inside_an_event, ends_are_not_judged),
            Part("before_content", ends_before_its_first_word, truncated_is_final),
        ),
        also=("tests/corpus/test_cases.py",),
    ),
)
