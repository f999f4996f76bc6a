"""The bench's tests need the machine for themselves, so they leave when xdist runs them.

python -m pytest tests/bench -p no:xdist
"""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "bench: measures; runs alone, never under xdist")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what measures in a worker of xdist: its neighbours would be measured too."""
    if not hasattr(config, "workerinput"):
        return
    measuring = [
        item for item in items if _HERE in item.path.parents and item.get_closest_marker("bench")
    ]
    if measuring:
        items[:] = [item for item in items if item not in measuring]
        config.hook.pytest_deselected(items=measuring)
