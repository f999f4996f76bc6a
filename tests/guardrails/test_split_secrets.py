"""A secret in a stream, cut anywhere, made long, and hidden: what is covered, and what is not."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Iterator
from functools import cache
from typing import cast

import pytest

from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.scan import Action, Rule
from relay.guardrails.secrets import SECRET_KINDS, secret_scanners
from relay.guardrails.text_guard import TextGuard
from tests.guardrails.secret_samples import AFTER, SECRETS, run

HEAD = "Sure, here it is ünïcode 👍: "


@cache
def plan(kind: str, action: Action = "redact") -> GuardPlan:
    return GuardPlan([Rule(one, action, "g") for one in secret_scanners([kind])])


def through(made: GuardPlan, *chunks: str) -> str:
    guard = TextGuard(made)
    return "".join([*map(guard.feed, chunks), guard.finish()])


def byte_cuts(text: str) -> Iterator[list[str]]:
    """Two chunks, cut after each byte of UTF-8, as a decoder passes them on."""
    raw = text.encode()
    for at in range(len(raw) + 1):
        decoder = codecs.getincrementaldecoder("utf-8")()
        yield [decoder.decode(raw[:at]), decoder.decode(raw[at:], final=True)]


def said(kind: str) -> tuple[str, str]:
    """A text with a secret of this kind, and what is to come of it."""
    before, secret = SECRETS[kind]
    after = AFTER.get(kind, "") + " and so on."
    return f"{HEAD}{before}{secret}{after}", f"{HEAD}{before}[SECRET]{after}"


def test_every_kind_has_a_sample() -> None:
    assert set(SECRETS) == set(SECRET_KINDS)


@pytest.mark.parametrize("kind", SECRETS)
def test_at_every_byte(kind: str) -> None:
    text, wanted = said(kind)
    for chunks in byte_cuts(text):
        assert through(plan(kind), *chunks) == wanted
    assert through(plan(kind), *text) == wanted


@pytest.mark.parametrize("kind", SECRETS)
def test_blocked_before_any_of_it_is_released(kind: str) -> None:
    text, wanted = said(kind)
    shown = wanted.partition("[SECRET]")[0]
    for chunks in byte_cuts(text):
        guard = TextGuard(plan(kind, "block"))
        out = "".join([*map(guard.feed, chunks), guard.finish()])
        assert guard.is_blocked
        assert out == shown


@pytest.mark.parametrize("action", ["redact", "mask", "block"])
def test_a_run_of_600(action: str) -> None:
    """Longer than most windows: the whole of it goes."""
    made = plan("openai", cast("Action", action))
    secret = "sk-" + run(600)
    shown = {"redact": "x [SECRET] y", "mask": "x **** y", "block": "x "}[action]
    assert through(made, f"x {secret} y") == shown
    assert through(made, *f"x {secret} y") == shown


def test_within_a_run_of_600() -> None:
    """Forms of AWS and Google count wherever they stand."""
    text = f"{'a' * 300}{SECRETS['aws_access_key'][1]}{'a' * 280}"
    assert through(plan("aws_access_key"), *text) == f"{'a' * 300}[SECRET]{'a' * 280}"


HIDDEN = {
    "zero width": "\u200b",
    "soft hyphen": "\u00ad",
    "tags": "\U000e0041\U000e0042",
    "variation selector": "\ufe0f",
    "combining mark": "\u0336",
    "bidi": "\u202e",
    "joiner run": "\u200d" * 20,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_between_its_letters(name: str) -> None:
    secret = SECRETS["openai"][1]
    text = f"x {HIDDEN[name].join(secret)} y"
    assert through(plan("openai"), text) == "x [SECRET] y"
    assert through(plan("openai"), *text) == "x [SECRET] y"


def test_wide_letters() -> None:
    wide = "".join(chr(ord(one) + 0xFEE0) for one in SECRETS["github"][1])
    assert through(plan("github"), *f"x {wide} y") == "x [SECRET] y"


NOT_COVERED: dict[str, Callable[[str], str]] = {
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
    "percent": lambda secret: "".join(f"%{one:02X}" for one in secret.encode()),
    "reversed": lambda secret: secret[::-1],
    "spelt": " ".join,
    "emoji between": "👍".join,
    "homoglyphs": lambda secret: secret.replace("p", "р").replace("a", "а"),
    "tag letters": lambda secret: "".join(chr(0xE0000 + ord(one)) for one in secret),
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered(name: str) -> None:
    """The list of docs/guardrails-scanners.md: an entry that comes to be covered leaves it."""
    hidden = NOT_COVERED[name](SECRETS["github"][1])
    assert "[SECRET]" not in through(plan("github"), f"x {hidden} y")
