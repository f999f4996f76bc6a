"""A status 200 that is no answer: something else, nothing, or an error."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay import attempt_cost
from relay.codecs import anthropic_message, gemini_errors, openai_errors, streamed_body
from relay.codecs.streamed_body import DOCUMENT, STREAM, StreamedBody
from relay.emulator.wires.base import FAILURES
from relay.errors import RemoteProtocolError
from tests.fakes.askers import Reply
from tests.fakes.h2_server import Script, answer
from tests.matrix.bodies.endings import ends_are_not_judged
from tests.matrix.bodies.wires import EVENT_STREAMS, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, Booked, World, world
from tests.surfaces.wires import WIRES, ProviderWire

GRPC = ("generate", "converse")
EDGE = "edge-7.internal.example"
MARKUP = (
    f"<html><body>504 at {EDGE}</body></html>",
    f"\n\n  <!DOCTYPE html><title>{EDGE}</title>",
    f'<?xml version="1.0"?><Error><Code>Slow</Code><Host>{EDGE}</Host></Error>',
    f"\ufeff<HTML>{EDGE}",
)
TYPES = ("text/html", "text/event-stream", "application/json", "")
FOREIGN = ({"status": "ok", "host": EDGE}, {"items": [EDGE]}, {"version": 7, "at": EDGE})


async def told(
    stage: Stage, wire: ProviderWire, script: Script, reason: str, *, http: int, code: int
) -> tuple[Reply, Booked]:
    """Ask a provider that does so: alone it is told, with a fallback that one answers."""
    model = stage.draw.choice(["alone", "pair"])
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = script
        face = here.face()
        reply = await here.ask(face, model)
        (booked,) = await here.booked(1)
        if model == "pair":
            assert reply.is_clean, reply
            assert (reply.text, reply.provider) == ("spare words", "spare")
            assert booked.asked == ["lab", "spare"]
        else:
            assert reply.reason == reason, reply
            assert reply.code == str(code if face in GRPC else http)
            assert booked.asked == ["lab"]
        assert booked.attempts[0]["reason"] == reason
        assert EDGE not in reply.everything
    return reply, booked


def costs_nothing(booked: Booked) -> None:
    """The lab's attempt was free: who answered is all that is paid for."""
    assert booked.attempts[0]["state"] == "free", booked.attempts
    is_mended = len(booked.attempts) > 1
    wanted = ("settled", WHOLE_MICRO) if is_mended else ("void", 0)
    assert (booked.state, booked.cost_micro) == wanted


def typed(stage: Stage) -> list[tuple[str, str]]:
    """Some content type, which says nothing of what follows."""
    name = stage.draw.choice(TYPES)
    return [("content-type", name)] if name else []


async def markup(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    script = answer(200, stage.draw.choice(MARKUP).encode(), typed(stage))
    _, booked = await told(stage, wire, script, "UPSTREAM_PROTOCOL", http=502, code=14)
    costs_nothing(booked)


async def foreign_json(stage: Stage) -> None:
    wire = stage.draw.choice(EVENT_STREAMS)
    body = orjson.dumps(stage.draw.choice(FOREIGN))
    _, booked = await told(
        stage, wire, answer(200, body, typed(stage)), "UPSTREAM_PROTOCOL", http=502, code=14
    )
    costs_nothing(booked)


async def empty_body(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    body = stage.draw.choice([b"", b"\n\n", b"\xef\xbb\xbf"])
    _, booked = await told(
        stage, wire, answer(200, body, typed(stage)), "UPSTREAM_TRUNCATED", http=502, code=14
    )
    # A model may have written into it: what that costs nobody knows.
    assert booked.attempts[0]["state"] == "estimated"
    assert booked.attempts[0]["output_tokens"] == 0


async def wrong_type(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    said = spoken(wire, "One", " two")
    wrong = [("content-type", stage.draw.choice(["text/html", "application/octet-stream"]))]
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = answer(200, b"".join(said.parts), wrong)
        reply = await here.ask(here.face(), "alone")
        assert reply.is_clean, reply
        assert reply.text == "One two"
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


# --- errors ---------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[str, int, int]] = {
    "rate": ("UPSTREAM_RATE_LIMITED", 429, 8),
    "server": ("UPSTREAM_FAILED", 503, 14),
    "unavailable": ("UPSTREAM_OVERLOADED", 503, 14),
    "auth": ("UPSTREAM_MISCONFIGURED", 503, 14),
}
"""By the emulator's word: what it is told as, over HTTP and over gRPC."""


def drawn_error(stage: Stage) -> tuple[ProviderWire, str, str, int, int]:
    """A wire, a kind of error, and what that is; Ollama has a text and no word for its kind."""
    wire, kind = stage.draw.choice(WIRES), stage.draw.choice(list(ERRORS))
    return wire, kind, *ERRORS["server" if wire.name == "ollama" else kind]


async def error_for_an_answer(stage: Stage) -> None:
    wire, kind, reason, http, code = drawn_error(stage)
    failure, opening = FAILURES[kind], spoken(wire, "never").opening
    script = stage.draw.choice(
        [
            answer(200, wire.emulated.error_body(failure), typed(stage)),
            sends(wire, [wire.emulated.error_event(failure)]),
            sends(wire, [opening + wire.emulated.error_event(failure)], end=False),
        ]
    )
    reply, booked = await told(stage, wire, script, reason, http=http, code=code)
    if reply.reason:
        assert failure.message in reply.message
    costs_nothing(booked)


async def refused_in_a_success(stage: Stage) -> None:
    """The request itself is wrong: nobody else is asked."""
    wire = stage.draw.choice(EVENT_STREAMS)
    failure = FAILURES["context"]
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, [wire.emulated.error_event(failure)])
        face = here.face()
        reply = await here.ask(face)
        assert reply.reason == "UPSTREAM_REJECTED", reply
        assert reply.code == ("3" if face in GRPC else "400")
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("void", ["lab"])
        assert not here.spare.requests(CHAT)


async def error_in_mid_stream(stage: Stage) -> None:
    wire, kind, reason, http, code = drawn_error(stage)
    words = [f"w{number} " for number in range(stage.draw.randint(1, 4))]
    said, failure = spoken(wire, *words), FAILURES[kind]
    parts = [said.opening, *said.tokens, wire.emulated.error_event(failure)]
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, [part for part in parts if part])
        face = here.face()
        reply = await here.ask(face)
        assert reply.reason == reason, reply
        assert failure.message in reply.message
        wanted = {"json": str(http), "sse": ""}.get(face, str(code))
        assert reply.code == wanted
        assert reply.text == ("" if face == "json" else "".join(words))
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("estimated", ["lab"])
        assert 0 < booked.cost_micro < WHOLE_MICRO
        assert_not_asked(here)


def assert_not_asked(here: World) -> None:
    assert not here.spare.requests(CHAT), "what was heard is never said again by another"


# --- defences -------------------------------------------------------------------------------------


def markup_is_not_known(patch: pytest.MonkeyPatch) -> None:
    """That markup is known by its first letter"""
    patch.setattr(streamed_body, "looks_like_markup", lambda _: False)


def no_answer_is_paid_for(patch: pytest.MonkeyPatch) -> None:
    """That what is no answer costs nothing"""
    patch.setattr(attempt_cost, "_COSTS_NOTHING", attempt_cost._COSTS_NOTHING[:-1])


def types_are_believed(patch: pytest.MonkeyPatch) -> None:
    """That a body is known by its beginning, not by its content type"""

    def decode_headers(body: Any, status: int, headers: list[tuple[str, str]]) -> None:
        kind = dict(headers).get("content-type", "")
        body._mode = STREAM if "event-stream" in kind or "ndjson" in kind else DOCUMENT
        body._status, body._headers = status, headers

    patch.setattr(StreamedBody, "decode_headers", decode_headers)


def inner_errors_are_not_read(patch: pytest.MonkeyPatch) -> None:
    """The reading of errors inside a success"""

    def broken(*_: object, **__: object) -> RemoteProtocolError:
        return RemoteProtocolError("it broke")

    for place in (openai_errors, gemini_errors, anthropic_message):
        patch.setattr(place, "decode_inner_error", broken)


ROWS = (
    Row(
        "U19",
        inject="200 with HTML, JSON of something else, nothing, or a wrong content type",
        client="502 `UPSTREAM_PROTOCOL`, of an empty body `UPSTREAM_TRUNCATED`; the body is not"
        " echoed. An answer under a wrong type is an answer",
        accounting="void; an empty body estimated, since a model may have written into it",
        retry="other upstream",
        parts=(
            Part("markup", markup, markup_is_not_known),
            Part("foreign_json", foreign_json, no_answer_is_paid_for),
            Part("empty", empty_body, ends_are_not_judged),
            Part("wrong_type", wrong_type, types_are_believed),
        ),
        also=("tests/codecs/test_streamed_body.py",),
    ),
    Row(
        "U20",
        inject="200 with an error as its document or first event; an error in mid-stream",
        client="what its status would have said; in mid-stream an error event with it",
        accounting="void; in mid-stream estimated",
        retry="before the content by another, unless it refuses the request; in mid-stream never",
        parts=(
            Part("first", error_for_an_answer, inner_errors_are_not_read),
            Part("refused", refused_in_a_success, inner_errors_are_not_read),
            Part("mid_stream", error_in_mid_stream, inner_errors_are_not_read),
        ),
        also=("tests/codecs/test_openai_errors.py", "tests/integration/test_adversity.py"),
    ),
)
