"""What is released of an answer, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ProviderFailed,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.decision import Decision
from relay.errors import GuardrailBlocked, StreamTruncated
from relay.guardrails.base import OutputGuard
from tests.fakes.properties import examples
from tests.fakes.virtual_time import now_s, on_virtual_time, run
from tests.guardrails.worlds import (
    CARD,
    SCOPE,
    Broken,
    FakeAsker,
    asked,
    asking,
    cards,
    chain,
    guard,
    rail,
    through,
    words,
)

STOP = ChoiceFinished(FinishReason.STOP, "stop")
USAGE = Usage(1, 2, 3)
INFO = ResponseInfo("r", "m", 1)


def said(events: Sequence[StreamEvent], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta) and e.choice == choice)


def ended(events: Sequence[StreamEvent]) -> ChoiceFinished:
    (end,) = [event for event in events if isinstance(event, ChoiceFinished)]
    return end


def call(arguments: str, index: int = 0, *, cut: int = 5, **more: Any) -> list[StreamEvent]:
    """A whole call, its arguments in two pieces."""
    pieces = [piece for piece in (arguments[:cut], arguments[cut:]) if piece]
    return [
        ToolCallStart(index, f"c{index}", "f"),
        *[ToolArgumentsDelta(index, piece) for piece in pieces],
        ToolCallDone(index, f"c{index}", "f", arguments, **more),
    ]


# --- texts ----------------------------------------------------------------------------------------


async def test_a_clean_text_goes_out_as_it_comes() -> None:
    made = guard(rail())
    assert await made.feed([INFO, TextDelta("Hello ")]) == [INFO, TextDelta("Hello ")]
    assert await made.feed([TextDelta("world")]) == [TextDelta("world")]
    assert await made.feed([STOP, USAGE]) == [STOP, USAGE]
    assert await made.finish() == []
    made.close()


@pytest.mark.parametrize("cut", range(1, len(CARD)))
async def test_a_card_is_taken_out_wherever_it_is_cut(cut: int) -> None:
    whole = f"My card is {CARD}, thanks."
    at = whole.index(CARD) + cut
    decision = Decision()
    made = guard(rail(), decision=decision)
    found = await through(made, [TextDelta(whole[:at])], [TextDelta(whole[at:])], [STOP, USAGE])
    assert said(found) == "My card is [CARD], thanks."
    assert found[-2:] == [STOP, USAGE]
    (verdict,) = decision.guards
    assert (verdict.guardrail, verdict.scanner, verdict.action) == ("cards", "card", "redact")
    assert decision.held_chars >= cut


async def test_a_block_ends_the_answer_behind_what_is_clean() -> None:
    made = guard(rail(action="block"))
    found = await through(made, [INFO, TextDelta(f"It is {CARD} and more"), USAGE], [STOP])
    assert said(found) == "It is "
    assert ended(found) == ChoiceFinished(FinishReason.CONTENT_FILTER, "guardrail:cards")
    assert found[-1] == USAGE
    assert made.is_blocked
    assert made.retract_from is None
    assert await made.feed([TextDelta("x")]) == ()
    assert await made.finish() == ()


async def test_a_block_before_anything_is_out_is_an_error() -> None:
    made = guard(rail(action="block", message="No."))
    with pytest.raises(GuardrailBlocked) as caught:
        await made.feed([INFO, TextDelta(f"{CARD} is it.")])
    assert (caught.value.side, caught.value.public_message) == ("output", "No.")
    assert made.is_blocked


async def test_a_block_at_the_very_end() -> None:
    made = guard(rail(action="block"))
    released = [*await made.feed([TextDelta(f"It is {CARD}")])]
    found = [*released, *await made.finish()]
    assert said(found) == "It is "
    assert ended(found).reason is FinishReason.CONTENT_FILTER


async def test_choices_are_guarded_by_themselves() -> None:
    made = guard(rail())
    found = await through(
        made,
        [TextDelta("a 4111 1111 "), TextDelta("b 1111", 1)],
        [TextDelta("1111 1111", 0), TextDelta(" 1111", 1)],
        [ChoiceFinished(FinishReason.STOP, "stop", 1), STOP],
    )
    assert said(found) == "a [CARD]"
    assert said(found, 1) == "b 1111 1111"


async def test_a_block_of_one_choice_ends_those_that_have_begun() -> None:
    made = guard(rail(action="block"))
    done = ChoiceFinished(FinishReason.STOP, "stop", 2)
    found = await through(
        made,
        [TextDelta("zero "), TextDelta("one ", 1), TextDelta("two", 2), done],
        [TextDelta(f"x {CARD} y", 1)],
    )
    ends = [e for e in found if isinstance(e, ChoiceFinished)]
    assert [(e.choice, e.reason) for e in ends] == [
        (2, FinishReason.STOP),
        (0, FinishReason.CONTENT_FILTER),
        (1, FinishReason.CONTENT_FILTER),
    ]


@pytest.mark.parametrize("kind", [TextDelta, RefusalDelta, ReasoningDelta])
async def test_every_kind_of_text_is_read(kind: Any) -> None:
    found = await through(guard(rail()), [kind("a 4111 1111 ")], [kind("1111 1111 b")], [STOP])
    texts: list[Any] = [event for event in found if type(event) is kind]
    assert "".join(event.text for event in texts) == "a [CARD] b"


async def test_what_is_said_of_sound_is_a_text() -> None:
    sound = AudioDelta("a", data_base64="QQ==", transcript="It is 4111 1111 ")
    found = await through(
        guard(rail()),
        [sound],
        [AudioDelta("a", data_base64="Qg==", transcript="1111 1111.")],
        [STOP],
    )
    audio = [event for event in found if isinstance(event, AudioDelta)]
    assert "".join(event.transcript for event in audio) == "It is [CARD]."
    assert [event.data_base64 for event in audio if event.data_base64] == ["QQ==", "Qg=="]
    made = guard(rail(blocks_unreadable=True))
    with pytest.raises(GuardrailBlocked):
        await made.feed([sound])


async def test_nothing_overtakes_a_text_that_is_held() -> None:
    found = await through(
        guard(rail()), [TextDelta("Call 4111")], call('{"a": 1}'), [TextDelta(" now")], [STOP]
    )
    kinds = [type(event) for event in found]
    assert kinds.index(ToolCallStart) > kinds.index(TextDelta)
    assert said(found) == "Call 4111 now"
    before = [e for e in found[: kinds.index(ToolCallStart)] if isinstance(e, TextDelta)]
    assert said(before) == "Call 4111"


async def test_a_value_around_something_else_is_not_let_out_whole() -> None:
    found = await through(
        guard(rail()),
        [TextDelta(f"x {CARD[:9]}")],
        call("{}"),
        [TextDelta(f"{CARD[9:]} y")],
        [STOP],
    )
    assert said(found) == f"x {CARD[:9]}[CARD] y"
    made = guard(rail(action="block"))
    found = await through(
        made, [TextDelta(f"x {CARD[:9]}")], [STOP], [TextDelta(f"{CARD[9:]} y")], [USAGE]
    )
    assert said(found) == f"x {CARD[:9]}"
    assert made.is_blocked
    assert ended(found) == STOP  # it was out


async def test_the_end_does_not_overtake_what_is_held() -> None:
    made = guard(rail())
    await made.feed([TextDelta("It is 4111")])
    assert await made.feed([STOP]) == [TextDelta("4111"), STOP]
    made.close()


async def test_a_provider_that_fails_has_said_what_it_said() -> None:
    made = guard(rail())
    await made.feed([TextDelta("It is 4111")])
    failed = ProviderFailed(StreamTruncated("it broke"))
    assert await made.feed([failed]) == [TextDelta("4111"), failed]
    made.close()


# --- tool calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        orjson.dumps({"a": [CARD]}).decode(),
        '{"a": "4111 1111 1111 \\u0031111"}',
        '{"a": 4111111111111111}',
        '{"a": "' + CARD,
    ],
)
async def test_arguments_are_read_as_whole_json(arguments: str) -> None:
    for cut in range(1, len(arguments)):
        events = call(arguments, cut=cut)
        found = await through(guard(rail()), *[[event] for event in events], [STOP])
        start, delta, done, end = found
        assert (type(start), end) == (ToolCallStart, STOP)
        assert isinstance(done, ToolCallDone)
        assert isinstance(delta, ToolArgumentsDelta)
        assert done.arguments == delta.fragment
        assert "[CARD]" in done.arguments
        assert "1111" not in done.arguments


async def test_a_call_that_may_not_be_made_never_begins() -> None:
    made = guard(rail(action="block"))
    found = await through(made, [TextDelta("I call.")], *[[e] for e in call(f'{{"a":"{CARD}"}}')])
    assert said(found) == "I call."
    assert not any(isinstance(event, ToolCallStart) for event in found)
    assert ended(found).reason is FinishReason.CONTENT_FILTER


async def test_calls_beside_each_other_keep_their_order() -> None:
    first, second = call('{"a": 1}'), call('{"b": 2}', 1)
    mixed = [first[0], second[0], second[1], first[1], second[2], second[3], first[2], first[3]]
    found = await through(guard(rail()), *[[event] for event in mixed], [STOP])
    assert [e.index for e in found if isinstance(e, ToolCallStart)] == [0, 1]
    assert [e.index for e in found if isinstance(e, ToolCallDone)] == [0, 1]
    assert [e.arguments for e in found if isinstance(e, ToolCallDone)] == ['{"a": 1}', '{"b": 2}']


async def test_a_call_that_never_became_whole_is_read_all_the_same() -> None:
    events = call(f'{{"a": "{CARD}"}}', cut=8)[:-1]
    found = await through(guard(rail()), *[[event] for event in events], [STOP])
    assert [type(event) for event in found] == [ToolCallStart, ToolArgumentsDelta, ChoiceFinished]
    assert "1111" not in repr(found)


async def test_the_name_of_a_call_is_read() -> None:
    made = guard(rail(scanner=words("bad")))
    with pytest.raises(GuardrailBlocked):
        await made.feed([ToolCallStart(0, "c", "get_badly")])


async def test_state_of_a_call_with_something_in_it_is_left_out() -> None:
    state = orjson.dumps({"google": {"thought_signature": "QUJD" * 30}})
    found = await through(guard(rail()), call("{}", extra_json=state))
    assert found[-1].extra_json == state  # type: ignore[attr-defined]
    found = await through(guard(rail()), call("{}", extra_json=orjson.dumps({"x": CARD})))
    assert found[-1].extra_json == b""  # type: ignore[attr-defined]


async def test_calls_pass_as_they_come_where_nothing_looks_at_tools() -> None:
    made = guard(rail(looks_at_tools=False))
    for event in call(f'{{"a": "{CARD}"}}'):
        assert await made.feed([event]) == [event]
    made.close()


# --- opaque fields --------------------------------------------------------------------------------


def opaque(key: str, value: Any) -> OpaqueDelta:
    return OpaqueDelta(key, orjson.dumps(value))


async def test_what_repeats_the_text_is_left_out() -> None:
    probabilities = opaque("logprobs", {"content": [{"token": "4111", "bytes": [52, 49]}]})
    assert await through(guard(rail()), [probabilities]) == []
    assert await through(guard(rail(action="flag")), [probabilities]) == [probabilities]


async def test_opaque_fields_are_read() -> None:
    clean = opaque("annotations", [{"title": "A page"}])
    dirty = opaque("annotations", [{"title": CARD}])
    assert await through(guard(rail()), [clean, dirty]) == [clean]
    assert await through(guard(rail()), [OpaqueDelta("x", b"{broken")]) == []
    made = guard(rail(action="block"))
    assert [type(e) for e in await through(made, [TextDelta("a"), dirty])] == [
        TextDelta,
        ChoiceFinished,
    ]


async def test_pieces_of_an_opaque_field_are_one_text() -> None:
    pieces = [
        opaque("reasoning_details", [{"type": "reasoning.text", "text": text}])
        for text in ("It is 4111 ", "1111 1111 ", "1111.", " So.")
    ]
    found = await through(guard(rail()), *[[piece] for piece in pieces])
    assert "1111." not in repr(found)
    assert found[-1] == pieces[-1]


async def test_a_field_with_each_piece_of_a_text_ends_no_run() -> None:
    pieces = ["It is ", "4111 ", "1111 ", "1111 ", "1111", ". So."]
    batches: list[list[StreamEvent]] = [
        [ReasoningDelta(piece), opaque("reasoning_details", [{"index": at}])]
        for at, piece in enumerate(pieces)
    ]
    found = await through(guard(rail()), *batches, [TextDelta("Yes."), STOP])
    reasoning = "".join(event.text for event in found if isinstance(event, ReasoningDelta))
    assert reasoning == "It is [CARD]. So."
    order = [type(event) for event in found]
    assert order.count(OpaqueDelta) == len(pieces)
    assert order.index(TextDelta) > max(
        at for at, kind in enumerate(order) if kind in (OpaqueDelta, ReasoningDelta)
    )


async def test_a_flag_is_told_though_something_comes_between() -> None:
    decision = Decision()
    made = guard(rail(action="flag"), decision=decision)
    await through(made, [TextDelta(f"x {CARD[:9]}")], call("{}"), [TextDelta(CARD[9:])], [STOP])
    assert [one.action for one in decision.guards] == ["flag"]


# --- who is asked ---------------------------------------------------------------------------------

TEXT = "This is one. This is two. This is three. This is four."


def letters(text: str) -> list[list[StreamEvent]]:
    return [[TextDelta(letter)] for letter in text]


async def test_a_whole_answer_is_held_until_somebody_has_said_yes() -> None:
    asker = FakeAsker()
    made = guard(asking(asker))
    batches: list[list[StreamEvent]] = [*letters(TEXT), [STOP]]
    for batch in batches:
        assert await made.feed(batch) == []
    assert await made.finish() == [TextDelta(TEXT), STOP]
    assert asker.texts == [TEXT]
    made.close()


async def test_a_whole_answer_that_is_bad_is_never_out() -> None:
    made = guard(asking(FakeAsker("four")))
    for batch in letters(TEXT):
        assert await made.feed(batch) == []
    with pytest.raises(GuardrailBlocked):
        await made.finish()


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_windows_do_not_depend_on_how_a_text_came(size: int) -> None:
    asker = FakeAsker("four")
    made = guard(asking(asker, every_chars=16, overlap_chars=5))
    batches = [[TextDelta(TEXT[at : at + size])] for at in range(0, len(TEXT), size)]
    found = await through(made, *batches, [STOP])
    assert said(found) == "This is one. This is two. This is three. "
    assert asker.texts == [
        "This is one. ",
        "one. This is two. ",
        "two. This is three. ",
        "ree. This is four.",
    ]
    assert ended(found).raw_reason == "guardrail:hook"


async def test_a_run_that_ends_is_asked_about_before_what_comes_then() -> None:
    asker = FakeAsker()
    made = guard(asking(asker, every_chars=100))
    found = await through(made, [TextDelta("I look.")], call("{}"), [STOP])
    assert [type(event) for event in found[:2]] == [TextDelta, ToolCallStart]
    assert asker.texts == ["{}", "I look."]


async def test_those_who_are_asked_see_what_is_left_of_a_text() -> None:
    asker = FakeAsker()
    await through(guard(rail(), asking(asker)), [TextDelta(f"It is {CARD}.")], [STOP])
    assert asker.texts == ["It is [CARD]."]


@on_virtual_time
async def test_two_are_asked_at_once() -> None:
    made = guard(
        asking(FakeAsker(took_s=0.3), "one", every_chars=10),
        asking(FakeAsker(took_s=0.5), "two", every_chars=10),
    )
    began_s = now_s()
    assert said(await made.feed([TextDelta("0123456789")])) == "0123456789"
    assert now_s() - began_s == 0.5
    made.close()


@on_virtual_time
async def test_a_long_answer_that_comes_at_once_leaves_room_for_others() -> None:
    asker = FakeAsker(took_s=0.1)
    made = guard(asking(asker, every_chars=10, at_once=10))
    began_s = now_s()
    assert said(await made.feed([TextDelta("0123456789" * 40)])) == "0123456789" * 40
    assert round(now_s() - began_s, 3) == 0.5
    assert len(asker.questions) == 40
    made.close()


@on_virtual_time
async def test_who_hangs_holds_an_answer_no_longer_than_the_limit() -> None:
    for is_open in (True, False):
        decision = Decision()
        made = guard(
            asking(FakeAsker(took_s=99), is_open=is_open, every_chars=10), decision=decision
        )
        began_s = now_s()
        if is_open:
            assert said(await made.feed([TextDelta("0123456789")])) == "0123456789"
        else:
            with pytest.raises(GuardrailBlocked):
                await made.feed([TextDelta("0123456789")])
        assert now_s() - began_s == 1.0
        await made.finish()
        (verdict,) = decision.guards
        assert (verdict.action, verdict.is_open) == ("error", is_open)
        made.close()


@on_virtual_time
async def test_what_was_out_is_taken_back() -> None:
    asker = FakeAsker("three", took_s=0.05)
    made = guard(asking(asker, every_chars=16, is_before=False))
    found: list[StreamEvent] = []
    for batch in letters(TEXT):
        found += await made.feed(batch)
        await asyncio.sleep(0.01)
        if made.is_blocked:
            break
    assert made.is_blocked
    assert made.retract_choice == 0
    assert made.retract_from == TEXT.index("This is three")
    assert said(found).startswith(TEXT[: made.retract_from])
    assert ended(found).raw_reason == "guardrail:hook"
    assert ended(found).is_withdrawn
    made.close()


@on_virtual_time
async def test_the_end_waits_for_those_who_could_take_it_back() -> None:
    made = guard(asking(FakeAsker("four", took_s=0.2), is_before=False))
    found = [*await made.feed([TextDelta(TEXT)]), *await made.feed([STOP])]
    assert found == [TextDelta(TEXT)]
    assert await made.finish() == [
        ChoiceFinished(FinishReason.CONTENT_FILTER, "guardrail:hook", is_withdrawn=True)
    ]
    assert made.retract_from == 0
    made.close()


@on_virtual_time
async def test_a_flag_holds_nothing() -> None:
    decision = Decision()
    made = guard(asking(FakeAsker("one", took_s=0.2), action="flag"), decision=decision)
    assert await made.feed([TextDelta(TEXT)]) == [TextDelta(TEXT)]
    assert await made.feed([STOP]) == [STOP]
    assert await made.finish() == []
    assert [(one.action, one.scanner) for one in decision.guards] == [("flag", "webhook.bad")]
    made.close()


@on_virtual_time
async def test_a_close_gives_up_those_who_are_asked() -> None:
    asker = FakeAsker(took_s=99)
    rails = chain(asking(asker, is_before=False, every_chars=10))
    made = rails.over(asked("x"), SCOPE, Decision(), None)
    assert made is not None
    await made.feed([TextDelta(TEXT)])
    await asyncio.sleep(0)
    made.close()
    made.close()
    await rails.aclose()
    assert asker.cancelled == len(asker.questions) > 0
    assert asker.is_closed


@on_virtual_time
async def test_a_cancel_gives_up_those_who_are_asked() -> None:
    asker = FakeAsker(took_s=0.5)
    made = guard(asking(asker, every_chars=10))
    task = asyncio.ensure_future(made.feed([TextDelta(TEXT)]))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asker.cancelled == len(asker.questions) > 0
    made.close()


# --- bounds and bugs ------------------------------------------------------------------------------


async def test_more_than_may_be_held_is_a_block() -> None:
    decision = Decision()
    made = guard(asking(FakeAsker()), decision=decision, max_held_chars=100)
    for _ in range(10):
        assert await made.feed([TextDelta("0123456789")]) == []
    with pytest.raises(GuardrailBlocked):
        await made.feed([TextDelta("0")])
    assert decision.guards[0].scanner == "too_long"


async def test_a_bug_of_a_scanner_opens_no_barrier() -> None:
    made = guard(rail(scanner=Broken()))
    await made.feed([TextDelta("x")])
    with pytest.raises(GuardrailBlocked):
        await made.finish()
    made = guard(rail(scanner=Broken(), is_open=True))
    await made.feed([TextDelta("x")])
    await made.finish()


async def test_what_was_found_by_then_is_told_when_a_client_leaves() -> None:
    decision = Decision()
    made = guard(rail(), decision=decision)
    await made.feed([TextDelta(f"It is {CARD}, and 4111")])
    made.close()
    made.close()
    assert [(one.action, one.count) for one in decision.guards] == [("redact", 1)]


async def test_nothing_looks_at_vectors_or_an_unguarded_side() -> None:
    rails = chain(rail(sides=frozenset({"input"})))
    assert rails.over(asked("x"), SCOPE, Decision(), None) is None


# --- any answer, cut anyhow -----------------------------------------------------------------------

PIECES = st.sampled_from(
    ["Hello ", "4111 ", "1111", " 1111 1111", CARD, " and ", "bad", "b", "ad ", ". ", "x" * 40]
)


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """Texts of two choices with other things between them, and their ends."""
    events: list[StreamEvent] = []
    index = 0
    for _ in range(draw(st.integers(0, 14))):
        choice = draw(st.integers(0, 1))
        match draw(st.integers(0, 9)):
            case 7:
                events += [
                    ToolCallStart(index, "c", "f", choice),
                    ToolArgumentsDelta(index, '{"a": ', choice),
                    ToolArgumentsDelta(index, f'"{CARD}"}}', choice),
                    ToolCallDone(index, "c", "f", f'{{"a": "{CARD}"}}', choice),
                ]
                index += 1
            case 9:
                events.append(OpaqueDelta("annotations", b'[{"a": "b"}]', choice))
            case 8:
                events.append(ReasoningDelta(draw(PIECES), choice))
            case _:
                events.append(TextDelta(draw(PIECES), choice))
    events += [ChoiceFinished(FinishReason.STOP, "stop", choice) for choice in (0, 1)]
    return events


def cut(events: list[StreamEvent], draws: list[int]) -> list[list[StreamEvent]]:
    """The same answer in other batches, its texts cut where the draws say."""
    batches: list[list[StreamEvent]] = [[]]
    for at, event in enumerate(events):
        draw = draws[at % len(draws)]
        if isinstance(event, TextDelta) and 0 < draw % 7 < len(event.text):
            place = draw % 7
            batches[-1].append(TextDelta(event.text[:place], event.choice))
            if draw % 2:
                batches.append([])
            batches[-1].append(TextDelta(event.text[place:], event.choice))
        else:
            batches[-1].append(event)
        if draw % 3 == 0:
            batches.append([])
    return [batch for batch in batches if batch]


async def outcome(batches: list[list[StreamEvent]], action: Any, *, asks: bool) -> tuple[Any, ...]:
    """All that a client sees of the first choice to be blocked, or of both."""
    rails = [rail(action=action)]
    if asks:
        rails.append(asking(FakeAsker("bad", took_s=0.01), every_chars=20, overlap_chars=3))
    made = guard(*rails)
    try:
        found = await through(made, *batches)
    except GuardrailBlocked:
        return ("blocked",)
    return tuple(joined([event for event in found if event.choice == at]) for at in (0, 1))  # type: ignore[attr-defined]


def joined(events: Sequence[StreamEvent]) -> list[Any]:
    """The events of a choice, texts that follow each other as one."""
    seen: list[Any] = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            if seen and isinstance(seen[-1], tuple) and seen[-1][0] is type(event):
                seen[-1] = (type(event), seen[-1][1] + event.text)
            else:
                seen.append((type(event), event.text))
        else:
            seen.append(event)
    return seen


@examples(150, full=1000)
@given(answers(), st.lists(st.integers(0, 40), min_size=1, max_size=9))
def test_what_is_released_does_not_depend_on_the_cut(
    events: list[StreamEvent], draws: list[int]
) -> None:
    one = run(outcome([[event] for event in events], "redact", asks=False))
    assert run(outcome(cut(events, draws), "redact", asks=False)) == one
    assert run(outcome([events], "redact", asks=False)) == one


@examples(100, full=1000)
@given(answers(), st.lists(st.integers(0, 40), min_size=1, max_size=9), st.booleans())
def test_nor_does_where_it_is_blocked(
    events: list[StreamEvent], draws: list[int], asks: bool
) -> None:
    events = [event for event in events if event.choice == 0]  # type: ignore[attr-defined]
    one = run(outcome([[event] for event in events], "block", asks=asks))
    assert run(outcome(cut(events, draws), "block", asks=asks)) == one
    assert run(outcome([events], "block", asks=asks)) == one


@examples(150, full=1000)
@given(answers(), st.lists(st.integers(0, 40), min_size=1, max_size=9), st.booleans())
def test_a_card_is_never_out_whole(events: list[StreamEvent], draws: list[int], asks: bool) -> None:
    for action in ("redact", "block"):
        made = guard(
            rail(action=action), *([asking(FakeAsker("bad"), every_chars=9)] if asks else [])
        )

        found = run(_all_of(made, cut(events, draws)))
        for choice in (0, 1):
            for kind in (TextDelta, ReasoningDelta):
                text = "".join(
                    event.text
                    for event in found
                    if isinstance(event, TextDelta | ReasoningDelta)
                    and type(event) is kind
                    and event.choice == choice
                )
                assert not cards().find(text), text
        calls = [e.arguments for e in found if isinstance(e, ToolCallDone)]
        assert not any(CARD in one for one in calls)
        ends = [e.choice for e in found if isinstance(e, ChoiceFinished)]
        assert len(ends) == len(set(ends))


async def _all_of(made: OutputGuard, batches: list[list[StreamEvent]]) -> list[StreamEvent]:
    try:
        return await through(made, *batches)
    except GuardrailBlocked:
        return []
