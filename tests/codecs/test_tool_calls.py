"""Assembling tool calls: every way in which providers name, repeat and cut them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.tool_calls import MAX_CALLS, ToolCallAssembler
from relay.content import StreamEvent, ToolArgumentsDelta, ToolCallDone, ToolCallStart
from relay.errors import RemoteProtocolError, StreamTruncated
from tests.codecs.wire_text import call, calls, chunk, stream
from tests.fakes.collect import CollectedChoice, collect, run


def choice_of(*events: bytes, finish: str = "tool_calls") -> CollectedChoice:
    result = collect(run(OpenAIChatCodec(), [stream(*events, chunk({}, finish))]))
    assert result.error is None, result.error
    return result.choices[0]


def triples(*events: bytes) -> list[tuple[str, str, str]]:
    return [(one.call_id, one.name, one.arguments) for one in choice_of(*events).tool_calls]


TWO = [("a", "f", '{"x":1}'), ("b", "g", "{}")]

WAYS: dict[str, list[bytes]] = {
    "documented": [
        calls(call(0, "a", "f", "")),
        calls(call(0, arguments='{"x"')),
        calls(call(0, arguments=":1}")),
        calls(call(1, "b", "g", "")),
        calls(call(1, arguments="{}")),
    ],
    "whole, in one list": [calls(call(0, "a", "f", '{"x":1}'), call(1, "b", "g", "{}"))],
    "no index": [calls(call(None, "a", "f", '{"x":1}'), call(None, "b", "g", "{}"))],
    "no index, in pieces": [
        calls(call(None, "a", "f", '{"x"')),
        calls(call(arguments=":1}")),
        calls(call(None, "b", "g", "{}")),
    ],
    "index stuck at 0": [
        calls(call(0, "a", "f", '{"x"')),
        calls(call(0, arguments=":1}")),
        calls(call(0, "b", "g", "{")),
        calls(call(0, arguments="}")),
    ],
    "index from 1, with a gap": [
        calls(call(1, "a", "f", '{"x":1}')),
        calls(call(5, "b", "g", "{}")),
    ],
    "empty id and name later": [
        calls(call(0, "a", "f", "")),
        calls(call(0, "", "", '{"x":1}')),
        calls(call(1, "b", "g", "{")),
        calls(call(1, "", "", "}")),
    ],
    "id repeated with every delta": [
        calls(call(0, "a", "f", '{"x"')),
        calls(call(0, "a", "f", ":1}")),
        calls(call(1, "b", "g", "{")),
        calls(call(1, "b", "g", "}")),
    ],
    "id repeated, no index": [
        calls(call(None, "a", "f", '{"x"')),
        calls(call(None, "a", None, ":1}")),
        calls(call(None, "b", "g", "{}")),
    ],
    "name after the arguments began": [
        calls(call(0, "a", None, '{"x"')),
        calls(call(0, None, "f", ":1}")),
        calls(call(1, "b", "g", "{}")),
    ],
    "arguments as an object or null": [
        calls(call(0, "a", "f", {"x": 1})),
        calls({"index": 0, "function": {"arguments": None}}),
        calls(call(1, "b", "g", {})),
    ],
    "empty deltas": [
        calls(call(0, "a", "f", "")),
        *[calls(call(0, arguments=""))] * 3,
        calls(call(0, arguments='{"x":1}')),
        calls({"index": 0}),
        calls(call(1, "b", "g", "{}")),
        calls(call(0, arguments="")),
    ],
    "interleaved": [
        calls(call(0, "a", "f", ""), call(1, "b", "g", "")),
        calls(call(0, arguments='{"x"'), call(1, arguments="{")),
        calls(call(1, arguments="}")),
        calls(call(0, arguments=":1}")),
        calls(call(1, arguments="")),
    ],
    "interleaved, the first one last": [
        calls(call(0, "a", "f", '{"x"')),
        calls(call(1, "b", "g", "{}")),
        calls(call(0, arguments=":1}")),
    ],
    "interleaved, index stuck at 0": [
        calls(call(0, "a", "f", '{"x"')),
        calls(call(0, "b", "g", "{")),
        calls(call(0, "a", None, ":1}")),
        calls(call(0, "b", None, "}")),
    ],
    "a line end after the call was over": [
        calls(call(0, "a", "f", '{"x":1}')),
        calls(call(1, "b", "g", "{}")),
        calls(call(0, arguments="\n")),
    ],
    "custom: null": [
        calls({**call(0, "a", "f", '{"x"'), "custom": None}),
        calls({**call(0, arguments=":1}"), "custom": None}),
        calls({**call(1, "b", "g", "{}"), "custom": None}),
    ],
}


@pytest.mark.parametrize("events", WAYS.values(), ids=WAYS.keys())
def test_ways_to_say_the_same_two_calls(events: list[bytes]) -> None:
    assert triples(*events) == TWO


def test_events_of_one_call() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(2, "seed")
    assembler.add(events, index=0, call_id="a", name="f", fragment="")
    assert events == [ToolCallStart(0, "a", "f", 2)]
    assembler.add(events, index=0, call_id="", name="", fragment="{}")
    assert events[1:] == [ToolArgumentsDelta(0, "{}", 2)]
    assembler.finish(events, by_length=False)
    assert events[2:] == [ToolCallDone(0, "a", "f", "{}", 2)]
    assert assembler.held_chars == 0


def test_a_call_is_done_when_the_next_one_starts() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(0, "")
    assembler.add(events, index=0, call_id="a", name="f", fragment="{}")
    assembler.add(events, index=1, call_id="b", name="g", fragment="")
    assert [type(one) for one in events] == [
        ToolCallStart,
        ToolArgumentsDelta,
        ToolCallDone,
        ToolCallStart,
    ]


def test_no_call_is_done_while_its_arguments_may_go_on() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(0, "")
    assembler.add(events, index=0, call_id="a", name="f", fragment='{"x":{}')
    assembler.add(events, index=1, call_id="b", name="g", fragment="{}")
    assembler.add(events, index=2, call_id="c", name="h", fragment="")
    assert events == [ToolCallStart(0, "a", "f"), ToolArgumentsDelta(0, '{"x":{}')]
    events.clear()
    assembler.add(events, index=0, call_id="", name="", fragment="}")
    assert events == [
        ToolArgumentsDelta(0, "}"),
        ToolCallDone(0, "a", "f", '{"x":{}}'),
        ToolCallStart(1, "b", "g"),
        ToolArgumentsDelta(1, "{}"),
        ToolCallDone(1, "b", "g", "{}"),
        ToolCallStart(2, "c", "h"),
    ]
    assert assembler.held_chars == 0
    events.clear()
    assembler.finish(events, by_length=True)
    assert events == [ToolCallDone(2, "c", "h", "", is_partial=True)]


def test_free_text_of_a_custom_tool_is_never_taken_for_whole() -> None:
    def custom(at: int, **fields: str) -> dict[str, Any]:
        return {"index": at, "custom": fields}

    one, two = choice_of(
        calls({**custom(0, name="f", input="{}"), "id": "a"}),
        calls({**custom(1, name="g", input="y"), "id": "b"}),
        calls(custom(0, input=" and more")),
    ).tool_calls
    assert (one.arguments, two.arguments) == ("{} and more", "y")


def test_a_named_whole_call_in_the_place_of_a_whole_one_is_another() -> None:
    one = calls(call(0, "", "f", '{"x":1}'), call(0, "", "f", '{"x":2}'))
    two = calls(call(0, None, "g", "{}"))
    assert [made[1:] for made in triples(one, two)] == [
        ("f", '{"x":1}'),
        ("f", '{"x":2}'),
        ("g", "{}"),
    ]
    # The name may be repeated with each piece.
    pieces = [calls(call(0, None, "f", piece)) for piece in ('{"x":', "{}", "}", "")]
    assert [made[1:] for made in triples(*pieces)] == [("f", '{"x":{}}')]


def test_calls_after_the_finish_are_done_when_they_are_whole() -> None:
    late = [calls(call(0, "a", "f", '{"x"')), calls(call(0, arguments=":1}"))]
    result = collect(run(OpenAIChatCodec(), [stream(chunk({}, "tool_calls"), *late)]))
    assert result.error is None
    assert [one.arguments for one in result.choices[0].tool_calls] == ['{"x":1}']

    cut = [chunk({}, "tool_calls"), late[0]]
    failure = collect(run(OpenAIChatCodec(), [stream(*cut)])).failure
    assert type(failure) is StreamTruncated
    # A finish that is repeated ends it.
    again = [*cut, chunk({}, "tool_calls")]
    assert collect(run(OpenAIChatCodec(), [stream(*again)])).error is None


def test_looking_for_whole_arguments_has_a_bound() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(0, "")
    assembler.add(events, index=0, call_id="a", name="f", fragment='{"x":"')
    assembler.add(events, index=1, call_id="b", name="g", fragment="{}")
    for _ in range(20_000):
        assembler.add(events, index=0, call_id="", name="", fragment="}")
    assembler.add(events, index=0, call_id="", name="", fragment='"}')
    assembler.finish(events, by_length=False)
    done = [event.arguments for event in events if isinstance(event, ToolCallDone)]
    assert done == ['{"x":"' + 20_000 * "}" + '"}', "{}"]


def test_ids_are_made_where_there_are_none_and_are_the_same_each_time() -> None:
    body = [calls(call(None, None, "f", '{"x"'), call(None, None, "g", {}))]
    made = [one[0] for one in triples(*body)]
    assert made == [one[0] for one in triples(*body)]
    assert len(set(made)) == 2
    assert all(one.startswith("call_") for one in made)
    assert made[0].endswith("_0")
    assert made[1].endswith("_1")

    def id_of(seed: str) -> str:
        events: list[StreamEvent] = []
        assembler = ToolCallAssembler(0, seed)
        assembler.add(events, index=0, call_id="", name="f", fragment="{}")
        assert isinstance(events[0], ToolCallStart)
        return events[0].call_id

    assert id_of("response 1") != id_of("response 2")


def test_an_id_that_comes_late_opens_no_new_call() -> None:
    events = [calls(call(0, None, "f")), calls(call(0, "a")), calls(call(0, arguments="{}"))]
    assert triples(*events) == [("a", "f", "{}")]
    late = [calls(call(0, None, "f", "{")), calls(call(0, "a", None, "}"))]
    assert [one[1:] for one in triples(*late)] == [("f", "{}")]


@pytest.mark.parametrize(
    ("arguments", "finish", "is_partial"),
    [
        ('{"x', "length", True),
        ("", "length", True),
        ('{"x":1}', "length", False),
        ('{"x', "tool_calls", False),
    ],
)
def test_partial_only_when_cut_by_the_token_limit(
    arguments: str, finish: str, is_partial: bool
) -> None:
    choice = choice_of(calls(call(0, "a", "f", arguments)), finish=finish)
    assert choice.tool_calls[0].is_partial == is_partial
    assert choice.tool_calls[0].arguments == arguments


def test_custom_tools_and_opaque_state() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x y"}}
    signed = {**call(1, "b", "g", "{}"), "extra_content": {"google": {"thought_signature": "s"}}}
    one, two = choice_of(calls(custom), calls(signed)).tool_calls
    assert (one.kind, one.name, one.arguments, one.extra) == ("custom", "f", "x y", None)
    assert two.extra == {"extra_content": {"google": {"thought_signature": "s"}}}


def test_a_piece_for_a_finished_call_breaks_the_format() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(0, "")
    assembler.add(events, index=0, call_id="a", name="f", fragment="{")
    assembler.finish(events, by_length=False)
    with pytest.raises(RemoteProtocolError):
        assembler.add(events, index=0, call_id="", name="", fragment="}")


def test_too_many_calls_break_the_format() -> None:
    events: list[StreamEvent] = []
    assembler = ToolCallAssembler(0, "")
    for at in range(MAX_CALLS):
        assembler.add(events, index=at, call_id=f"c{at}", name="f", fragment="{}")
    with pytest.raises(RemoteProtocolError):
        assembler.add(events, index=MAX_CALLS, call_id="z", name="f", fragment="{}")


CALLS = st.lists(
    st.tuples(
        st.text('abcé{}":1', min_size=1, max_size=12),
        st.lists(st.integers(1, 4), max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(data=st.data(), xs=st.lists(st.text(max_size=9), min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_weave_of_the_pieces_gives_the_calls(data: st.DataObject, xs: list[str]) -> None:
    whole = [orjson.dumps({"x": x}).decode() for x in xs]
    rest = list(whole)
    deltas = [call(at, f"c{at}", f"f{at}", "") for at in range(len(xs))]
    while at_least_one := [at for at, text in enumerate(rest) if text]:
        at = data.draw(st.sampled_from(at_least_one))
        size = data.draw(st.integers(1, 6))
        deltas.append(call(at, arguments=rest[at][:size]))
        rest[at] = rest[at][size:]
    expected = [(f"c{at}", f"f{at}", text) for at, text in enumerate(whole)]
    assert triples(*(calls(one) for one in deltas)) == expected


@given(wanted=CALLS, style=st.sampled_from(["index", "stuck", "id", "repeated id"]))
@settings(max_examples=200, deadline=None)
def test_any_split_of_the_arguments_gives_the_calls(
    wanted: list[tuple[str, list[int], bool]], style: str
) -> None:
    deltas: list[dict[str, Any]] = []
    for at, (arguments, cuts, starts_empty) in enumerate(wanted):
        index = {"index": at, "stuck": 0, "repeated id": at}.get(style)
        pieces, rest = [""] if starts_empty else [], arguments
        for cut in cuts:
            pieces.append(rest[:cut])
            rest = rest[cut:]
        pieces.append(rest)
        for turn, piece in enumerate(pieces):
            has_id = turn == 0 or style == "repeated id"
            deltas.append(
                call(index, f"c{at}" if has_id else None, f"f{at}" if turn == 0 else None, piece)
            )
    expected = [(f"c{at}", f"f{at}", arguments) for at, (arguments, _, _) in enumerate(wanted)]
    assert triples(*(calls(one) for one in deltas)) == expected
    assert triples(calls(*deltas)) == expected, "all in one list"
