"""Write all mutants of some modules, one JSON object a line.

`python -m tests.mutation.draw FILE... [--sample N] [--seed N]`: of each file all, or N of them.

Runs in the side environment (`requirements.in`), which has cosmic-ray and none of the relay's
packages. Mutants are cosmic-ray's, and those of `operators.py`. Left out is what cannot be run, or
cannot matter: what is no Python, what reads as before, and what is in an annotation (they are never
evaluated here). A mutant is told as the lines that it replaces, which is all that differs.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import pickle
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutation.operators import OURS


def main() -> int:
    """Draw from the files that are named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.draw")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sample", type=int, default=sys.maxsize, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    sys.setrecursionlimit(20_000)
    for name in asked.files:
        chance = random.Random(f"{asked.seed} {name}")
        found = drawn(name, Path(name).read_text(), chance)
        for mutant in itertools.islice(found, asked.sample):
            sys.stdout.write(json.dumps(mutant) + "\n")
    return 0


class _Place(NamedTuple):
    """Where one mutant may be made: `nth` of those that the operator has for this node."""

    operator_name: str
    operator: Any
    occurrence: int
    path: tuple[int, ...]
    nth: int
    start: tuple[int, int]
    end: tuple[int, int]


def drawn(name: str, source: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    """All mutants of one file, in an order left to `chance`."""
    tree = get_ast(source)
    stored = pickle.dumps(tree)
    before = ast.parse(source)
    unchanged = ast.dump(before)
    places = list(_places(tree, list(_annotations(before))))
    chance.shuffle(places)
    for place in places:
        copy = pickle.loads(stored)
        mutated = _mutated(copy, place.path, place.operator, place.nth)
        try:
            if ast.dump(ast.parse(mutated)) == unchanged:
                continue
        except SyntaxError:
            continue
        yield {
            "module": name,
            "operator": place.operator_name.removeprefix("core/"),
            "occurrence": place.occurrence,
            "definition": ASTQuery(_at(tree, place.path)).get_definition_name(),
            "start": place.start,
            "end": place.end,
            **_difference(source, mutated),
        }


def _places(
    tree: Any, left_out: Sequence[tuple[tuple[int, int], tuple[int, int]]]
) -> Iterator[_Place]:
    paths = list(_paths(tree))
    for name, operator in _operators():
        occurrence = -1
        for path in paths:
            node = _at(tree, path)
            for index, (start, end) in enumerate(operator.mutation_positions(node)):
                occurrence += 1
                if not _is_bare_star(node) and not any(a <= start < b for a, b in left_out):
                    yield _Place(name, operator, occurrence, path, index, start, end)


def _operators() -> Iterator[tuple[str, Any]]:
    for name in operator_names():
        kind = get_operator(name)
        if not kind.arguments():  # those with arguments ask for names of variables
            yield name, kind()
    for name, ours in OURS.items():
        yield name, ours()


def _paths(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    for index, child in enumerate(getattr(tree, "children", ())):
        yield from _paths(child, (*path, index))


def _at(tree: Any, path: Iterable[int]) -> Any:
    for index in path:
        tree = tree.children[index]
    return tree


def _mutated(tree: Any, path: tuple[int, ...], operator: Any, index: int) -> str:
    mutated = operator.mutate(_at(tree, path), index)
    if not path:
        return str(mutated.get_code())
    siblings = _at(tree, path[:-1]).children
    siblings[path[-1] : path[-1] + 1] = [] if mutated is None else [mutated]
    return str(tree.get_code())


def _is_bare_star(node: Any) -> bool:
    """`def f(*, by_name)`, which cosmic-ray takes for a product."""
    return node.type == "operator" and node.parent.type in {"parameters", "lambdef"}


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where nothing is run: annotations, aliases of types, and what only type checkers import."""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            found = getattr(node, field, None)
            if found is not None:
                yield _span(found)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and _is_alias(statement.value):
            yield _span(statement.value)


def _is_alias(node: ast.expr) -> bool:
    """`A | B`, of types."""
    if isinstance(node, ast.BinOp):
        ours = isinstance(node.op, ast.BitOr)
        return ours and all(_is_type(side) or _is_alias(side) for side in (node.left, node.right))
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    return False


def _is_type(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    return isinstance(node, ast.Name) and not node.id.isupper()


def _span(node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _difference(source: str, mutated: str) -> dict[str, Any]:
    """The lines from `line` on that are other ones now."""
    old = source.splitlines(keepends=True)
    new = mutated.splitlines(keepends=True)
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return {
        "line": head + 1,
        "before": old[head : len(old) - tail],
        "after": new[head : len(new) - tail],
    }


if __name__ == "__main__":
    sys.exit(main())
