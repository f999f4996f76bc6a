"""One request on its way in: what is looked for here first, then whoever is asked, all at once.

They are asked about what is left of the texts: what was taken out goes to nobody.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from relay.content import GenerateRequest, Role
from relay.errors import GuardrailBlocked
from relay.guardrails.asking import CannotTell, Question, Shown
from relay.guardrails.base import GuardScope
from relay.guardrails.clean_texts import CleanTexts
from relay.guardrails.input_texts import read_request
from relay.guardrails.notes import Notes
from relay.guardrails.rail import Kind, Rail
from relay.guardrails.rails import Rails
from relay.guardrails.work import work_chars
from relay.policy.base import Legs

IN_A_THREAD_CHARS: Final = 12_000
"""Of a request's texts: more may stop everybody else for tens of milliseconds. A text costs 0.1 us
a character as a rule, and up to 6 us where it is made of telephone numbers or composed letters."""


async def checked(
    request: GenerateRequest,
    rails: Rails,
    scope: GuardScope,
    notes: Notes,
    documents: CleanTexts,
    legs: Legs | None,
) -> GenerateRequest:
    """The request as it may go on.

    Args:
        documents: JSON documents in which these rails found nothing.
        legs: to ask models.

    Raises:
        GuardrailBlocked: it may not.

    Cancelled: whoever is asked is given up; a scan in a thread ends by itself.
    """
    reader = _Reader(rails, notes, documents)
    if rails.is_slow or work_chars(request, IN_A_THREAD_CHARS) > IN_A_THREAD_CHARS:
        new = await asyncio.to_thread(read_request, request, reader)
    else:
        new = read_request(request, reader)
    if rails.asking:
        await _ask_all(new, rails, scope, notes, reader.shown, legs)
    return new


_WORD: Final = re.compile(r"[A-Za-z0-9_.:/-]{0,40}")


class _Reader:
    """A `relay.guardrails.input_texts.Reader`."""

    __slots__ = ("_at", "_documents", "_notes", "_rails", "_role", "_seen", "_texts", "shown")

    def __init__(self, rails: Rails, notes: Notes, documents: CleanTexts) -> None:
        self._rails = rails
        self._texts = rails.texts
        self._notes = notes
        self._documents = documents
        self._at = -1
        self._role = ""
        self._seen: set[str] = set()
        self.shown: list[tuple[int, Kind, Shown]] = []
        """What may be asked about: of which message, and of which kind."""

    def at(self, message: int, role: str) -> None:
        self._at = message
        self._role = role

    def say(self, kind: Kind, text: str) -> str:
        new = self._texts[kind].change(text, self._notes)
        if self._rails.asking and self._role:
            self._show(kind, new)
        return new

    def beside(self, kind: Kind, text: str) -> str:
        new = self._texts[kind].change(text, self._notes)
        # One plain word of some JSON is a name, a type, a choice.
        if self._rails.asking and self._at >= 0 and not _WORD.fullmatch(new):
            self._show(kind, new)
        return new

    def _show(self, kind: Kind, text: str) -> None:
        if text and text not in self._seen:
            self._seen.add(text)
            self.shown.append((self._at, kind, Shown(self._role, text)))

    def knows(self, kind: Kind, data: bytes) -> bool:
        return self._documents.has(_keyed(kind, data))

    def clean(self, kind: Kind, data: bytes) -> None:
        self._documents.add(_keyed(kind, data))

    def unread(self, what: str) -> None:
        rail = self._rails.unreadable
        if rail is not None:
            self._notes.add(rail.name, f"unreadable.{what}", "block")
            raise rail.blocked("input")


def _keyed(kind: Kind, data: bytes) -> bytes:
    digest = CleanTexts.digest(data)
    return digest and digest + bytes([kind])


async def _ask_all(
    request: GenerateRequest,
    rails: Rails,
    scope: GuardScope,
    notes: Notes,
    shown: list[tuple[int, Kind, Shown]],
    legs: Legs | None,
) -> None:
    """
    Raises:
        GuardrailBlocked: of the first rail, in their order, that says so.
    """
    behind = _behind_assistant(request)
    questions: list[tuple[Rail, Question]] = []
    for rail in rails.asking:
        if rail.asking is None:
            continue
        first = behind if rail.asking.is_new_only else 0
        texts = tuple(
            one for at, kind, one in shown if (at < 0 or at >= first) and rail.looks_at(kind)
        )
        if texts:
            questions.append((rail, Question("input", texts, scope, legs, request.policy.zones)))
    if len(questions) == 1:
        blocks = [await asked(*questions[0], notes)]
    else:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asked(*question, notes)) for question in questions]
        blocks = [task.result() for task in tasks]
    if block := next(filter(None, blocks), None):
        raise block


async def asked(rail: Rail, question: Question, notes: Notes) -> GuardrailBlocked | None:
    """What one guardrail makes of it; None: it may go on.

    Cancelled: the question is given up.
    """
    if rail.asking is None:
        return None
    label = rail.asking.label
    try:
        opinion = await rail.asking.timed.ask(question)
    except CannotTell:
        notes.add(rail.name, label, "error", is_open=rail.is_open or not rail.stops)
        if rail.is_open or not rail.stops:
            return None
        return rail.blocked("input" if question.side == "input" else "output")
    if not opinion.is_bad:
        return None
    found = f"{label}.{opinion.label}" if opinion.label else label
    notes.add(rail.name, found, rail.action)
    if not rail.stops:
        return None
    return rail.blocked("input" if question.side == "input" else "output")


def _behind_assistant(request: GenerateRequest) -> int:
    """Where that begins which no assistant has answered."""
    for at in range(len(request.messages) - 1, -1, -1):
        if request.messages[at].role is Role.ASSISTANT:
            return at + 1
    return 0
