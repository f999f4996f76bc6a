"""The cases in the order in which they run."""

from __future__ import annotations

from bench.peers.cases import capacity, client, cuts, goaway, idle, leaving, load, shapes
from bench.peers.cases.case import Case

# Breaks come last: a gateway may remember them against its provider.
CASES: dict[str, Case] = {
    "load": load,
    "client": client,
    "capacity": capacity,
    "shapes": shapes,
    "leaving": leaving,
    "idle": idle,
    "goaway": goaway,
    "cuts": cuts,
}
