"""Guardrails for tests: a card number's form, a word, and somebody to be asked."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from relay.content import Events, GenerateRequest, Message, Role, StreamEvent, TextPart
from relay.decision import Decision
from relay.guardrails.applies import Applies
from relay.guardrails.asking import CannotTell, Opinion, Question
from relay.guardrails.base import GuardScope, OutputGuard
from relay.guardrails.chain import GuardChain
from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.rail import Asking, Rail
from relay.guardrails.regex_scanner import RegexScanner
from relay.guardrails.scan import Action, Fold, Rule, Scanner, StreamGuard
from relay.guardrails.text_guard import TextGuard
from relay.guardrails.text_rules import MakeGuards
from relay.guardrails.timed import Timed

CARD = "4111 1111 1111 1111"
SCOPE = GuardScope("team", "key", "fast", (), "chat_completions")


@lru_cache
def cards() -> Scanner:
    """Sixteen digits, perhaps in groups."""
    return RegexScanner("card", r"(?<![0-9])[0-9](?:[ -]?[0-9]){15}(?![0-9])", 31)


def words(*found: str) -> Scanner:
    """Literal words."""
    return RegexScanner("word", "|".join(found), max(map(len, found)))


class Broken:
    """A scanner with a bug."""

    name = "broken"
    classes = ("broken",)
    fold: Fold = "plain"
    window_chars: int | None = None
    context_chars = 0
    shapes = ()
    is_slow = False

    def find(self, text: str, start: int = 0) -> list[Any]:
        raise RuntimeError("a bug")


@lru_cache(100)
def _plan(rules: tuple[Rule, ...]) -> GuardPlan:
    return GuardPlan(rules)


def _whole(rules: Sequence[Rule]) -> Callable[[], StreamGuard]:
    plan = copy.copy(_plan(tuple(rules)))
    plan.automaton = None
    return lambda: TextGuard(plan)


def _stream(rules: Sequence[Rule]) -> Callable[[], StreamGuard]:
    plan = _plan(tuple(rules))
    return lambda: TextGuard(plan)


ENGINE = MakeGuards(_whole, _stream)


class FakeAsker:
    """Says of a text that it is bad if a word is in it; slow, dead or silent as told."""

    def __init__(self, bad: str = "bad", *, took_s: float = 0.0, fails: bool = False) -> None:
        self.bad = bad
        self.took_s = took_s
        self.fails = fails
        self.questions: list[Question] = []
        self.cancelled = 0
        self.is_closed = False

    async def ask(self, question: Question) -> Opinion:
        self.questions.append(question)
        try:
            await asyncio.sleep(self.took_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            raise CannotTell("dead")
        return Opinion(any(self.bad in shown.text for shown in question.texts), "bad")

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def texts(self) -> list[str]:
        """What it was shown."""
        return [shown.text for question in self.questions for shown in question.texts]


def rail(name: str = "cards", scanner: Scanner | None = None, **more: Any) -> Rail:
    """A guardrail that looks for something here."""
    action: Action = more.pop("action", "redact")
    return Rail(
        name=name,
        rules=(Rule(scanner or cards(), action, name),),
        action=action,
        **{**_DEFAULTS, **more},
    )


def asking(asker: FakeAsker, name: str = "hook", **more: Any) -> Rail:
    """A guardrail that asks somebody; `every_chars`, `is_before`, ... go where they belong."""
    own = {
        key: more.pop(key, value)
        for key, value in {
            "is_before": True,
            "every_chars": 0,
            "overlap_chars": 0,
            "is_new_only": False,
        }.items()
    }
    timed = Timed(
        asker,
        timeout_s=more.pop("timeout_s", 1.0),
        at_once=more.pop("at_once", 8),
        idle_s=more.pop("idle_s", 10.0),
        max_chars=more.pop("max_chars", 100_000),
        clock=lambda: asyncio.get_running_loop().time(),
    )
    action: Action = more.pop("action", "block")
    return Rail(
        name=name,
        action=action,
        asking=Asking(timed, "webhook", **own),
        **{**_DEFAULTS, "is_barrier": False, **more},
    )


_DEFAULTS: dict[str, Any] = {
    "sides": frozenset({"input", "output"}),
    "is_open": False,
    "message": "",
    "looks_at_tools": True,
    "looks_at_reasoning": True,
    "blocks_unreadable": False,
    "is_barrier": True,
}


def chain(*rails: Rail | tuple[Rail, Applies], **more: Any) -> GuardChain:
    """Guardrails that hold for everybody, or as they say."""
    return GuardChain(
        [one if isinstance(one, tuple) else (one, Applies()) for one in rails], ENGINE, **more
    )


def guard(*rails: Rail, decision: Decision | None = None, **more: Any) -> OutputGuard:
    """Over an answer to anything."""
    made = chain(*rails, **more).over(asked("Hello"), SCOPE, decision or Decision(), None)
    assert made is not None
    return made


def asked(text: str, **more: Any) -> GenerateRequest:
    """A request that says this."""
    return GenerateRequest(
        **{
            "model": "fast",
            "messages": (Message(Role.USER, (TextPart(text),)),),
            **more,
        }
    )


async def through(made: OutputGuard, *batches: Events) -> list[StreamEvent]:
    """All that is released of an answer."""
    found: list[StreamEvent] = []
    try:
        for batch in batches:
            found += await made.feed(batch)
            if made.is_blocked:
                return found
        found += await made.finish()
        return found
    finally:
        made.close()
