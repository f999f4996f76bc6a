"""Pieces of answers out of order: choices mixed, calls mixed, ends told twice, contradictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from relay.codecs import openai_completion, tool_calls
from relay.codecs.openai_completion import CompletionReader
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import TextDelta
from relay.emulator.answer import ToolCall
from relay.errors import RemoteProtocolError
from tests.fakes.relay_under_test import DONE, chat_body, chunk, sse_payloads
from tests.matrix.bodies.letters import in_pieces
from tests.matrix.bodies.wires import BY_NAME, CHAT_WIRE, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, USAGE, WHOLE_MICRO, World, word, world
from tests.surfaces.wires import WIRES, ProviderWire

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_weather", "get_time")
]


@dataclass
class Heard:
    """What a client of the shim made of an answer."""

    texts: dict[int, str] = field(default_factory=dict)
    finishes: list[tuple[int, str]] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    reason: str = ""


async def hear(here: World, *, is_stream: bool, **more: Any) -> Heard:
    """Ask for an answer with whatever is in it, streamed or whole."""
    response = await here.relay.chat(chat_body("pair", stream=is_stream, tools=TOOLS, **more))
    here.everything.append(response.text)
    heard = Heard()
    if is_stream and response.status_code == 200:
        payloads = sse_payloads(response.text)
    else:
        payloads = [response.json()]
    for payload in payloads:
        if "error" in payload:
            heard.reason = payload["error"]["x_relay"]["reason"]
            continue
        for choice in payload["choices"]:
            _take(heard, choice["index"], choice.get("delta") or choice.get("message") or {})
            if choice["finish_reason"]:
                heard.finishes.append((choice["index"], choice["finish_reason"]))
    return heard


def _take(heard: Heard, index: int, delta: dict[str, Any]) -> None:
    heard.texts[index] = heard.texts.get(index, "") + (delta.get("content") or "")
    for place, call in enumerate(delta.get("tool_calls") or ()):
        own = heard.calls.setdefault(
            call.get("index", place), {"id": "", "name": "", "arguments": ""}
        )
        own["id"] += call.get("id") or ""
        own["name"] += call["function"].get("name") or ""
        own["arguments"] += call["function"].get("arguments") or ""


class Crumbs(ToolCall):
    """A call whose arguments come letter by letter."""

    def fragments(self, size: int = 1) -> list[str]:
        del size
        return list(self.arguments)


ARGUMENTS = '{"city": "Zürich 🚆", "days": 3, "note": "a\\"b\\\\c\\n", "nested": {"x": [1, 2]}}'


async def crumbs_of_arguments(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    parts = spoken(wire, calls=[Crumbs("1", "get_weather", ARGUMENTS)]).parts
    if stage.draw.random() < 0.5:
        parts = in_pieces(b"".join(parts), stage.draw)
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, parts)
        heard = await hear(here, is_stream=stage.draw.random() < 0.5)
        (call,) = heard.calls.values()
        assert call["name"] == "get_weather"
        if wire.name in ("gemini", "ollama"):  # which send an object, not its text
            assert orjson.loads(call["arguments"]) == orjson.loads(ARGUMENTS)
        else:
            assert call["arguments"] == ARGUMENTS
        assert heard.finishes == [(0, "tool_calls")]
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


def chat_end() -> list[bytes]:
    return [chunk(usage=USAGE, choices=[]), DONE]


async def choices_mixed(stage: Stage) -> None:
    """Two choices whose pieces come in any order: each keeps its own, duplicates too."""
    draw = stage.draw
    texts = {index: [f"{index}{draw.choice('abc')} " for _ in range(6)] for index in (0, 1)}
    order = [index for index in (0, 1) for _ in range(6)]
    draw.shuffle(order)
    left = {index: list(pieces) for index, pieces in texts.items()}
    parts = [
        chunk(choices=[{"index": index, "delta": {"content": left[index].pop(0)}}])
        for index in order
    ]
    ends = [chunk(choices=[{"index": i, "delta": {}, "finish_reason": "stop"}]) for i in (0, 1)]
    draw.shuffle(ends)
    async with world(stage) as here:
        here.lab.routes[CHAT] = sends(CHAT_WIRE, [*parts, *ends, *chat_end()])
        heard = await hear(here, is_stream=draw.random() < 0.5, n=2)
        assert heard.texts == {index: "".join(pieces) for index, pieces in texts.items()}
        assert sorted(heard.finishes) == [(0, "stop"), (1, "stop")]
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


def call_piece(index: int, arguments: str, *, call_id: str = "", name: str = "") -> bytes:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call: dict[str, Any] = {"index": index, "function": function}
    if call_id:
        call |= {"id": call_id, "type": "function"}
    return chunk({"tool_calls": [call]})


async def calls_mixed(stage: Stage) -> None:
    """Two calls whose pieces are mixed, and an index left out between them."""
    draw = stage.draw
    far = draw.choice([1, 2, 7])
    wanted = {0: '{"city": "A"}', far: '{"city": "B", "days": 2}'}
    parts = [
        call_piece(0, "", call_id="call_a", name="get_weather"),
        call_piece(far, "", call_id="call_b", name="get_time"),
    ]
    left = {index: in_letters(text, stage) for index, text in wanted.items()}
    while any(left.values()):
        index = draw.choice([index for index, pieces in left.items() if pieces])
        parts.append(call_piece(index, left[index].pop(0)))
    async with world(stage) as here:
        script = sends(CHAT_WIRE, [*parts, chunk(finish="tool_calls"), *chat_end()])
        here.lab.routes[CHAT] = script
        heard = await hear(here, is_stream=draw.random() < 0.5)
        assert [heard.calls[index] for index in sorted(heard.calls)] == [
            {"id": "call_a", "name": "get_weather", "arguments": wanted[0]},
            {"id": "call_b", "name": "get_time", "arguments": wanted[far]},
        ]
        assert heard.finishes == [(0, "tool_calls")]
        assert (await here.booked(1))[0].state == "settled"


def in_letters(text: str, stage: Stage) -> list[str]:
    size = stage.draw.randint(1, 5)
    return [text[at : at + size] for at in range(0, len(text), size)]


async def two_ends(stage: Stage) -> None:
    second = stage.draw.choice(["length", "content_filter", "stop", "tool_calls"])
    parts = [word("One"), word(" two"), chunk(finish="stop"), chunk(finish=second), *chat_end()]
    async with world(stage) as here:
        here.lab.routes[CHAT] = sends(CHAT_WIRE, parts)
        heard = await hear(here, is_stream=stage.draw.random() < 0.5)
        assert heard.finishes == [(0, "stop")], "the first one counts, and is told once"
        assert heard.texts == {0: "One two"}
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


def contradictions() -> list[tuple[ProviderWire, list[bytes]]]:
    """What nobody can put in order."""
    messages = BY_NAME["anthropic_messages"]
    lost = b'{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta"'
    lost = b"event: content_block_delta\ndata: " + lost + b',"partial_json":"{}"}}\n\n'
    begun = call_piece(0, "{}", call_id="a", name="get_weather")
    return [
        (CHAT_WIRE, [begun, call_piece(1, "{", call_id="b", name="g"), call_piece(0, "{}")]),
        (CHAT_WIRE, [chunk(choices=[{"index": 4096, "delta": {"content": "x"}}])]),
        (CHAT_WIRE, [chunk(choices=[{"index": -1, "delta": {"content": "x"}}])]),
        (CHAT_WIRE, [call_piece(0, "{}", call_id="a"), chunk(finish="tool_calls")]),
        (messages, [lost]),
    ]


async def contradictory(stage: Stage) -> None:
    wire, broken = stage.draw.choice(contradictions())
    said = spoken(wire, "One", " two")
    parts = [said.opening, *said.tokens, *broken, *said.ending]
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, parts)
        is_stream = stage.draw.random() < 0.5
        heard = await hear(here, is_stream=is_stream)
        assert heard.reason == "UPSTREAM_PROTOCOL", heard
        assert not heard.finishes
        if is_stream:
            assert heard.texts == {0: "One two"}
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("estimated", ["lab"])
        assert not here.spare.requests(CHAT)


# --- defences -------------------------------------------------------------------------------------


def pieces_are_lost(patch: pytest.MonkeyPatch) -> None:
    """That every piece of a call's arguments is passed on"""
    for name in ("add",):
        real = getattr(ToolCallAssembler, name)

        def drops(self, events, *, fragment, real=real, **more):  # type: ignore[no-untyped-def]
            kept = fragment if len(fragment) > 1 or fragment != "," else ""
            real(self, events, fragment=kept, **more)

        patch.setattr(ToolCallAssembler, name, drops)
    patch.setattr(tool_calls, "is_json", lambda _: True)


def choices_are_one(patch: pytest.MonkeyPatch) -> None:
    """That choices are told apart"""
    real = TextDelta
    patch.setattr(openai_completion, "TextDelta", lambda text, _=0: real(text, 0))


def indices_mean_nothing(patch: pytest.MonkeyPatch) -> None:
    """That pieces of calls go by their index"""

    def find(self, index, call_id, name, fragment):  # type: ignore[no-untyped-def]
        return self._call_of_key.get(index) if call_id else self._last

    patch.setattr(ToolCallAssembler, "_find", find)


def every_end_counts(patch: pytest.MonkeyPatch) -> None:
    """That the first end of a choice is its end"""
    real = CompletionReader._on_finish

    def again(self, raw, index, choice, events):  # type: ignore[no-untyped-def]
        choice.is_finished = False
        real(self, raw, index, choice, events)

    patch.setattr(CompletionReader, "_on_finish", again)


def contradictions_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    """That what contradicts itself is refused"""

    def forgiving(real: Callable[..., Any]) -> Callable[..., Any]:
        def reads(*args: Any, **more: Any) -> Any:
            try:
                return real(*args, **more)
            except RemoteProtocolError:
                return None

        return reads

    for name in ("add", "finish"):
        patch.setattr(ToolCallAssembler, name, forgiving(getattr(ToolCallAssembler, name)))
    patch.setattr(CompletionReader, "_on_choice", forgiving(CompletionReader._on_choice))


ROWS = (
    Row(
        "U29",
        inject="choices and calls whose pieces are mixed, duplicates, a gap between indices,"
        " arguments letter by letter, two finish reasons, pieces that contradict others",
        client="each choice and call in its own order, byte by byte; the first finish reason, once;"
        " contradictions `UPSTREAM_PROTOCOL`",
        accounting="settled; after a contradiction estimated",
        retry="never put in another order; after the first content never sent again",
        parts=(
            Part("letter_by_letter", crumbs_of_arguments, pieces_are_lost),
            Part("choices_mixed", choices_mixed, choices_are_one),
            Part("calls_mixed", calls_mixed, indices_mean_nothing),
            Part("two_ends", two_ends, every_end_counts),
            Part("contradiction", contradictory, contradictions_are_passed_over),
        ),
        also=("tests/codecs/test_tool_calls.py", "tests/codecs/test_bent_answers.py"),
    ),
)
