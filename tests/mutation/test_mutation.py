"""The machine that looks for mutants: it makes those that it says, and counts them."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.mutation import patch, plan
from tests.mutation.children import BROKEN, OVERDUE, Work, all_of, forked
from tests.mutation.plan import ROOT, Mutant
from tests.mutation.report import rows, survivors, table

SOURCE = """\
LIMIT = 5
USED_AT_IMPORT = 3


def wrapped(function):
    def inner(*given):
        return function(*given)

    return inner


class Shop:
    PRICE = 2

    def sum(self, count):
        return count + 1

    @property
    def most(self):
        return LIMIT

    @wrapped
    def dear(self, price, least=USED_AT_IMPORT):
        return price > least


def outer(number):
    def inner():
        return number - 1

    return inner()


async def later(number):
    return number * 2
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "mutated_shop.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("mutated_shop")
    sys.modules.pop("mutated_shop", None)


def functions() -> patch.Functions:
    return patch.Functions("mutated_shop.py", SOURCE)


@pytest.mark.parametrize(
    ("before", "after", "act", "was", "becomes"),
    [
        ("count + 1", "count - 1", lambda m: m.Shop().sum(5), 6, 4),
        ("price > least", "price >= least", lambda m: m.Shop().dear(3), False, True),
        ("number - 1", "number + 1", lambda m: m.outer(1), 0, 2),
        ("function(*given)", "not function(*given)", lambda m: m.Shop().dear(3), False, True),
        ("LIMIT = 5", "LIMIT = 6", lambda m: m.Shop().most, 5, 6),
    ],
)
def test_a_module_in_use_becomes_its_mutant(
    module: ModuleType,
    before: str,
    after: str,
    act: Callable[[Any], Any],
    was: Any,
    becomes: Any,
) -> None:
    made = functions()
    assert act(module) == was
    made.become(SOURCE.replace(before, after))
    assert act(module) == becomes


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("PRICE = 2", "PRICE = 3"),
        ("= 3\n", "= 4\n"),
        ("    @property\n", ""),
        ("least=", "least=1+"),
    ],
)
def test_what_is_run_at_import_is_imported_anew(before: str, after: str) -> None:
    with pytest.raises(patch.ImportedAnewError):
        functions().become(SOURCE.replace(before, after))


def test_imported_anew_it_is_its_mutant_from_the_first_line_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mutated_shop.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    changed = SOURCE.replace("PRICE = 2", "PRICE = 7")
    patch.Mutant("mutated_shop", str(path), changed).install()
    try:
        assert importlib.import_module("mutated_shop").Shop.PRICE == 7
    finally:
        sys.modules.pop("mutated_shop", None)


def _hang() -> str:
    while True:
        pass


def _fails() -> str:
    raise ValueError("wrong")


def _says(what: str) -> str:
    return what


def test_children_say_what_came_of_them_and_are_ended_in_time() -> None:
    acts: dict[str, Callable[[], str]] = {
        "a": functools.partial(_says, "yes"),
        "b": _fails,
        "c": _hang,
        "d": functools.partial(_says, "no"),
    }
    works = (
        Work(name, forked(act, 60.0), 1.0 if name == "c" else 60.0) for name, act in acts.items()
    )
    said = dict(all_of(works, 2))
    assert (said["a"], said["d"], said["c"]) == ("yes", "no", OVERDUE)
    assert said["b"].startswith(BROKEN)


def mutant(line: int, operator: str = "AddNot", before: str = "a\n", after: str = "b\n") -> Mutant:
    return Mutant("m.py", operator, 0, "f", (line, 0), line, (before,), (after,))


def test_a_mutant_is_its_lines_in_place_of_the_ones_of_before() -> None:
    assert mutant(2).applied("x\na\ny\n") == "x\nb\ny\n"
    with pytest.raises(AssertionError):
        mutant(1).applied("x\na\n")


def test_scores_are_of_what_can_be_killed_and_told_with_the_rest_too() -> None:
    known = [mutant(line, before=f"{line}\n") for line in range(1, 9)]
    known.append(mutant(9, "ours/LeaveOutCall", before="9\n"))
    outcomes = {one.key: {"outcome": "killed"} for one in known}
    outcomes[known[0].key] = {"outcome": "timeout"}
    outcomes[known[1].key] = {"outcome": "survived"}
    outcomes[known[2].key] = {"outcome": "untested"}
    outcomes[known[3].key] = {"outcome": "broken"}
    found = rows(plan.Group("g", ("m.py",), ()), known, outcomes, {known[1].text})
    group, of_module = found
    assert (group.is_group, of_module.is_group) == (True, False)
    assert (group.mutants, group.killed, group.survived, group.equivalent) == (9, 6, 2, 1)
    assert group.percent == 75.0
    assert group.percent_of_all == pytest.approx(100 * 6 / 9)
    assert group.percent_cosmic == pytest.approx(100 * 5 / 8)
    assert "| **g** | 9 | 6 | 2 | 1 | 75.0 % | 66.7 % | 62.5 % |" in table(found)
    told = survivors(known, outcomes, {known[1].text})
    assert told.count(" AddNot") == 2


def test_all_that_is_named_is_there_and_what_is_equivalent_has_its_line() -> None:
    """A line that has changed since has to be thought about again."""
    for group in plan.groups().values():
        for path in (*group.modules, *group.tests):
            assert (ROOT / path).exists(), path
        assert len(set(group.tests)) == len(group.tests)
    texts: dict[str, str] = {}
    for module, where, before, _ in plan.equivalents():
        text = texts.setdefault(module, " ".join((ROOT / module).read_text().split()))
        assert before in text, (module, before)
        assert f"def {where}(" in text, (module, where)


def test_mutants_are_read_as_they_were_written() -> None:
    one = mutant(3)
    fields = json.loads(
        json.dumps({name: getattr(one, name) for name in Mutant.__dataclass_fields__})
    )
    assert Mutant.read(fields) == one
