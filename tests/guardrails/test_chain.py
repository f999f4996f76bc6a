"""For whom guardrails are, who is asked about a request, and what is handed through."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.content import GenerateRequest, Message, OpaquePart, Policy, Role, TextPart
from relay.decision import Decision
from relay.errors import GuardrailBlocked
from relay.guardrails.applies import Applies
from relay.guardrails.base import GuardScope
from relay.guardrails.chain import GuardChain
from tests.fakes.virtual_time import now_s, on_virtual_time
from tests.guardrails.worlds import CARD, SCOPE, FakeAsker, asked, asking, chain, rail

TEAM = frozenset({"team"})
FAST = frozenset({"fast"})


async def holds(made: GuardChain, scope: GuardScope, model: str = "fast") -> bool:
    """Whether it does on both sides, which it must do alike."""
    request = asked(f"a {CARD}", model=model)
    is_changed = await made.check(request, scope, Decision(), None) is not request
    over = made.over(request, scope, Decision(), None)
    if over is not None:
        over.close()
    assert is_changed == (over is not None)
    return is_changed


@pytest.mark.parametrize(
    ("applies", "scope", "model", "is_held"),
    [
        (Applies(), SCOPE, "fast", True),
        (Applies(models=FAST), SCOPE, "fast", True),
        (Applies(models=FAST), SCOPE._replace(route="other"), "fast", True),
        (Applies(models=FAST), SCOPE, "other", True),
        (Applies(models=FAST), SCOPE._replace(route="other"), "other", False),
        (Applies(tenants=TEAM), SCOPE, "fast", True),
        (Applies(tenants=TEAM), SCOPE._replace(tenant="b"), "fast", False),
        (Applies(tags=frozenset({"kids"})), SCOPE, "fast", False),
        (Applies(tags=frozenset({"kids"})), SCOPE._replace(tags=("a", "kids")), "fast", True),
        (Applies(surfaces=frozenset({"converse"})), SCOPE, "fast", False),
        (Applies(surfaces=frozenset({"chat_completions"})), SCOPE, "fast", True),
        (Applies(spared_tenants=TEAM), SCOPE, "fast", False),
        (Applies(spared_models=FAST), SCOPE, "fast", False),
        (Applies(spared_models=FAST), SCOPE, "other", True),
        (Applies(spared_models=FAST), SCOPE._replace(route="other"), "fast", True),
        (Applies(tenants=TEAM, models=FAST), SCOPE._replace(tenant="b"), "fast", False),
    ],
)
async def test_for_whom(applies: Applies, scope: GuardScope, model: str, *, is_held: bool) -> None:
    assert await holds(chain((rail(), applies)), scope, model) is is_held


async def test_nothing_that_a_request_says_switches_one_off() -> None:
    made = chain(rail())
    plain = asked(f"a {CARD}")
    for policy in (Policy(tags=("no-guardrails",)), Policy(labels={"guardrails": "off"})):
        request = replace(plain, policy=policy, extra={"guardrails": False})
        assert await made.check(request, SCOPE, Decision(), None) is not request


async def test_nobody_is_asked_where_something_was_found_here() -> None:
    asker = FakeAsker()
    with pytest.raises(GuardrailBlocked):
        await chain(asking(asker), rail(action="block")).check(asked(CARD), SCOPE, Decision(), None)
    assert not asker.questions


@on_virtual_time
async def test_all_are_asked_at_once_about_what_is_left() -> None:
    first, second = FakeAsker(took_s=0.3), FakeAsker(took_s=0.5)
    made = chain(rail(), asking(first, "one"), asking(second, "two"))
    began_s = now_s()
    await made.check(asked(f"a {CARD}"), SCOPE, Decision(), None)
    assert now_s() - began_s == 0.5
    assert first.texts == second.texts == ["a [CARD]"]


@on_virtual_time
async def test_the_first_by_order_says_no() -> None:
    made = chain(
        asking(FakeAsker("x", took_s=0.5), "slow"), asking(FakeAsker("x", took_s=0.1), "quick")
    )
    with pytest.raises(GuardrailBlocked) as caught:
        await made.check(asked("x"), SCOPE, Decision(), None)
    assert caught.value.guardrail == "slow"


def conversation() -> GenerateRequest:
    return asked(
        "",
        messages=(
            Message(Role.SYSTEM, (TextPart("rules"),)),
            Message(Role.USER, (TextPart("old"),)),
            Message(Role.ASSISTANT, (TextPart("said"),)),
            Message(Role.TOOL, (TextPart("result"),), tool_call_id="c"),
            Message(Role.USER, (TextPart("new"), TextPart("er"))),
        ),
    )


async def test_what_they_are_shown() -> None:
    everything, newest, talk = FakeAsker(), FakeAsker(), FakeAsker()
    made = chain(
        asking(everything, "a"),
        asking(newest, "b", is_new_only=True),
        asking(talk, "c", looks_at_tools=False),
    )
    await made.check(conversation(), SCOPE, Decision(), None)
    assert everything.texts == ["rules", "old", "said", "result", "new", "er"]
    assert newest.texts == ["result", "new", "er"]
    assert "result" not in talk.texts
    roles = [shown.role for shown in everything.questions[0].texts]
    assert roles == ["system", "user", "assistant", "tool", "user", "user"]


async def test_they_are_shown_what_stands_in_unread_parts() -> None:
    asker = FakeAsker()
    value = {"type": "odd", "text": "\u574f\u8bdd", "id": "part_1", "more": {"words": "two words"}}
    request = asked("", messages=(Message(Role.USER, (OpaquePart("openai_chat", value),)),))
    await chain(asking(asker)).check(request, SCOPE, Decision(), None)
    assert asker.texts == ["\u574f\u8bdd", "two words"]


@on_virtual_time
async def test_fail_open_and_closed() -> None:
    for fake, took_s in ((FakeAsker(fails=True), 0.0), (FakeAsker(took_s=99), 1.0)):
        decision = Decision()
        began_s = now_s()
        request = asked("x")
        made = chain(asking(fake, is_open=True))
        assert await made.check(request, SCOPE, decision, None) is request
        assert now_s() - began_s == took_s
        (verdict,) = decision.guards
        assert (verdict.action, verdict.is_open) == ("error", True)
        with pytest.raises(GuardrailBlocked):
            await chain(asking(fake)).check(request, SCOPE, decision, None)
        assert decision.guards[-1].is_open is False


@on_virtual_time
async def test_a_cancelled_check_gives_up_all_questions() -> None:
    fakes = [FakeAsker(took_s=5), FakeAsker(took_s=5)]
    made = chain(*[asking(fake, f"r{at}") for at, fake in enumerate(fakes)])
    task = asyncio.create_task(made.check(asked("x"), SCOPE, Decision(), None))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [fake.cancelled for fake in fakes] == [1, 1]


async def test_a_large_request_is_read_in_a_thread() -> None:
    text = "word " * 60_000
    new = await chain(rail()).check(asked(f"{text}{CARD}"), SCOPE, Decision(), None)
    (part,) = new.messages[0].parts
    assert part == TextPart(f"{text}[CARD]")


def test_what_is_handed_through() -> None:
    barrier, signal = rail(), rail("told", action="flag", is_barrier=False)
    chain(signal).check_passthrough(SCOPE)
    chain(barrier, passthrough="allow").check_passthrough(SCOPE)
    chain((barrier, Applies(tenants=frozenset({"b"})))).check_passthrough(SCOPE)
    chain((barrier, Applies(spared_tenants=TEAM))).check_passthrough(SCOPE)
    for made in (
        chain(barrier),
        chain((barrier, Applies(models=frozenset({"other"})))),
        chain((barrier, Applies(tags=frozenset({"kids"})))),
        chain((barrier, Applies(surfaces=frozenset({"converse"})))),
        chain(signal, passthrough="refuse"),
    ):
        with pytest.raises(GuardrailBlocked):
            made.check_passthrough(SCOPE)
