"""Small tasks whose truth can be computed: arithmetic, dates, units, letters, facts of a text.

A model that is told `text=solve` answers them, wrong in a stated share of cases, so that what a
policy does to quality can be counted. `text=judge` says whether a text holds the truth of the task
in it (`yes` or `no`), `text=rate` whether the task is an easy one (`small`) or a hard one
(`large`); both err in the same share.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """One of them."""

    kind: str
    is_hard: bool
    truth: str


class _Kind(NamedTuple):
    name: str
    is_hard: bool
    pattern: re.Pattern[str]
    solve: Callable[[re.Match[str]], str]
    make: Callable[[random.Random], str]


_NAMES = ("Keller", "Okafor", "Dupont", "Tanaka", "Silva")
_WORDS = ("planet", "harbour", "lantern", "meadow", "compass", "violin", "thunder", "orchard")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_UNITS = {
    ("kilometres", "metres"): 1000,
    ("hours", "minutes"): 60,
    ("kilograms", "grams"): 1000,
    ("days", "hours"): 24,
}


def _date(match: re.Match[str]) -> str:
    try:
        begin = datetime.date.fromisoformat(match[2])
        return (begin + datetime.timedelta(days=int(match[1]))).isoformat()
    except (ValueError, OverflowError):
        return "unknown"


def _unit(match: re.Match[str]) -> str:
    factor = _UNITS.get((match[2], match[3]))
    return "unknown" if factor is None else str(int(match[1]) * factor)


def _make_unit(rng: random.Random) -> str:
    big, small = rng.choice(list(_UNITS))
    return f"Convert {rng.randrange(2, 60)} {big} to {small}."


def _make_order(rng: random.Random) -> str:
    name, number, day = rng.choice(_NAMES), rng.randrange(10_000, 99_999), rng.choice(_DAYS)
    return (
        f"The order of Ms {name} has the number {number}, weighs {rng.randrange(2, 40)} kg and is"
        f" due on {day}. What is the number of the order?"
    )


_KINDS = (
    _Kind(
        "sum",
        False,
        re.compile(r"What is (\d{1,9}) \+ (\d{1,9})\?"),
        lambda match: str(int(match[1]) + int(match[2])),
        lambda rng: f"What is {rng.randrange(10, 500)} + {rng.randrange(10, 500)}?",
    ),
    _Kind(
        "product",
        True,
        re.compile(r"What is (\d{1,9}) \* (\d{1,9})\?"),
        lambda match: str(int(match[1]) * int(match[2])),
        lambda rng: f"What is {rng.randrange(101, 999)} * {rng.randrange(11, 99)}?",
    ),
    _Kind(
        "date",
        True,
        re.compile(r"Which date is (\d{1,6}) days after (\d{4}-\d\d-\d\d)\?"),
        _date,
        lambda rng: (
            f"Which date is {rng.randrange(20, 400)} days after"
            f" 20{rng.randrange(20, 30)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}?"
        ),
    ),
    _Kind("unit", False, re.compile(r"Convert (\d{1,9}) (\w+) to (\w+)\."), _unit, _make_unit),
    _Kind(
        "letters",
        True,
        re.compile(r'Spell the word "(\w{1,40})" backwards\.'),
        lambda match: match[1][::-1],
        lambda rng: f'Spell the word "{rng.choice(_WORDS)}" backwards.',
    ),
    _Kind(
        "fact",
        False,
        re.compile(
            r"has the number (\d{1,9}),.{0,100}What is the number of the order\?", re.DOTALL
        ),
        lambda match: match[1],
        _make_order,
    ),
)

KINDS = tuple(kind.name for kind in _KINDS)


def make(rng: random.Random, kind: str) -> tuple[str, Task]:
    """A task of a kind: what is asked, and what is right."""
    found = next(one for one in _KINDS if one.name == kind)
    prompt = found.make(rng)
    task = find(prompt)
    assert task is not None  # noqa: S101 - each kind reads what it makes
    return prompt, task


def find(prompt: str) -> Task | None:
    """The first task in a text; None for none."""
    for kind in _KINDS:
        match = kind.pattern.search(prompt)
        if match is not None:
            return Task(kind.name, kind.is_hard, kind.solve(match))
    return None


def answer(prompt: str, rng: random.Random, wrong: float) -> tuple[str, bool]:
    """What a model says, and whether that is wrong, which it is with this probability."""
    task = find(prompt)
    if task is None:
        return "I do not know.", True
    is_wrong = rng.random() < wrong
    return f"It is {_spoilt(task.truth, rng) if is_wrong else task.truth}.", is_wrong


def judge(prompt: str, rng: random.Random, wrong: float) -> tuple[str, bool]:
    """Whether the rest of a text holds the truth of the task in it; see `answer`."""
    task = find(prompt)
    is_right = task is not None and holds(prompt, task.truth)
    is_wrong = rng.random() < wrong
    return "yes" if is_right is not is_wrong else "no", is_wrong


def rate(prompt: str, rng: random.Random, wrong: float) -> tuple[str, bool]:
    """Which model a task is for; see `answer`."""
    task = find(prompt)
    is_wrong = rng.random() < wrong
    return "large" if (task is None or task.is_hard) is not is_wrong else "small", is_wrong


SAYS: dict[str, Callable[[str, random.Random, float], tuple[str, bool]]] = {
    "solve": answer,
    "judge": judge,
    "rate": rate,
}
"""By the word behind `text=`."""


def holds(text: str, truth: str) -> bool:
    """Whether a text gives an answer (`It is ...`) that is right."""
    return re.search(rf"It is {re.escape(truth)}\.", text) is not None


def _spoilt(truth: str, rng: random.Random) -> str:
    """Near it, and not it."""
    if truth.isdigit():
        return str(int(truth) + rng.choice((-10, -1, 1, 10, 100)))
    if re.fullmatch(r"\d{4}-\d\d-\d\d", truth):
        day = datetime.date.fromisoformat(truth)
        return (day + datetime.timedelta(days=rng.choice((-2, -1, 1, 30)))).isoformat()
    at = next((k for k in range(len(truth) - 1) if truth[k] != truth[k + 1]), 0)
    return truth[:at] + truth[at + 1 : at + 2] + truth[at : at + 1] + truth[at + 2 :]
