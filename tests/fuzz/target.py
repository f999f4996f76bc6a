"""A fuzz target for the reading half of each codec.

    python -m tests.fuzz.target TARGET [libFuzzer options] [directory for new inputs] [seeds ...]

The input is a body; recordings are seeds as they are. Status and cuts are drawn from the body's
checksum, so that an input alone says what happens. Held to: nothing is raised, the events keep what
`relay.content` promises of them, a body cut anywhere says the same as whole, and what is held of it
stays within its caps.

Targets are wires, and Bedrock's frames around Claude's events. Where events come in frames an
input whose first byte is not 0 is put into them, line by line, a line's first byte saying which: no
fuzzer finds their checksums by itself.
"""

from __future__ import annotations

import random
import sys
import zlib

import atheris

with atheris.instrument_imports(include=["relay"]):
    from relay.codecs.registry import BUILDERS

import itertools
from typing import Any

from tests.fakes.collect import Collected, collect, run
from tests.fuzz.frames import framed

STATUSES = (200, 200, 200, 200, 206, 302, 400, 429, 500)
MAX_CUTS = 8


TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    **{wire: (wire, {}) for wire in BUILDERS},
    "bedrock_messages": ("anthropic_messages", {"framing": "aws_event_stream"}),
}
"""Wire and quirks by name."""


def read(target: str, pieces: list[bytes], status: int) -> Collected:
    """What the target's codec makes of a body in pieces."""
    wire, quirks = TARGETS[target]
    return collect(run(BUILDERS[wire](quirks, "p")(), pieces, status=status))


def check(target: str, given: bytes) -> None:
    """One input.

    Raises:
        AssertionError: a promise is broken. Any other exception is one as well.
    """
    body = framed(target, given)
    draw = random.Random(zlib.crc32(given))
    status = draw.choice(STATUSES)
    whole = read(target, [body], status)
    cuts = sorted(draw.randrange(len(body) + 1) for _ in range(draw.randrange(MAX_CUTS)))
    borders = [0, *cuts, len(body)]
    pieces = [body[at:to] for at, to in itertools.pairwise(borders)]
    assert read(target, pieces, status) == whole, f"status {status}, cut at {cuts}"


def main() -> None:
    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda body: check(target, body))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
