"""What a row of the matrix is made of."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tls import CertAuthority


@dataclass
class Stage:
    """What a scenario has at hand; nothing of it is started."""

    seed: int
    tmp_path: Path
    authority: CertAuthority
    ca_file: str
    """PEM file of the authority, as providers' rows name it."""
    patch: pytest.MonkeyPatch
    """For environment variables and fault hooks of the scenario itself."""
    fixture: Callable[[str], Any]
    """Anything else by its name, `own_redis` say. Of a test without its loop: no async ones."""
    weakness: str = ""
    """Of a part whose relay is a process: what `tests.matrix.weakened` takes away there."""
    draw: random.Random = field(init=False)
    """Everything that the fault leaves open is drawn from this."""

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)


Play = Callable[[Stage], Awaitable[None]]
"""Injects the fault and asserts what is to come of it; leaves nothing running."""

Without = Callable[[pytest.MonkeyPatch], None]
"""Takes the defence away. The first line of its docstring says, in the table, what is taken."""


@dataclass(frozen=True)
class Part:
    """One scenario.

    Attributes:
        name: within its row.
        play: the scenario.
        without: takes the defence away, in this process.
        weakness: of a relay in a process of its own: name of one in `tests.matrix.weakened`.
        undefended: where neither is: why nothing of ours can be taken away.
        timeout_s: bound of one run.
        needs: programs without which it is skipped.
    """

    name: str
    play: Play
    without: Without | None = None
    weakness: str = ""
    undefended: str = ""
    timeout_s: float = 30.0
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = (self.without is not None) + bool(self.weakness) + bool(self.undefended)
        assert given == 1, f"{self.name}: one of without, weakness and undefended"


@dataclass(frozen=True)
class Row:
    """One kind of fault.

    Attributes:
        id: `U1`, `C17`, `P3`.
        inject: what goes wrong.
        client: what the client sees.
        accounting: what is booked.
        retry: what is tried again, and what never.
        parts: at least one, and at least one of them with a defence.
        also: ids of tests elsewhere that go deeper, `tests/x/test_y.py::test_z`.
    """

    id: str
    inject: str
    client: str
    accounting: str
    retry: str
    parts: tuple[Part, ...]
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.parts, self.id
        assert any(not part.undefended for part in self.parts), self.id
        names = [part.name for part in self.parts]
        assert len(set(names)) == len(names), self.id
