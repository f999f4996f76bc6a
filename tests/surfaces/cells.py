"""What the matrix asks in each cell: surface x provider wire x column."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from tests.surfaces.grpc_surfaces import Converse, Generate
from tests.surfaces.messages_surface import Messages
from tests.surfaces.openai_surfaces import Chat, Completions, Responses
from tests.surfaces.told import Surface
from tests.surfaces.wires import WIRES, ProviderWire

SURFACES: Final[tuple[Surface, ...]] = (
    Chat(is_stream=True),
    Chat(is_stream=False),
    Completions(is_stream=True),
    Completions(is_stream=False),
    Responses(is_stream=True),
    Responses(is_stream=False),
    Messages(is_stream=True),
    Messages(is_stream=False),
    Generate(),
    Converse(),
)

COLUMNS: Final = ("text", "tools", "parallel tools", "reasoning", "error", "cut stream", "order")


@dataclass(frozen=True)
class Cell:
    """One claim of the matrix."""

    surface: Surface
    wire: ProviderWire
    column: str

    @property
    def reason(self) -> str:
        """Why it is empty; empty where it is not."""
        return self.surface.lacks.get(self.column) or self.wire.lacks.get(self.column, "")

    @property
    def id(self) -> str:
        """For test names, and to find the cell's streams at the emulator."""
        words = f"{self.surface.name}-{self.wire.name}-{self.column}"
        return words.replace(", ", "_").replace(" ", "_")


CELLS: Final[tuple[Cell, ...]] = tuple(
    Cell(surface, wire, column) for surface, wire, column in product(SURFACES, WIRES, COLUMNS)
)
