"""Every recorded or composed exchange of the corpus gives what the corpus expects, whole and cut.

The corpus is read in place (`RELAY_WIRE_CORPUS`, default beside the repository) and nothing of it
is copied here. `make corpus` prints the same as a table.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpus.error_classes import REASONS
from tests.corpus.harness import Difference, Wire
from tests.corpus.table import Outcome, report, wires_of
from tests.corpus.wires import WIRES
from tests.fakes.wire_corpus import ABSENT, Case, all_cases

pytestmark = pytest.mark.corpus

needs_corpus = pytest.mark.skipif(not all_cases(), reason=ABSENT)
CASES = 599


def parameters(check: str) -> list[Any]:
    found = [
        pytest.param(wire, case, id=f"{wire.name}-{case.name}")
        for wire in WIRES
        for case in wire.cases
        if check in dict(wire.checks(case))
    ]
    absent = pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")
    return found or [absent]


@pytest.mark.parametrize(("wire", "case"), parameters("expected"))
def test_case_gives_what_is_expected(wire: Wire, case: Case) -> None:
    wire.check(case)


@pytest.mark.parametrize(("wire", "case"), parameters("cuts"))
def test_case_is_the_same_however_it_is_cut(wire: Wire, case: Case) -> None:
    wire.check_cuts(case)


@pytest.mark.parametrize(("wire", "case"), parameters("borders"))
def test_stream_cut_at_a_border_fails_unless_it_had_ended(wire: Wire, case: Case) -> None:
    wire.check_borders(case)


@pytest.mark.parametrize(("wire", "case"), parameters("lane"))
def test_lane_for_text_loses_nothing(wire: Wire, case: Case) -> None:
    wire.check_lane(case)


# --- nothing is left out ------------------------------------------------------------------------


@needs_corpus
def test_every_case_is_of_a_wire() -> None:
    assert len(all_cases()) == CASES
    assert len({case.name for case in all_cases()}) == CASES
    assert [case.name for case in all_cases() if not wires_of(case)] == []


@needs_corpus
def test_only_errors_of_ollama_are_of_two_wires() -> None:
    twice = [case for case in all_cases() if len(wires_of(case)) > 1]
    assert {(case.provider, case.kind) for case in twice} == {("ollama", "error")}


@needs_corpus
def test_every_error_has_its_class() -> None:
    assert set(REASONS) == {case.name for case in all_cases() if case.error is not None}


def differences() -> list[Any]:
    return [
        pytest.param(wire, name, difference, id=name)
        for wire in WIRES
        for name, difference in wire.differences.items()
    ]


@needs_corpus
@pytest.mark.parametrize(("wire", "name", "difference"), differences())
def test_what_is_listed_differs(wire: Wire, name: str, difference: Difference) -> None:
    case = next(case for case in wire.cases if case.name == name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(wire), "differences", {})
        with pytest.raises((AssertionError, KeyError)):
            wire.check(case)


def test_table_counts_and_lists() -> None:
    text = report(
        [
            Outcome("p/a", "p", "error", (), ()),
            Outcome("p/b", "p", "error", ("w: cuts: at 3",), ()),
            Outcome("q/c", "q", "error", (), ("on purpose",)),
        ]
    )
    rows = [line.split() for line in text.splitlines()[1:4]]
    assert rows == [
        ["p", "error", "2", "1", "0"],
        ["q", "error", "1", "1", "1"],
        ["all", "3", "2", "1"],
    ]
    assert "p/b\n      w: cuts: at 3" in text
    assert "q/c\n      on purpose" in text
