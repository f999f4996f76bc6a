"""Looking whether an expression explodes takes no long time itself, however fast the machine is."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from relay.config import redaction

SHORT = [length for length in redaction._LENGTHS if length <= 32]


@pytest.mark.parametrize("at", SHORT)
@pytest.mark.parametrize("base", [2.0, 1.6, 1.3])
def test_what_explodes_is_stopped_before_it_matters(
    monkeypatch: pytest.MonkeyPatch, base: float, at: int
) -> None:
    """An expression that is just quick enough at one length is the worst case for the next one."""
    quick_s = redaction._LIMIT_S / base**at
    spent_s = 0.0

    def took_s(pattern: re.Pattern[str], text: str) -> float:
        nonlocal spent_s
        one_s = quick_s * base ** (len(text) - 1)
        spent_s += one_s
        return one_s

    monkeypatch.setattr(redaction, "_took_s", took_s)
    with pytest.raises(ValueError, match="it would stop the relay"):
        redaction._is_quick(re.compile("(a+)+b"))
    assert spent_s < 2.0


def test_steps_are_small_while_time_may_double_with_each_character() -> None:
    assert all(later - sooner <= 4 for sooner, later in pairwise(SHORT))
