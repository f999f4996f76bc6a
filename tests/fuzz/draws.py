"""Choices of a target that an input alone must decide: drawn from its checksum."""

from __future__ import annotations

import itertools
import random
import zlib

MAX_CUTS = 8


def draw_of(given: bytes) -> random.Random:
    """The same for the same input, in every process."""
    return random.Random(zlib.crc32(given))


def cut(body: bytes, draw: random.Random) -> list[bytes]:
    """The body in pieces, some perhaps empty."""
    cuts = sorted(draw.randrange(len(body) + 1) for _ in range(draw.randrange(MAX_CUTS)))
    borders = [0, *cuts, len(body)]
    return [body[at:to] for at, to in itertools.pairwise(borders)]
