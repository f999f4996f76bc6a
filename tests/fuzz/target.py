"""A fuzz target for the reading half of each codec.

    python -m tests.fuzz.target WIRE [libFuzzer options] [directory for new inputs] [seeds ...]

The input is a body; recordings are seeds as they are. Status and cuts are drawn from the body's
checksum, so that an input alone says what happens. Held to: nothing is raised, the events keep what
`relay.content` promises of them, a body cut anywhere says the same as whole, and what is held of it
stays within its caps.
"""

from __future__ import annotations

import random
import sys
import zlib

import atheris

with atheris.instrument_imports(include=["relay"]):
    from relay.codecs.registry import BUILDERS

import itertools

from tests.fakes.collect import Collected, collect, run

STATUSES = (200, 200, 200, 200, 206, 302, 400, 429, 500)
MAX_CUTS = 8


def read(wire: str, pieces: list[bytes], status: int) -> Collected:
    """What the wire's codec makes of a body in pieces."""
    return collect(run(BUILDERS[wire]({}, "p")(), pieces, status=status))


def check(wire: str, body: bytes) -> None:
    """One input.

    Raises:
        AssertionError: a promise is broken. Any other exception is one as well.
    """
    draw = random.Random(zlib.crc32(body))
    status = draw.choice(STATUSES)
    whole = read(wire, [body], status)
    cuts = sorted(draw.randrange(len(body) + 1) for _ in range(draw.randrange(MAX_CUTS)))
    borders = [0, *cuts, len(body)]
    pieces = [body[at:to] for at, to in itertools.pairwise(borders)]
    assert read(wire, pieces, status) == whole, f"status {status}, cut at {cuts}"


def main() -> None:
    wire = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda body: check(wire, body))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
