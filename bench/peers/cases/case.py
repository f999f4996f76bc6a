"""What a case is for whoever runs it: parts that are done one after the other and kept each.

A case is a module with these functions. What a part adds to the result stands for itself, so that a
run that was interrupted has all parts before that, and goes on with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bench.peers.rig import Options, PeerRig
from bench.result import CaseResult

WHOLE = "all"
"""The only part of a case that has one."""


class Case(Protocol):
    """See the module."""

    def parts(self, options: Options) -> Sequence[str]:
        """Their names, in the order in which they are done."""
        ...

    def seconds(self, options: Options, part: str, arms: int) -> float:
        """About how long a part takes with so many arms, the direct one among them."""
        ...

    def axes(self, rig: PeerRig) -> dict[str, Any]:
        """Of the result."""
        ...

    def run(self, rig: PeerRig, part: str, result: CaseResult) -> None:
        """Measure a part, into the result.

        Raises:
            BenchError: nothing more can be measured.
        """
        ...

    def finish(self, result: CaseResult) -> None:
        """Once all parts are there: what follows from several of them."""
        ...
