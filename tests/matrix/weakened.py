"""`relay` with one of its defences taken away, for parts whose relay is a process of its own.

    python -m tests.matrix.weakened NAME serve -c relay.yaml

It is the `program` of a `tests.fakes.relay_process.RelayProcess`: `program(stage.weakness)`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from relay.cli import main
from tests.matrix.client.weaknesses import nobody_waits_in_line
from tests.matrix.links.weaknesses import WEAKNESSES as OF_LINKS
from tests.matrix.process.weaknesses import WEAKNESSES as OF_PROCESSES
from tests.matrix.row import Without

WEAKNESSES: dict[str, Without] = {
    **OF_LINKS,
    "nobody_waits_in_line": nobody_waits_in_line,
    **OF_PROCESSES,
}
"""By name; each takes its defence away in the process that it is called in."""


def program(weakness: str) -> Sequence[str]:
    """What Python runs as the `relay` command: the relay as it is, or with a weakness."""
    return ("-m", "tests.matrix.weakened", weakness) if weakness else ("-m", "relay.cli")


if __name__ == "__main__":
    WEAKNESSES[sys.argv.pop(1)](pytest.MonkeyPatch())
    main()
