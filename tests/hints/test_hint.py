"""How hints travel, and what is no hint."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.hints.allowance import Allowance
from relay.hints.hint import BadHint, Hint, HintKind, where
from tests.fakes.properties import examples

HINT = Hint("a/m", where("https://a.test"), HintKind.FAILING, "i_1", 7, 6.0)


@pytest.mark.parametrize("kind", HintKind)
def test_there_and_back(kind: HintKind) -> None:
    hint = Hint("a/m", "w", kind, "i_1", 7, 6.0)
    assert Hint.from_dict(orjson.loads(orjson.dumps(hint.to_dict()))) == hint


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"target": ""},
        {"target": "x" * 513},
        {"target": 3},
        {"where": None},
        {"kind": "dead"},
        {"kind": []},
        {"teller": "x" * 65},
        {"episode": -1},
        {"episode": 1.5},
        {"episode": 2**53},
        {"lasts_s": 31.0},
        {"lasts_s": -0.1},
        {"lasts_s": float("nan")},
        {"lasts_s": "6"},
    ],
)
def test_what_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(BadHint):
        Hint.from_dict({**HINT.to_dict(), **change})


@examples(200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
    | st.fixed_dictionaries({key: st.none() | st.integers() | st.text() for key in HINT.to_dict()})
)
def test_whatever_comes_is_a_hint_or_none(data: object) -> None:
    try:
        assert Hint.from_dict(data).to_dict()
    except BadHint:
        pass


def test_nothing_can_be_read_from_where() -> None:
    assert where("https://a.test") == where("https://a.test") != where("https://b.test")
    assert "a.test" not in where("https://a.test")


def test_an_allowance() -> None:
    one = Allowance(2.0, 4)
    assert [one.take(10.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [one.take(10.6) for _ in range(2)] == [True, False]
    assert [one.take(9.0) for _ in range(2)] == [False] * 2  # a clock that goes back gives nothing
    assert [one.take(100.0) for _ in range(5)] == [True] * 4 + [False]
