"""Two kinds of mutants that cosmic-ray has not: what is left undone, and what is added wrongly.

In the side environment only (`requirements.in`), as `draw.py` is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import parso
from cosmic_ray.operators.operator import Example, Operator

Position = tuple[tuple[int, int], tuple[int, int]]

_AUGMENTED: Final = {
    "+=": "-=",
    "-=": "+=",
    "*=": "+=",
    "|=": "&=",
    "&=": "|=",
}


class LeaveOutCall(Operator):  # type: ignore[misc]
    """A statement that is a call and nothing else (awaited or not) is not made."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        if node.type in {"atom_expr", "power"} and node.parent.type == "simple_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return _in_place_of(node, "pass")

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return (Example("close(it)", "pass"), Example("await close(it)", "pass"))


class OppositeAugmented(Operator):  # type: ignore[misc]
    """What is added is taken away, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        if node.type == "operator" and node.value in _AUGMENTED:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return _in_place_of(node, _AUGMENTED[node.value])

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return (Example("open += 1", "open -= 1"),)


def _in_place_of(node: Any, text: str) -> Any:
    leaf = parso.parse(text).children[0]
    leaf.get_first_leaf().prefix = node.get_first_leaf().prefix
    return leaf


OURS: Final = {"ours/LeaveOutCall": LeaveOutCall, "ours/OppositeAugmented": OppositeAugmented}
