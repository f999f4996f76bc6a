"""Four times the text takes about four times as long, whatever the text and the scanner."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from relay.guardrails.normalise import folded
from relay.guardrails.scan import Scanner
from relay.guardrails.text_guard import TextGuard
from tests.fakes.properties import IS_FULL
from tests.guardrails.all_scanners import plan, scanners
from tests.guardrails.hostile_texts import HOSTILE, hostile

_CHARS = 16_000 if IS_FULL else 800
_NOISE_S = 0.004
_MOST_GROWTH = 9.0
"""Of time, where the text has grown by four: quadratic would be 16."""


def cpu_s(run: Callable[[], object]) -> float:
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def grows_linearly(run: Callable[[int], object]) -> None:
    for _ in range(3):
        small = min(cpu_s(lambda: run(_CHARS)) for _ in range(2))
        large = cpu_s(lambda: run(4 * _CHARS))
        if large < _NOISE_S or large < _MOST_GROWTH * small:
            return
    pytest.fail(f"{4 * _CHARS} characters took {large:.3f} s, {_CHARS} took {small:.3f} s")


@pytest.mark.parametrize("name", HOSTILE)
def test_guard(name: str) -> None:
    def run(chars: int) -> None:
        guard = TextGuard(plan())
        guard.feed(hostile(name, chars))
        guard.finish()

    run(_CHARS)  # the automaton's steps are made once
    grows_linearly(run)


@pytest.mark.parametrize("scanner", scanners(), ids=lambda one: one.name)
def test_scanner(scanner: Scanner) -> None:
    """By itself and over the whole text: what the guard spares it is not spared here."""
    for name in HOSTILE:
        texts = {n: folded(hostile(name, n), scanner.fold).text for n in (_CHARS, 4 * _CHARS)}
        if cpu_s(lambda texts=texts: scanner.find(texts[4 * _CHARS])) < _NOISE_S:  # type: ignore[misc]
            continue
        grows_linearly(lambda chars, texts=texts: scanner.find(texts[chars]))  # type: ignore[misc]


def test_a_test_that_can_fail() -> None:
    with pytest.raises(pytest.fail.Exception):
        # Without memory, whose pages cost what they like.
        grows_linearly(lambda chars: sum(1 for _ in range(chars * chars // 40)))
